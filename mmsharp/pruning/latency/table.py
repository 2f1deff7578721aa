"""A latency table: how long each layer of a model takes on a device, by the sizes of its axes.

Measured once on the user's device by ``tools/analysis_tools/latency_table.py``, read wherever the model is pruned. The
file is JSON that may come from anyone: it is checked in full on the way in.
"""

from __future__ import annotations

import itertools
import logging
import math
import os
import sys
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from functools import lru_cache
from pathlib import Path
from typing import Any

import numpy as np
from mmengine.logging import print_log
from torch import Tensor, nn

from mmsharp.errors import MmsharpError, shown
from mmsharp.files import check_keys, read_json, write_json
from mmsharp.pruning.costs.axis_sizes import AxisName
from mmsharp.pruning.forwards import Forward
from mmsharp.pruning.latency.layer_calls import layer_calls
from mmsharp.pruning.layers import KIND_BY_NAME, axis_size, prunable_layers

FORMAT = 'mmsharp.latency_table'
VERSION = 1
MAX_BYTES = 64 * 2**20
MAX_SIZE = 2**24
MAX_ELEMENTS = 2**53
"""Larger integers are no longer exact as floating-point numbers, in which times are computed."""
ADVICE = (
    'measure one on the device that the model is for: '
    'python tools/analysis_tools/latency_table.py CONFIG --shape HEIGHT WIDTH --out FILE'
)


@dataclass(frozen=True)
class LayerTable:
    """Seconds of one layer, summed over its calls in a forward, on a grid of the sizes of its axes.

    Args:
        kind: Name of its row in the table of prunable layers.
        axes: Per axis the measured sizes, rising; the last is the dense one.
        seconds: Nested lists, one depth per axis; never falling along any axis.
        elements: Numbers that the layer gives per channel of its first axis, over all its calls.

    Example:
        >>> layer = LayerTable('Linear', {'out': (8, 16), 'in': (4, 8)}, [[1.0, 2.0], [2.0, 4.0]], 1)
        >>> layer.at((12, 8)), layer.at((16, 6)), layer.at((2, 4))
        (3.0, 3.0, 1.0)
    """

    kind: str
    axes: Mapping[str, tuple[int, ...]]
    seconds: Any
    elements: int

    def at(self, sizes: Sequence[int]) -> float:
        """Seconds at these sizes: linear between neighbours along every axis, constant below the smallest."""
        return _interpolate(list(self.axes.values()), self.seconds, sizes)

    @property
    def dense(self) -> dict[str, int]:
        """The dense size of each axis."""
        return {name: sizes[-1] for name, sizes in self.axes.items()}


