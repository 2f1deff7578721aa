"""What an evaluator calls its values, tried out on a few images before a pass over all of them."""

from __future__ import annotations

import copy
from collections.abc import Sequence
from typing import Any

import numpy as np
import torch
from mmengine.dist import get_world_size
from mmengine.runner.amp import autocast

from mmsharp.engine.robustness.built_model import same_mode
from mmsharp.engine.robustness.cell_metrics import computes_apart, fill_empty, numbers
from mmsharp.robustness import choose_metric
from mmsharp.sharpness import RandomState
from mmsharp.type_names import class_names

TRIED = 4
"""Images, spread over the data set."""
SCORED = ('CocoMetric', 'VOCMetric', 'Accuracy')
"""Metrics that always have a value that is the score where the user names none."""
FIXED = ('CocoMetric', 'VOCMetric', 'VOCMetricByClass', 'Accuracy')
"""Classes, not their heirs, that call their values the same whatever they have seen."""
ANNOTATIONS = ('pycocotools', 'lvis', 'mmdet.datasets.api_wrappers')
"""Whose objects are read alone, and too large to be copied for a trial."""


def check_metric(loop: Any, step: str, wanted: str | None) -> None:
    """Refuse a metric that an evaluator does not compute, as far as a few images show that.

    Args:
        loop: MMEngine's, for validation or test, with model, data loader and evaluator built.
        step: Which of the model's steps it takes, ``'test_step'`` or ``'val_step'``.
        wanted: What the user asks for; see :func:`mmsharp.robustness.choose_metric`.

    Raises:
        MmsharpError: As :func:`mmsharp.robustness.choose_metric`.
    """
    known = {name for metric in loop.evaluator.metrics for name in class_names(metric)}
    if wanted is None and not known.isdisjoint(SCORED):
        return
    names = try_out(loop, step)
    if names:
        choose_metric(names, wanted)


def try_out(loop: Any, step: str) -> list[str]:
    """The names of the values that an evaluator gives for a few images; empty where these are not enough for it.

    Nothing that the real evaluation uses is touched: the metrics are copied, the model's mode and all random states are
    given back, and no worker is started. Tried are the toolboxes' ordinary metrics of boxes and classes alone: others
    may name values by what they have seen, change the model, or write files. Not tried are evaluators of other classes
    than MMEngine's and groups of several processes.

    Args:
        loop: As for :func:`check_metric`.
        step: As there.
    """
    evaluator, dataset = loop.evaluator, loop.dataloader.dataset
    if get_world_size() > 1 or type(evaluator).__name__ != 'Evaluator' or computes_apart(evaluator):
        return []
    if not all(type(metric).__name__ in FIXED and not _writes(metric) for metric in evaluator.metrics):
        return []
    model = loop.runner.model
    chosen = np.linspace(0, len(dataset) - 1, num=min(TRIED, len(dataset))).round().astype(int).tolist()
    state = RandomState.capture()
    try:
        trial = copy.copy(evaluator)
        trial.metrics = [_copy(metric, dataset, chosen) for metric in evaluator.metrics]
        with same_mode(model), torch.no_grad(), autocast(enabled=getattr(loop, 'fp16', False)):
            model.eval()
            batch = loop.dataloader.collate_fn([dataset[index] for index in chosen])
            outputs = getattr(model, step)(batch)
        trial.process(data_samples=outputs, data_batch=batch)
        values = numbers(trial.evaluate(len(chosen)))
    except Exception:  # metrics are free in what they need; the first pass says what is wrong
        return []
    finally:
        state.restore()
    filled = dict(values)
    fill_empty(filled, evaluator, ())
    return list(values) if filled == values else []


def _writes(metric: Any) -> bool:
    """Whether its results go to files that are the user's."""
    return getattr(metric, 'outfile_prefix', None) is not None


def _copy(metric: Any, dataset: Any, chosen: Sequence[int]) -> Any:
    """A metric that can be used without the other noticing, told which images there are if it wants to know."""
    shared = [held for held in vars(metric).values() if type(held).__module__.startswith(ANNOTATIONS)]
    copied = copy.deepcopy(metric, {id(held): held for held in shared})
    copied.results = []
    if hasattr(copied, 'img_ids'):
        copied.img_ids = [dataset.get_data_info(index)['img_id'] for index in chosen]
    return copied
