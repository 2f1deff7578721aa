"""Write a model as ONNX, and believe it only after onnxruntime has computed what PyTorch computes."""

from __future__ import annotations

import json
import logging
import os
import warnings
from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from contextlib import contextmanager
from functools import partial
from pathlib import Path
from typing import Any

import numpy as np
import torch
from mmengine.logging import print_log
from torch import Tensor, nn

from mmsharp.engine.export.deformable_convolutions import OPSET as DEFORMABLE_OPSET
from mmsharp.engine.export.deformable_convolutions import noticed_deformations, standard_deformations
from mmsharp.engine.export.own_rounding import own_rounding
from mmsharp.engine.export.raw_outputs import RawOutputs
from mmsharp.engine.export.traceable_corners import traceable_corners
from mmsharp.engine.export.traceable_pooling import traceable_pooling
from mmsharp.engine.export.traceable_windows import traceable_windows
from mmsharp.errors import MmsharpError, one_line
from mmsharp.files import appearing_whole
from mmsharp.pruning.forwards.contrasting_images import contrasting_images
from mmsharp.pruning.forwards.image_scale import image_scale, images_like
from mmsharp.pruning.forwards.numbers_read import numbers_read

TOLERANCE = 1e-4
"""Largest difference between onnxruntime and PyTorch, relative to each output's scale: both round float32."""
ROUNDINGS = 4
"""Where rounding alone moves an output by more than the tolerance, how many times as far the two may be apart."""
LARGEST_TOLERANCE = 1e-2
"""What the two may never be apart: beyond, agreement says nothing."""
ANY_BATCH = (2, 1, 3)
"""Sizes that a model for any batch has to take; it is traced with the first."""
ONE_IMAGE = (1, 1, 1)
"""As many checks where a file takes one image: a network that rounding upsets does not pass by one lucky image."""
INPUT = 'images'
DEFAULT_OPSET = 18
OPSETS = range(11, 24)
"""Versions that can be asked for; whether a file of it was written is looked up in the file."""


