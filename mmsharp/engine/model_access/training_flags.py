"""Detectors in training mode as far as their losses need it, while the network stays the one that is evaluated."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from contextlib import contextmanager, nullcontext

from torch import Tensor, nn
from torch.nn import functional

from mmsharp.type_names import class_names

DETECTOR = 'BaseDetector'
"""MMDetection's class of all detectors."""
EVALUATED = ('Drop', 'Norm')
"""What names of classes of layers hold that have to stay in evaluation mode."""


@contextmanager
def detectors_in_training(model: nn.Module) -> Iterator[None]:
    """Inside, MMDetection's detectors compute what their losses are made of, and no layer acts otherwise than before.

    In evaluation mode some detectors give their heads less than the losses take (Deformable DETR, DINO), or boxes in
    pixels where the losses take strides (FCOS). Layers of torch, those that normalise and those that drop keep their
    mode, and torch's functions that drop do nothing. So do classifiers: their losses exist in evaluation mode, and for
    some (DeiT, distilled) only there.

    Args:
        model: A model that is, or holds, a detector; any other is left alone.

    Example:
        >>> class BaseDetector(nn.Module):
        ...     def __init__(self):
        ...         super().__init__()
        ...         self.dropout = nn.Dropout()
        >>> model = BaseDetector().eval()
        >>> with detectors_in_training(model):
        ...     print(model.training, model.dropout.training)
        True False
        >>> model.training
        False
    """
    detectors = [module for module in model.modules() if DETECTOR in class_names(module)]
    found = [module for detector in detectors for module in detector.modules() if not _stays(module)]
    flags = [(module, module.training) for module in found]
    try:
        for module, _ in flags:
            module.training = True
        with _functions_that_drop_nothing() if detectors else nullcontext():
            yield
    finally:
        for module, flag in flags:
            module.training = flag


@contextmanager
def _functions_that_drop_nothing() -> Iterator[None]:
    before = {name: getattr(functional, name) for name in dir(functional) if name.endswith('dropout')}
    before |= {name: getattr(functional, name) for name in ('dropout1d', 'dropout2d', 'dropout3d')}
    for name, function in before.items():
        setattr(functional, name, _dropping_nothing(function))
    try:
        yield
    finally:
        for name, function in before.items():
            setattr(functional, name, function)


def _dropping_nothing(function: Callable[..., Tensor]) -> Callable[..., Tensor]:
    def of(input: Tensor, p: float = 0.5, training: bool = True, inplace: bool = False) -> Tensor:
        return function(input, p, False, inplace)

    return of


def _stays(module: nn.Module) -> bool:
    if type(module).__module__.startswith('torch.nn.'):
        return True
    return any(word in name for name in class_names(module) for word in EVALUATED)
