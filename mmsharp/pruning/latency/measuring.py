"""Measure a latency table: every layer alone on a grid of sizes, then whole networks to fit what lies between."""

from __future__ import annotations

import itertools
import math
from collections.abc import Callable, Mapping, Sequence
from typing import Any

import numpy as np
import torch
from torch import Tensor, nn

from mmsharp.errors import MmsharpError, one_line
from mmsharp.pruning.allocation import Limits
from mmsharp.pruning.costs.axis_sizes import AxisName, AxisSizes
from mmsharp.pruning.costs.complexity import time_in_turns
from mmsharp.pruning.forwards import Forward, looked_at
from mmsharp.pruning.forwards.model_copies import model_copy
from mmsharp.pruning.groups import GroupSet
from mmsharp.pruning.groups.masks import ChannelMasks
from mmsharp.pruning.latency.calibration import calibrate
from mmsharp.pruning.latency.engines import Engine
from mmsharp.pruning.latency.layer_calls import LayerCalls, layer_calls, timed_share
from mmsharp.pruning.latency.table import LatencyTable, LayerTable
from mmsharp.pruning.slimming import apply_recipe

STEP = 8
"""Sizes of the grid are multiples of this, as pruned ones are by default, where an axis is wide enough."""
EVEN_SHARES = (1.0, 0.75, 0.5, 0.25)
"""Kept shares of the networks, cut evenly, that the coefficients are fitted to."""
RANDOM_FITTED, RANDOM_CHECKED = 2, 4
"""Networks with a random share per group: some to fit to, others that say how good the prediction is."""
NETWORK_ROUNDS = 3
"""Rounds over networks per round over a layer's points: fewer things are timed, and all depends on them."""

Progress = Callable[[int, int, str], None]
"""Told how many of how many steps are done, and at what."""


def measure_latency_table(
    model: nn.Module,
    forward: Forward,
    groups: GroupSet,
    engine: Engine,
    points: int = 6,
    repeats: int = 10,
    seed: int = 0,
    progress: Progress = lambda done, total, what: None,
) -> LatencyTable:
    """A table of all timed layers, calibrated, with the prediction errors on networks that it was not fitted to.

    Layers that are built and called alike are timed once. All points of a layer, and all networks, are timed in turns,
    so that whatever else the machine does meets them alike, and the shortest times are taken, since it can only
    lengthen them; what noise is left is evened out so that no layer gets faster when it grows.

    Args:
        model: The dense model, on the device and in the form to be timed; left bitwise as it was.
        forward: Runs it at the size and batch that count.
        groups: Its groups: only their axes are varied.
        engine: Runs what is timed.
        points: Sizes per axis, at least 2.
        repeats: Timed rounds, at least 1.
        seed: Of the random networks.
        progress: Called before every step.

    Returns:
        The table. ``about['networks']`` holds measured and predicted seconds of every network and whether it was fitted
        to; ``about['error']`` the median of ``|predicted / measured - 1|`` over those that were not;
        ``about['timed_share']`` the share of the multiply-accumulates that the timed layers do. What others do enters
        by the fitted coefficients alone: products between queries and keys, the weights of ``nn.MultiheadAttention``
        and of attention that hands its queries' weights to a function (Swin V2, BEiT), deformable convolutions.

    Raises:
        MmsharpError: ``points`` or ``repeats`` is too small, or the forward calls no layer that can be timed.
    """
    for name, value, least in (('points', points, 2), ('repeats', repeats, 1)):
        if isinstance(value, bool) or not isinstance(value, int) or value < least:
            raise MmsharpError(f'measure_latency_table: {name} is {value!r}, expected an integer from {least}')
    calls = layer_calls(model, forward)
    if not calls:
        raise MmsharpError(f'{type(model).__name__}: its forward calls no convolution and no linear layer')
    sizes = AxisSizes(model, groups)
    alike: dict[tuple[Any, ...], list[str]] = {}
    grids = {path: _grid(path, layer, sizes.names, points) for path, layer in calls.items()}
    for path, layer in calls.items():
        alike.setdefault((layer.signature, *grids[path].items()), []).append(path)
    total = len(alike) + 1
    layers: dict[str, LayerTable] = {}
    for number, paths in enumerate(alike.values()):
        first = calls[paths[0]]
        progress(number, total, paths[0])
        seconds = _time_layer(first, grids[paths[0]], engine, repeats)
        layers.update({path: LayerTable(first.kind, grids[path], seconds, calls[path].elements) for path in paths})
    progress(total - 1, total, 'whole networks')
    table = LatencyTable({path: layers[path] for path in calls}, about={'timed_share': timed_share(model, forward)})
    return _calibrated(table, model, forward, groups, sizes, engine, repeats, seed)


