"""The summary of a results folder: which metric, its value per cell, and the scores."""

from collections.abc import Iterable, Mapping
from typing import Any

from mmsharp.errors import MmsharpError
from mmsharp.robustness.class_scores import CLASS_PREFIX, class_scores
from mmsharp.robustness.corruption_errors import ALEXNET, corruption_errors, errors_from_accuracies
from mmsharp.robustness.grid import Cell, Grid
from mmsharp.robustness.results import CellResult
from mmsharp.robustness.scores import score

PREFERRED_METRICS: tuple[str, ...] = (
    'PQ',
    'pascal_voc/mAP',
    'coco/bbox_mAP',
    'accuracy/top1',
    'bbox_mAP',
    'bbox_AP',
    'mAP',
    'top1',
    'mIoU',
    'Recall@1',
    'CIDEr',
    'acc',
)
"""Which metric is P where the user names none: the first of these that was evaluated, by whole name or last part.

Pascal-C is scored by AP50, which is what MMDetection's ``VOCMetric`` calls mAP at its default threshold of 0.5; COCO-C
by AP over thresholds 0.50 to 0.95 (of which LVIS's ``bbox_AP`` is a kind); ImageNet-C by top-1 accuracy. A panoptic
model is scored by the panoptic quality, although its boxes may be evaluated beside it; retrieval, captions and answers
to questions by what MMPretrain's metrics call ``Recall@1``, ``CIDEr`` and ``acc``.
"""


def choose_metric(available: Iterable[str], wanted: str | None = None) -> str:
    """Name the metric that the scores are computed from.

    Args:
        available: What the evaluator returned.
        wanted: What the user asked for, or ``None`` for the first of :data:`PREFERRED_METRICS`.

    Raises:
        MmsharpError: If the wanted metric was not evaluated, or none was named and no preferred one is there while
            several others are.

    Example:
        >>> choose_metric(['coco/bbox_mAP_50', 'coco/bbox_mAP'])
        'coco/bbox_mAP'
        >>> choose_metric(['accuracy/top1', 'accuracy/top5'], 'accuracy/top5')
        'accuracy/top5'
    """
    names = [name for name in available if not name.startswith(CLASS_PREFIX)]
    if wanted is not None:
        if wanted in names:
            return wanted
        raise MmsharpError(f'metric {wanted!r} was not evaluated; choose --metric among {", ".join(sorted(names))}')
    for preferred in PREFERRED_METRICS:
        for name in names:
            if name == preferred or name.rsplit('/', 1)[-1] == preferred:
                return name
    if len(names) == 1:
        return names[0]
    if not names:
        raise MmsharpError('the evaluator returned no metric; give the config a test_evaluator that computes one')
    raise MmsharpError(f'which metric is the score? Choose --metric among {", ".join(sorted(names))}')


def summarize(
    finished: Mapping[Cell, CellResult],
    grid: Grid,
    identity: Mapping[str, Any],
    metric: str | None = None,
    is_imagenet: bool = False,
) -> dict[str, Any]:
    """Build the content of ``summary.json``, in JSON types.

    Args:
        finished: The results.
        grid: The cells that were asked for.
        identity: What the values depend on.
        metric: The metric that is P; see :func:`choose_metric`.
        is_imagenet: Whether the images are ImageNet's, so that AlexNet's published errors are a reference; with the
            constants of CIFAR, which the identity names, they are none.

    Returns:
        ``metric``, ``scores`` (see :class:`mmsharp.robustness.Scores`), ``corruption_errors`` (relative to AlexNet's,
        see :class:`mmsharp.robustness.CorruptionErrors`; ``None`` for other data and metrics than top-1), ``by_class``
        (see :class:`mmsharp.robustness.ClassScores`; ``None`` where the cells have no values per class), ``grid``,
        ``cells`` (a value per cell of the grid, ``None`` where missing), ``constants`` (what ``'auto'`` came to;
        empty if unknown), ``images``, ``seconds`` and ``identity``.

    Raises:
        MmsharpError: As :func:`choose_metric`.

    Example:
        >>> finished = {Cell.clean(): CellResult(Cell.clean(), {'coco/bbox_mAP': 0.4}, images=10, seconds=1.0)}
        >>> summary = summarize(finished, Grid.of('fog', [0, 1]), identity={})
        >>> summary['metric'], summary['scores']['clean'], summary['scores']['missing']
        ('coco/bbox_mAP', 0.4, ['fog/1'])
    """
    results = [finished[cell] for cell in grid.cells if cell in finished]
    name = choose_metric(dict.fromkeys(key for result in results for key in result.metrics), metric)
    values = {result.cell: result.metrics.get(name) for result in results}
    by_class = class_scores(results, grid)
    relative = None
    constants = sorted({table for result in results for table in result.constants})
    if is_imagenet and name.endswith('accuracy/top1') and 'cifar' not in (identity.get('constants'), *constants):
        relative = corruption_errors(errors_from_accuracies(values, name), ALEXNET, grid, 'AlexNet').to_dict()
    return {
        'metric': name,
        'scores': score(values, grid).to_dict(),
        'corruption_errors': relative,
        'by_class': None if by_class is None else by_class.to_dict(),
        'grid': {'corruptions': list(grid.corruptions), 'severities': list(grid.severities), 'clean': grid.clean},
        'cells': [
            {'corruption': cell.corruption, 'severity': cell.severity, 'value': values.get(cell)} for cell in grid.cells
        ],
        'constants': constants,
        'images': max((result.images for result in results), default=0),
        'seconds': round(sum(result.seconds for result in results), 3),
        'identity': dict(identity),
    }
