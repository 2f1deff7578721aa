"""What the layers of a network are: which dimension of which tensor is an axis of channels."""

from mmsharp.pruning.layers.table import (
    KEPT_STATISTICS,
    KIND_BY_NAME,
    PARAMETER_AXIS,
    PARAMETERS,
    WITHOUT_SLIM_FORM,
    axis_size,
    foreign_layers,
    layer_kind,
    layer_tensors,
    prunable_layers,
    set_axis_size,
    why_foreign,
)

__all__ = [
    'KEPT_STATISTICS',
    'KIND_BY_NAME',
    'PARAMETERS',
    'PARAMETER_AXIS',
    'WITHOUT_SLIM_FORM',
    'axis_size',
    'foreign_layers',
    'layer_kind',
    'layer_tensors',
    'prunable_layers',
    'set_axis_size',
    'why_foreign',
]
