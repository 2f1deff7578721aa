"""Measure the latency table of a config's model on this machine."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from contextlib import contextmanager

import torch
from mmengine.config import Config

from mmsharp.engine.configs.building_model import build_model
from mmsharp.engine.costs.machine import machine, versions
from mmsharp.engine.export.onnxruntime_engine import OnnxRuntimeEngine
from mmsharp.errors import MmsharpError, one_line
from mmsharp.pruning import find_groups, tensor_forward
from mmsharp.pruning.forwards.image_sample import image_sample
from mmsharp.pruning.forwards.image_scale import images_like
from mmsharp.pruning.latency import Engine, LatencyTable, PyTorchEngine, measure_latency_table

ENGINES = ('pytorch', 'onnxruntime')


def measure_config(
    config: Config,
    shape: tuple[int, int, int],
    engine: str = 'pytorch',
    device: str = 'cpu',
    threads: int | None = None,
    batch: int = 1,
    points: int = 6,
    repeats: int = 10,
    progress: Callable[[int, int, str], None] = lambda done, total, what: None,
) -> LatencyTable:
    """:func:`~mmsharp.pruning.latency.measure_latency_table` for a config: weights do not matter, and stay random.

    Args:
        config: The config of the dense model; not changed.
        shape: ``(channels, height, width)`` of the preprocessed images.
        engine: ``'pytorch'`` (eager mode) or ``'onnxruntime'`` (its CPU provider).
        device: Where PyTorch runs, such as ``'cpu'`` or ``'cuda'``.
        threads: Of a call on the CPU; by default as many as PyTorch uses.
        batch: Images at once.
        points: Sizes per axis of a layer.
        repeats: Timed rounds.
        progress: Called before every step.

    Returns:
        The table; ``about`` says on what machine, with which engine and input it was measured.

    Raises:
        MmsharpError: An unknown engine, a device that is not there, a shape or a number that is none, or a model that
            does not run on images alone or has no groups.
    """
    if engine not in ENGINES:
        raise MmsharpError(f'engine {engine!r} is unknown; accepted: {", ".join(ENGINES)}')
    if engine == 'onnxruntime' and torch.device(device).type != 'cpu':
        raise MmsharpError(f'onnxruntime is timed on the CPU, not on {device!r}')
    numbers = dict(zip(('channels', 'height', 'width'), shape), batch=batch, threads=1 if threads is None else threads)
    for name, value in numbers.items():
        if isinstance(value, bool) or not isinstance(value, int) or value < 1:
            raise MmsharpError(f'{name} is {value!r}, expected a positive integer')
    model = build_model(config)
    try:
        model.to(device)
    except (RuntimeError, AssertionError) as error:  # no such device, or PyTorch was built without it
        raise MmsharpError(f'device {device!r} cannot be used: {one_line(error)}') from error
    with _threads(threads):
        used = torch.get_num_threads()
        runner: Engine = OnnxRuntimeEngine(shape, used) if engine == 'onnxruntime' else PyTorchEngine()
        forward = tensor_forward(images_like(model, shape, batch), [image_sample(shape)] * batch, annotated=False)
        progress(0, 1, 'channel groups')
        groups = find_groups(model, forward)
        if not groups.groups:
            raise MmsharpError(f'{type(model).__name__} has no prunable channel group; there is nothing to measure')
        table = measure_latency_table(model, forward, groups, runner, points, repeats, progress=progress)
    table.about.update(  # type: ignore[attr-defined]
        engine=engine,
        device=device,
        threads=used,
        input_shape=[batch, *shape],
        machine=machine(),
        versions=versions(('torch', 'onnxruntime') if engine == 'onnxruntime' else ('torch',)),
    )
    return table


@contextmanager
def _threads(count: int | None) -> Iterator[None]:
    before = torch.get_num_threads()
    try:
        if count is not None:
            torch.set_num_threads(count)
        yield
    finally:
        torch.set_num_threads(before)
