"""The metric is chosen by a documented preference, and the summary is plain JSON."""

import json

import pytest

from mmsharp.errors import MmsharpError
from mmsharp.robustness import Cell, CellResult, Grid, choose_metric, summarize


@pytest.mark.parametrize(
    ('available', 'chosen'),
    [
        (['pascal_voc/AP50', 'pascal_voc/mAP'], 'pascal_voc/mAP'),
        (['coco/bbox_mAP_50', 'coco/segm_mAP', 'coco/bbox_mAP'], 'coco/bbox_mAP'),
        (['accuracy/top5', 'accuracy/top1'], 'accuracy/top1'),
        (['cityscapes/mAP', 'time'], 'cityscapes/mAP'),
        (['single-label/f1-score'], 'single-label/f1-score'),
        (['lvis/bbox_AP50', 'lvis/bbox_APr', 'lvis/bbox_AP', 'lvis/segm_AP'], 'lvis/bbox_AP'),
        (['coco/bbox_mAP', 'coco/segm_mAP', 'coco_panoptic/PQ', 'coco_panoptic/PQ_th'], 'coco_panoptic/PQ'),
        (['coco_panoptic/PQ', 'coco_panoptic/RQ', 'coco_panoptic/SQ'], 'coco_panoptic/PQ'),
        (['retrieval/Recall@5', 'retrieval/Recall@1'], 'retrieval/Recall@1'),
        (['Bleu_4', 'CIDEr', 'METEOR'], 'CIDEr'),
    ],
)
def test_preferred_metric(available, chosen):
    """The score of each benchmark where nothing is asked for; a metric alone needs no preference."""
    assert choose_metric(available) == chosen


def test_an_unclear_or_missing_metric_is_asked_for():
    """The names that there are, are listed."""
    with pytest.raises(MmsharpError, match=r'which metric.*a/precision, a/recall'):
        choose_metric(['a/recall', 'a/precision'])
    with pytest.raises(MmsharpError, match=r"'mAP' was not evaluated.*a/recall"):
        choose_metric(['a/recall'], 'mAP')
    with pytest.raises(MmsharpError, match='no metric'):
        choose_metric([])


def test_summary_survives_json():
    """All is of JSON types, cells keep the grid's order, and a gap is null."""
    cells = (Cell.clean(), Cell('snow', 1))
    finished = {cell: CellResult(cell, {'m': 0.5, 'other': 1.0}, images=7, seconds=1.5) for cell in cells}
    summary = summarize(finished, Grid.of(['fog', 'snow'], [0, 1]), {'seed': 0}, 'm')
    assert json.loads(json.dumps(summary)) == summary
    assert summary['cells'][-1] == {'corruption': 'fog', 'severity': 1, 'value': None}
    assert summary['scores']['missing'] == ['fog/1']
    assert (summary['images'], summary['seconds'], summary['identity']) == (7, 3.0, {'seed': 0})


@pytest.mark.parametrize(
    ('is_imagenet', 'constants', 'known'),
    [(True, 'auto', True), (True, 'imagenet', True), (True, 'cifar', False), (False, 'imagenet', False)],
)
def test_alexnets_errors_are_a_reference_for_imagenet_and_its_constants_alone(is_imagenet, constants, known):
    """CIFAR's severities are much milder: a ratio of the two would flatter any model."""
    grid = Grid.of('fog', [0, 1])
    finished = {cell: CellResult(cell, {'accuracy/top1': 60.0}, images=7, seconds=1.0) for cell in grid.cells}
    summary = summarize(finished, grid, {'constants': constants}, is_imagenet=is_imagenet)
    assert (summary['corruption_errors'] is not None) == known


def test_alexnets_errors_are_none_where_auto_came_to_cifars_constants():
    """As for ImageNet in 32x32 pixels."""
    grid = Grid.of('fog', [0, 1])
    finished = {cell: CellResult(cell, {'accuracy/top1': 60.0}, 7, 1.0, constants=('cifar',)) for cell in grid.cells}
    summary = summarize(finished, grid, {'constants': 'auto'}, is_imagenet=True)
    assert summary['constants'] == ['cifar']
    assert summary['corruption_errors'] is None
