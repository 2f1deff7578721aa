"""Modules that cut regions out of feature maps, told by the import path of the class that defines their forward."""

from __future__ import annotations

from torch import nn

from mmsharp.pruning.layers.kinds import defines_forward

_is_single_level = defines_forward(
    'mmdet.models.roi_heads.roi_extractors.single_level_roi_extractor.SingleRoIExtractor'
)


def is_roi_extractor(module: nn.Module) -> bool:
    """Whether a module is mmdet's extractor of one pyramid level per region, with layers that have no weights.

    Example:
        >>> is_roi_extractor(nn.Linear(1, 1))
        False
    """
    return _is_single_level(module) and next(module.parameters(), None) is None
