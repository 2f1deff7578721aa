"""Rules of modules that are followed from outside, because their inside computes with numbers of their own.

Told by the import path of the class that defines their forward, so that no toolbox need be installed.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping
from typing import TYPE_CHECKING, Any

from torch import nn

from mmsharp.pruning.layers.regions import is_roi_extractor
from mmsharp.pruning.tracing.calls import FIXED, tie_all

if TYPE_CHECKING:
    from mmsharp.pruning.tracing import ChannelTrace

ModuleRule = Callable[['ChannelTrace', str, Mapping[str, Any], Any], None]
"""``rule(trace, path of the module, its forward's arguments by name, its result)``."""


def module_rule(module: nn.Module) -> ModuleRule | None:
    """The rule of a module, if it has one.

    Example:
        >>> module_rule(nn.Linear(1, 1)) is None
        True
    """
    return _roi_extractor if is_roi_extractor(module) else None


def _roi_extractor(trace: ChannelTrace, path: str, arguments: Mapping[str, Any], result: Any) -> None:
    """``out[r, c] = pooled x_level(r)[c]``: the channels of all levels are the same, and so is ``out_channels``.

    Regions are written into zeros of ``out_channels`` channels, and levels without regions are summed up and multiplied
    by 0; seen from inside, both would pin the channels.
    """
    levels = [trace.axes(level) for level in arguments['feats']]
    trace.pin_tensors([arguments['rois']], 'channels are read as places')
    for axes in levels:
        for labels in (axes[0], *axes[2:]):
            trace.labels.pin(labels, trace.because('channels lie along the image'))
    sides = [trace.layer_axes.get((path, 'out')), *(axes[1] for axes in levels)]
    trace.set_axes(result, [None, tie_all(trace, sides, f'extraction of regions {FIXED}'), None, None])
