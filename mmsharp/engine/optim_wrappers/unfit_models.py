"""Models on which a second pass would go wrong unnoticed, refused with what to do instead."""

from __future__ import annotations

from torch import nn
from torch.nn.parallel import DistributedDataParallel

from mmsharp.engine.model_access.inner_model import inner_model
from mmsharp.errors import MmsharpError
from mmsharp.type_names import class_names


def refuse_static_graph(model: nn.Module) -> None:
    """Refuse DDP's static graph, which expects the backward pass that a first pass does not make.

    Raises:
        MmsharpError: With what to do instead.

    Example:
        >>> refuse_static_graph(nn.Linear(1, 1))
    """
    if isinstance(model, DistributedDataParallel) and model.static_graph:
        raise MmsharpError(
            'static_graph=True of DistributedDataParallel does not allow for the two passes of a sharpness-aware step; '
            'remove it from model_wrapper_cfg'
        )


def refuse_unfit(model: nn.Module) -> None:
    """Refuse a model that is compiled as a whole step, or sharded, or a part of one that has no loss.

    Raises:
        MmsharpError: With what to do instead.

    Example:
        >>> refuse_unfit(nn.Linear(1, 1))
        Traceback (most recent call last):
        mmsharp.errors.MmsharpError: optim_context was given a Linear, which has no parse_losses; ...
    """
    if not hasattr(inner_model(model), 'parse_losses'):
        raise MmsharpError(
            f'optim_context was given a {type(inner_model(model)).__name__}, which has no parse_losses; give it the '
            'whole model, a BaseModel of MMEngine whose forward returns losses'
        )
    if any('FullyShardedDataParallel' in name for name in class_names(model)):
        raise MmsharpError(
            f'{type(model).__name__} keeps a piece of each parameter per process, and an ascent needs norms of '
            'whole ones; train with MMDistributedDataParallel'
        )
    for part in (model, inner_model(model)):
        if hasattr(vars(part).get('train_step'), '_torchdynamo_orig_callable'):
            raise MmsharpError(
                'compile=True compiles train_step as a whole, out of which the sharpness-aware wrapper cannot repeat '
                'the forward pass; set compile=False, or compile the model itself in your code'
            )
