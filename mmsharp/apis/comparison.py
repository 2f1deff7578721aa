"""Put finished evaluations side by side."""

from __future__ import annotations

import ast
import os
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

import torch
from torch import nn

from mmsharp.apis.models import init_model
from mmsharp.engine.checkpoints.safe_checkpoint import local_checkpoint, plain_checkpoints
from mmsharp.engine.costs.model_cost import measure_costs
from mmsharp.engine.robustness.certified_files import certification_of
from mmsharp.engine.robustness.identity import file_sha256
from mmsharp.errors import MmsharpError, one_line
from mmsharp.pruning.forwards.image_sample import image_sample
from mmsharp.pruning.forwards.image_scale import images_like
from mmsharp.robustness import compare_certifications, compare_runs


@plain_checkpoints()
def compare_robustness(
    folders: Sequence[str | os.PathLike[str]], names: Sequence[str] | None = None, metric: str | None = None
) -> dict[str, Any]:
    """Put finished evaluations side by side: the same cells, the same metric, latencies measured in turns.

    The models are built anew from the configs and checkpoints that the runs were given and timed by turns on this
    machine; where one of them is gone or another by now, the latencies of the runs stand, and a note says so.

    Args:
        folders: Results folders of :func:`evaluate_robustness`; the first is the baseline.
        names: What to call the runs; by default the folders' names.
        metric: The metric to compare; by default the one that the first run was scored by.

    Returns:
        What :func:`mmsharp.robustness.compare_runs` returns, and under ``certification`` what
        :func:`mmsharp.robustness.compare_certifications` does, ``None`` if fewer than two runs were certified.

    Raises:
        MmsharpError: As :func:`mmsharp.robustness.compare_runs`.
    """
    comparison = compare_runs([Path(folder) for folder in folders], names, metric)
    runs = comparison['runs']
    comparison['certification'] = compare_certifications(
        {run['name']: certification_of(run['folder'], run['identity']) for run in runs}
    )
    try:
        costs = measure_costs([_timed_model(run) for run in runs], limit=60.0)
    except Exception as error:  # without it the comparison is as good as its runs
        comparison['notes'].append(
            'latencies are those of the runs, measured at different times, and their ratios hold what else the machine '
            f'did then ({one_line(error)})'
        )
        return comparison
    for run, cost in zip(runs, costs, strict=True):
        run['model'] = {**run['model'], 'latency_ms': cost['latency_ms']}
    return comparison


def _timed_model(run: Mapping[str, Any]) -> tuple[nn.Module, torch.Tensor, list[Any]]:
    """The model of a finished run with an image of the size that it was measured on."""
    source, shape = run['source'], run['model'].get('input_shape')
    if 'checkpoint' in source and source['checkpoint'] is None:
        raise MmsharpError(f'run {run["name"]!r} was of a model in memory')
    if not source.get('config') or not shape:
        raise MmsharpError(f'run {run["name"]!r} does not say which config it used, or for which input')
    if file_sha256(local_checkpoint(source['checkpoint'])) != run['identity'].get('checkpoint_sha256'):
        raise MmsharpError(f'{source["checkpoint"]!r} is another checkpoint by now')
    device = torch.device(run['model'].get('device') or 'cpu')
    model = init_model(source['config'], source['checkpoint'], device, ast.literal_eval(source['cfg_options']))
    image = images_like(model, shape[1:], shape[0]).to(device)
    return model, image, [image_sample(tuple(shape[1:]))]
