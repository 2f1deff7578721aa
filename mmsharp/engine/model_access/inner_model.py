"""The model inside the wrappers of distributed training and of test-time augmentation."""

from __future__ import annotations

from mmengine.model import BaseTTAModel, is_model_wrapper
from torch import nn


def inner_model(model: nn.Module) -> nn.Module:
    """``model.module`` of a registered model wrapper or a model of test-time augmentation, another model itself.

    Example:
        >>> inner_model(nn.Linear(1, 1))
        Linear(in_features=1, out_features=1, bias=True)
    """
    while is_model_wrapper(model) or isinstance(model, BaseTTAModel):
        model = model.module  # type: ignore[assignment]
    return model