@dataclass(frozen=True)
class LatencyTable:
    """Predicts the latency of a slim model from the sizes of its layers.

    ``seconds(sizes) = scale * sum_l table_l(sizes of l) + per_element * sum_l elements_l(sizes) + constant``,
    where the sums go over convolutions and linear layers that are called as modules. The first term is what those
    layers take alone; the others stand for all that is between them (normalisation, activations, additions, copies,
    calls, products between queries and keys, weights handed to a function as in ``nn.MultiheadAttention``, deformable
    convolutions) and are fitted to whole networks by :func:`mmsharp.pruning.latency.calibrate`. No coefficient is
    negative and no layer gets faster when it grows, so that the prediction never rises when a channel goes.

    Args:
        layers: By module path.
        scale: Seconds in a network per second alone.
        per_element: Seconds per number that a layer gives.
        constant: Seconds that no channel changes.
        about: Where and how it was measured, in JSON types; not interpreted.

    Raises:
        MmsharpError: On :meth:`load` and :meth:`from_dict`, anything is not as :meth:`to_dict` writes it.

    Example:
        >>> layer = LayerTable('Linear', {'out': (8, 16)}, [1.0, 2.0], 5)
        >>> table = LatencyTable({'fc': layer}, scale=2.0, per_element=0.1, constant=1.0)
        >>> table.seconds({}), table.seconds({('fc', 'out'): 8})
        (13.0, 7.0)
        >>> LatencyTable.from_dict(table.to_dict()).to_dict() == table.to_dict()
        True
    """

    layers: Mapping[str, LayerTable]
    scale: float = 1.0
    per_element: float = 0.0
    constant: float = 0.0
    about: Mapping[str, Any] = field(default_factory=dict)

    def __post_init__(self) -> None:
        object.__setattr__(self, '_at', lru_cache(maxsize=2**16)(lambda path, sizes: self.layers[path].at(sizes)))

    def features(self, sizes: Mapping[AxisName, int]) -> tuple[float, float]:
        """The two sums: seconds of the layers alone, and numbers that they give.

        Args:
            sizes: Kept sizes by module path and axis; axes that are not named are dense.
        """
        alone, elements = 0.0, 0
        for path, layer in self.layers.items():
            here = tuple(sizes.get((path, name), measured[-1]) for name, measured in layer.axes.items())
            alone += self._at(path, here)  # type: ignore[attr-defined]
            elements += layer.elements * here[0]
        return alone, elements

    def seconds(self, sizes: Mapping[AxisName, int]) -> float:
        """Predicted seconds of one forward; see :meth:`features` for ``sizes``."""
        alone, elements = self.features(sizes)
        return self.scale * alone + self.per_element * elements + self.constant

    def check_fits(self, model: nn.Module, forward: Forward | None = None) -> None:
        """Whether the table was measured for this model; warns where it was measured on images of another shape.

        Args:
            model: The dense model.
            forward: One forward: each layer that it calls and that could have been timed has to be in the table, for
                otherwise it would cost nothing. Without it only the table's own layers are looked for.

        Raises:
            MmsharpError: A layer is missing here or there, of another kind or of another size; the message says which.
        """
        layers = prunable_layers(model)
        for path, layer in self.layers.items():
            module, kind = layers.get(path, (None, None))
            if module is None or kind is None or kind.name != layer.kind:
                found = 'no such layer' if kind is None else f'a {kind.name}'
                raise MmsharpError(f'latency table, layer {path!r}: expected a {layer.kind}, found {found}; {ADVICE}')
            for name, expected in layer.dense.items():
                axis = kind.axis(name)
                size = None if axis is None else axis_size(module, axis)
                if size != expected:
                    raise MmsharpError(
                        f'latency table, layer {path!r}: expected {name} of {expected}, found {size}; it belongs to '
                        f'another model, {ADVICE}'
                    )
        if forward is not None:
            missing = [path for path in layer_calls(model, forward) if path not in self.layers]
            if missing:
                raise MmsharpError(
                    f'latency table: it has no times of layer {missing[0]!r}, and of {len(missing)} layers in all that '
                    f'this {type(model).__name__} calls; it belongs to another model, {ADVICE}'
                )
            self._compare_shapes(getattr(forward, 'inputs', None))

    def _compare_shapes(self, inputs: Any) -> None:
        """Warn of images of another shape; how many of them there are at once in training says nothing."""
        measured = self.about.get('input_shape')
        if not isinstance(inputs, Tensor) or not isinstance(measured, (list, tuple)):
            return
        here = list(inputs.shape)
        if all(isinstance(size, int) for size in measured) and list(measured[1:]) != here[1:]:
            print_log(
                f'the latency table was measured at an input shape of {list(measured)}, and the model is pruned at '
                f'{here}: the budget is met for the former; {ADVICE} at the shape that the model is for',
                'current',
                logging.WARNING,
            )

    def to_dict(self) -> dict[str, Any]:
        """The table in JSON types."""
        return {
            'format': FORMAT,
            'version': VERSION,
            'about': dict(self.about),
            'scale': self.scale,
            'per_element': self.per_element,
            'constant': self.constant,
            'layers': {
                path: {
                    'type': layer.kind,
                    'axes': {name: list(sizes) for name, sizes in layer.axes.items()},
                    'seconds': np.asarray(layer.seconds, dtype=float).tolist(),
                    'elements': layer.elements,
                }
                for path, layer in self.layers.items()
            },
        }

    @classmethod
    def from_dict(cls, data: Any) -> LatencyTable:
        """Read and check a table in JSON types."""
        check_keys(data, 'latency table', {'format', 'version', 'about', 'scale', 'per_element', 'constant', 'layers'})
        if data['format'] != FORMAT:
            raise MmsharpError(f'latency table: format is {shown(data["format"])}, expected {FORMAT!r}')
        version = data['version']
        if isinstance(version, bool) or not isinstance(version, int) or version < 1:
            raise MmsharpError(f'latency table: version is {shown(version)}, expected {VERSION}')
        if version > VERSION:
            raise MmsharpError(
                f'latency table: version {shown(version)} is newer than {VERSION}, which this mmsharp reads; upgrade it'
            )
        for name in ('about', 'layers'):
            if not isinstance(data[name], Mapping):
                raise MmsharpError(f'latency table: {name} is a {type(data[name]).__name__}, expected a mapping')
        if not data['layers']:
            raise MmsharpError('latency table: it has no layers')
        numbers = {name: _number(data[name], name) for name in ('scale', 'per_element', 'constant')}
        table = cls(
            {path: _layer(path, layer) for path, layer in data['layers'].items()}, **numbers, about=dict(data['about'])
        )
        dense = table.seconds({})
        if not math.isfinite(dense):
            raise MmsharpError('latency table: the times of its layers have no finite sum')
        if not dense > 0:
            raise MmsharpError('latency table: the dense model takes no time in it')
        return table

    def save(self, path: str | os.PathLike[str]) -> None:
        """Write the table as JSON; the file is either whole or not there."""
        write_json(path, self.to_dict())

    @classmethod
    def load(cls, path: str | os.PathLike[str]) -> LatencyTable:
        """Read and check a file."""
        if Path(path).is_file() and Path(path).stat().st_size > MAX_BYTES:
            raise MmsharpError(f'{os.fspath(path)!r}: larger than {MAX_BYTES} bytes, which no latency table is')
        data = read_json(path, ADVICE)
        try:
            return cls.from_dict(data)
        except MmsharpError as error:
            raise MmsharpError(f'{os.fspath(path)!r}: {error}') from None