def _grid(path: str, layer: LayerCalls, varied: set[AxisName], points: int) -> dict[str, tuple[int, ...]]:
    """Sizes to time per axis: evenly spread multiples up to the dense size, which alone stands where nothing varies."""
    grid = {}
    for name, size in layer.dense.items():
        multiple = layer.multiple(name)
        step = math.lcm(STEP, multiple) if size > 2 * STEP else multiple
        count = points if (path, name) in varied else 1
        chosen = {min(size, math.ceil(size * (number + 1) / count / step) * step) for number in range(count)}
        if count > 1:
            chosen.add(min(size, step))
        grid[name] = tuple(sorted(chosen))
    return grid


def _time_layer(layer: LayerCalls, grid: Mapping[str, tuple[int, ...]], engine: Engine, repeats: int) -> Any:
    """Seconds of all calls of a layer over its grid, as nested lists."""
    timed = []
    for sizes in itertools.product(*grid.values()):
        cut = layer.cut(dict(zip(grid, sizes)))
        timed.append([engine.layer(cut, layer.inputs(shape, cut)) for shape in layer.shapes])
    taken = time_in_turns([call for calls in timed for call in calls], repeats, statistic=min)
    counts = np.cumsum([0, *map(len, timed)])
    sums = [sum(taken[begin:end]) for begin, end in itertools.pairwise(counts.tolist())]
    return never_falling(np.array(sums).reshape([len(sizes) for sizes in grid.values()])).tolist()


def never_falling(seconds: np.ndarray) -> np.ndarray:
    """Even out noise: along every axis the mean of the largest so far and the smallest to come.

    Example:
        >>> never_falling(np.array([1.0, 3.0, 2.0, 4.0])).tolist()
        [1.0, 2.5, 2.5, 4.0]
    """
    for axis in range(seconds.ndim):
        above = np.maximum.accumulate(seconds, axis=axis)
        below = np.flip(np.minimum.accumulate(np.flip(seconds, axis), axis=axis), axis)
        seconds = (above + below) / 2
    return seconds


def _calibrated(
    table: LatencyTable,
    model: nn.Module,
    forward: Forward,
    groups: GroupSet,
    sizes: AxisSizes,
    engine: Engine,
    repeats: int,
    seed: int,
) -> LatencyTable:
    generator = torch.Generator().manual_seed(seed)
    shares = [[share] * len(groups.groups) for share in EVEN_SHARES]
    for _ in range(RANDOM_FITTED + RANDOM_CHECKED):
        shares.append((0.2 + 0.8 * torch.rand(len(groups.groups), generator=generator)).tolist())
    kept = [_keep(groups, share) for share in shares]
    runs = [engine.network(_slim(model, groups, keep), forward) for keep in kept]
    with looked_at(model):
        seconds = time_in_turns(runs, NETWORK_ROUNDS * repeats, statistic=min)
    measured = [sizes(keep) for keep in kept]
    fitted = len(EVEN_SHARES) + RANDOM_FITTED
    table = calibrate(table, measured[:fitted], seconds[:fitted])
    predicted = [table.seconds(each) for each in measured]
    errors = [abs(one / other - 1) for one, other in zip(predicted[fitted:], seconds[fitted:])]
    table.about.update(  # type: ignore[attr-defined]
        networks=[
            dict(measured=one, predicted=other, fitted=number < fitted)
            for number, (one, other) in enumerate(zip(seconds, predicted))
        ],
        error=float(np.median(errors)),
    )
    return table


def _keep(groups: GroupSet, shares: Sequence[float]) -> list[Tensor]:
    limits = Limits(round_to=STEP)
    return [
        torch.arange(group.channels) < limits.allowed(math.ceil(share * group.channels), group.channels, group.width)
        for share, group in zip(shares, groups.groups)
    ]


def _slim(model: nn.Module, groups: GroupSet, keep: Sequence[Tensor]) -> nn.Module:
    slim = model_copy(model)
    masks = ChannelMasks(groups, keep)
    try:
        apply_recipe(slim, masks.recipe(slim))
    except MmsharpError as error:
        raise MmsharpError(f'a slim {type(model).__name__} cannot be made to be timed: {one_line(error)}') from error
    return slim