def export_onnx(
    model: nn.Module,
    path: str | os.PathLike[str],
    shape: Sequence[int],
    opset: int | None = None,
    metadata: Mapping[str, Any] | None = None,
) -> dict[str, Any]:
    """Write the raw outputs of a model for images of one size and any batch, checked in onnxruntime.

    PyTorch's older exporter, which follows one run, is tried first: it is quick and its graphs are small. Where it has
    written the batch size into the graph, as for models that reshape by it, the exporter that follows the code is
    tried; where neither can leave the batch open, the file is for one image at a time.

    What is written has agreed with PyTorch on noise in batches of 1, 2 and 3, or on three such images one by one, and
    on five images unlike these (bright, dark, faint, of strong contrast, with one bright corner); otherwise nothing is.
    To agree is to differ by at most 1e-4 of an output's scale or, for networks that blow rounding up, by at most four
    times what rounding itself moves that output by (:func:`mmsharp.engine.export.own_rounding.own_rounding`), and never
    by more than 1e-2. A run that is followed shows one side of a branch: where the model reads Python numbers out of
    its images, the lines are named in ``reads``, for no number of images proves such a file right.

    Args:
        model: See :class:`mmsharp.engine.export.raw_outputs.RawOutputs`; on the CPU, left in evaluation mode.
        path: The file, which appears as a whole or not at all.
        shape: ``(channels, height, width)`` of the preprocessed images.
        opset: Version of the ONNX operators; by default 18, and 19 for networks with deformable convolutions.
        metadata: Anything in JSON types, kept in the file under the key ``mmsharp``.

    Returns:
        ``outputs`` (name to shape for a batch of one), ``difference`` (the largest found, relative to the output's
        scale), ``allowed_for_rounding`` (whether that needed more than 1e-4), ``exporter``, ``failures`` (of the
        exporters before it), ``bytes``, ``partial`` (whether the model computes more than was written), ``batches``
        (the sizes that were compared: all 1 where no other is taken) and ``reads`` (lines of code, see above; empty
        where the exporter follows the code, which refuses them, and ``None`` where they cannot be told).

    Raises:
        MmsharpError: A package is missing, the shape or the operator set is none, the operator set lacks what the model
            needs, the model does not run, no exporter can write it, or what they write computes something else.
    """
    onnx = onnx_package('onnx')
    onnx_package('onnxruntime')
    if len(shape) != 3 or any(isinstance(size, bool) or not isinstance(size, int) or size < 1 for size in shape):
        raise MmsharpError(f'shape={tuple(shape)!r} is not (channels, height, width) in positive whole numbers')
    if opset is not None and (isinstance(opset, bool) or not isinstance(opset, int) or opset not in OPSETS):
        raise MmsharpError(
            f'opset={opset!r} is no version of the ONNX operators from {OPSETS[0]} to {OPSETS[-1]}; leave it out for '
            f'{DEFAULT_OPSET}, or {DEFORMABLE_OPSET} with deformable convolutions'
        )
    raw = RawOutputs(model)
    scale = image_scale(model)
    images = images_like(model, shape, ANY_BATCH[0])
    try:
        with noticed_deformations() as deformable:
            names = raw.names(images)
    except Exception as error:  # the model's own code
        raise MmsharpError(
            f'{type(model).__name__} does not run on images of shape {tuple(shape)} alone ({one_line(error)}); give '
            'another --shape; models that need more than images cannot be exported'
        ) from error
    if opset is None:
        opset = DEFORMABLE_OPSET if deformable else DEFAULT_OPSET
    failures = []
    with appearing_whole(path) as part:
        for name, (write, batches) in EXPORTERS.items():
            try:
                with _quiet(), _traceable(raw, opset), torch.no_grad():
                    write(raw, images_like(model, shape, batches[0]), str(part), names, opset)
                _check_opset(part, opset)
                difference, allowed, outputs = _check(raw, part, contrasting_images(shape, batches, *scale), names)
            except Exception as error:  # exporters fail in every way
                failures.append(f'{name}: {one_line(error)[:300]}')
                print_log(f'exporter {failures[-1]}', 'current', logging.INFO)
                continue
            content = onnx.load(part)
            onnx.helper.set_model_props(content, {'mmsharp': json.dumps(dict(metadata or {}))})
            onnx.save(content, part)
            return dict(
                outputs=outputs,
                difference=difference,
                allowed_for_rounding=allowed,
                exporter=name,
                failures=failures,
                bytes=part.stat().st_size,
                partial=raw.is_partial,
                batches=batches,
                reads=[] if write is _by_code else _reads(raw, images[:1]),
            )
        raise MmsharpError(f'{type(model).__name__} cannot be written as ONNX: {"; ".join(failures)}')


def _by_tracing(
    raw: nn.Module, images: Tensor, path: str, names: list[str], opset: int, any_batch: bool = True
) -> None:
    batch = {name: {0: 'batch'} for name in (INPUT, *names)} if any_batch else None
    torch.onnx.export(
        raw,
        (images,),
        path,
        dynamo=False,
        input_names=[INPUT],
        output_names=names,
        dynamic_axes=batch,
        opset_version=opset,
    )


def _by_code(raw: nn.Module, images: Tensor, path: str, names: list[str], opset: int) -> None:
    torch.onnx.export(
        raw,
        (images,),
        path,
        dynamo=True,
        input_names=[INPUT],
        output_names=names,
        dynamic_shapes=({0: torch.export.Dim.DYNAMIC},),
        opset_version=opset,
        external_data=False,
        verbose=False,
    )


EXPORTERS: dict[str, tuple[Callable[[nn.Module, Tensor, str, list[str], int], None], tuple[int, ...]]] = {
    'tracing': (_by_tracing, ANY_BATCH),
    'torch.export': (_by_code, ANY_BATCH),
    'tracing of one image': (partial(_by_tracing, any_batch=False), ONE_IMAGE),
}
"""What writes, with the batches that it has to be right for, the best first."""


def _reads(raw: nn.Module, images: Tensor) -> list[str] | None:
    """Lines that read numbers out of the images, where that can be told."""
    try:
        return [reading.place for reading in numbers_read(raw, images)]
    except Exception as error:  # an operation that cannot be followed, such as one on a sparse tensor
        print_log(f'what {type(raw).__name__} reads is not known: {one_line(error)}', 'current', logging.WARNING)
        return None