def _interpolate(grid: Sequence[Sequence[int]], seconds: Any, at: Sequence[int]) -> float:
    if not grid:
        return float(seconds)
    return float(np.interp(at[0], grid[0], [_interpolate(grid[1:], part, at[1:]) for part in seconds]))


def _layer(path: Any, data: Any) -> LayerTable:
    if not isinstance(path, str):
        raise MmsharpError(f'latency table: layer path {shown(path)} is no string')
    what = f'latency table, layer {shown(path)}'
    check_keys(data, what, {'type', 'axes', 'seconds', 'elements'})
    kind = KIND_BY_NAME.get(data['type']) if isinstance(data['type'], str) else None
    if kind is None or not isinstance(data['axes'], Mapping) or not data['axes']:
        raise MmsharpError(f'{what}: type {shown(data["type"])} with axes {shown(data["axes"])} is unknown')
    axes = {}
    for name, sizes in data['axes'].items():
        if name not in kind.axes:
            raise MmsharpError(f'{what}: a {kind.name} has no axis {shown(name)}; accepted: {", ".join(kind.axes)}')
        if (
            not isinstance(sizes, (list, tuple))
            or not sizes
            or not all(_is_integer(size, 1, MAX_SIZE) for size in sizes)
            or any(one >= two for one, two in itertools.pairwise(sizes))
        ):
            raise MmsharpError(
                f'{what}: sizes of {name!r} are {shown(sizes)}, expected rising positive integers up to {MAX_SIZE}'
            )
        axes[name] = tuple(sizes)
    shape = tuple(len(sizes) for sizes in axes.values())
    try:
        seconds = np.array(data['seconds'] if _is_numbers(data['seconds'], len(shape)) else math.nan, dtype=float)
    except (ValueError, OverflowError):  # ragged, or integers that are no floating-point numbers
        seconds = np.array(math.nan)
    if seconds.shape != shape or not np.isfinite(seconds).all() or (seconds < 0).any():
        raise MmsharpError(f'{what}: seconds are no array of shape {shape} of numbers from 0')
    if any((np.diff(seconds, axis=axis) < 0).any() for axis in range(seconds.ndim)):
        raise MmsharpError(f'{what}: seconds fall where the layer grows')
    elements = data['elements']
    if not _is_integer(elements, 0, MAX_ELEMENTS):
        raise MmsharpError(f'{what}: elements is {shown(elements)}, expected an integer from 0 to {MAX_ELEMENTS}')
    return LayerTable(kind.name, axes, seconds.tolist(), elements)


def _is_integer(value: Any, low: int, high: int) -> bool:
    return isinstance(value, int) and not isinstance(value, bool) and low <= value <= high


def _is_numbers(value: Any, depth: int) -> bool:
    """Whether these are lists in lists, so deep, of integers and floating-point numbers."""
    if depth:
        return isinstance(value, (list, tuple)) and all(_is_numbers(item, depth - 1) for item in value)
    return isinstance(value, (int, float)) and not isinstance(value, bool)


def _number(value: Any, name: str) -> float:
    if _is_numbers(value, 0) and 0 <= value <= sys.float_info.max:
        return float(value)
    raise MmsharpError(f'latency table: {name} is {shown(value)}, expected a finite number from 0')
