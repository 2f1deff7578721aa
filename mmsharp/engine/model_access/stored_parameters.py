"""Parameters as checkpoints name them."""

from __future__ import annotations

from torch import nn


def stored_parameters(model: nn.Module) -> dict[str, nn.Parameter]:
    """The parameters by their keys in the state dict, one that has several names once.

    These are the names of ``named_parameters`` but where a model renames what it saves, as ``TimmClassifier`` and
    ``HuggingFaceClassifier`` of mmpretrain do, or saves a part of it.

    Example:
        >>> [*stored_parameters(nn.Linear(2, 3))]
        ['weight', 'bias']
    """
    found = {name: value for name, value in model.state_dict(keep_vars=True).items() if isinstance(value, nn.Parameter)}
    first = {id(value): name for name, value in reversed(found.items())}
    return {name: value for name, value in found.items() if first[id(value)] == name}