def _check_opset(path: Path, opset: int) -> None:
    """An exporter that cannot write a version writes another.

    Raises:
        MmsharpError: It did.
    """
    onnx = onnx_package('onnx')
    versions = {entry.domain: entry.version for entry in onnx.load(path).opset_import}
    if versions.get('') != opset:
        raise MmsharpError(f'the file is of operator set {versions.get("")}, not {opset}; give another --opset')


def _check(
    raw: nn.Module, path: Path, inputs: Iterable[tuple[str, Tensor]], names: list[str]
) -> tuple[float, bool, dict[str, tuple[int, ...]]]:
    """Largest relative difference to PyTorch, whether rounding excuses it, and the outputs' shapes for one image.

    Raises:
        MmsharpError: It is above the tolerance.
    """
    import onnxruntime

    options = onnxruntime.SessionOptions()
    options.log_severity_level = 4
    session = onnxruntime.InferenceSession(str(path), options, providers=['CPUExecutionProvider'])
    largest, allowed = 0.0, False
    outputs: dict[str, tuple[int, ...]] = {}
    for kind, images in inputs:
        with torch.no_grad():
            expected = [tensor.numpy() for tensor in raw(images)]
        found = session.run(names, {INPUT: images.numpy()})
        rounding: list[float] = []
        where = f'for {len(images)} image(s) of the kind {kind!r}'
        for name, one, other in zip(names, expected, found, strict=True):
            if one.shape != other.shape:
                raise MmsharpError(f'output {name!r} has shape {other.shape} {where}, not {one.shape}')
            difference = _difference(one, other)
            if not difference <= TOLERANCE:
                rounding = rounding or _rounding(raw, images, len(names))
                if not difference <= rounding[names.index(name)]:
                    raise MmsharpError(f'output {name!r} differs from PyTorch by {difference:.2g} {where}')
                allowed = True
            largest = max(largest, difference)
            outputs[name] = one.shape if len(images) == 1 else outputs.get(name, ())
    return largest, allowed, outputs


def _difference(one: np.ndarray, other: np.ndarray) -> float:
    """Largest difference relative to the scale of the first; of truths, the share that differs."""
    if not one.size:
        return 0.0
    if one.dtype == bool:
        return float((one != other).mean())
    one, other = one.astype(np.float64), other.astype(np.float64)
    return float(np.abs(one - other).max() / max(np.abs(one).max(), 1e-12))


def _rounding(raw: nn.Module, images: Tensor, outputs: int) -> list[float]:
    """How far two correct implementations may be apart at each output of a network that blows rounding up."""
    try:
        return [min(LARGEST_TOLERANCE, ROUNDINGS * moved) for moved in own_rounding(raw, images)]
    except Exception as error:  # the model's own code, which may not run in float64
        print_log(f'rounding of {type(raw).__name__} is not known: {one_line(error)}', 'current', logging.DEBUG)
        return [TOLERANCE] * outputs


def onnx_package(name: str) -> Any:
    """A package of the extra ``[export]``.

    Raises:
        MmsharpError: It is not installed.
    """
    try:
        return __import__(name)
    except ImportError as error:
        raise MmsharpError(
            f'exporting needs {name} ({one_line(error)}); pip install ".[export]" in mmsharp\'s clone'
        ) from error


@contextmanager
def _traceable(raw: nn.Module, opset: int) -> Iterator[None]:
    """A model in the form that exporters can follow; what it computes is the same."""
    with traceable_windows(raw), traceable_corners(raw), traceable_pooling(), standard_deformations(opset):
        yield


@contextmanager
def _quiet() -> Iterator[None]:
    """Exporters warn of every Python number in a model; whether one mattered is what the check finds."""
    logger = logging.getLogger('torch.onnx')
    level = logger.level
    logger.setLevel(logging.ERROR)
    try:
        with warnings.catch_warnings():
            warnings.simplefilter('ignore')
            yield
    finally:
        logger.setLevel(level)
