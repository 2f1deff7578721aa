"""Values per class, from the metrics of both toolboxes."""

from pathlib import Path

import pytest
from mmengine.config import Config
from mmpretrain.datasets.categories import IMAGENET_CATEGORIES

from mmsharp.apis import evaluate_robustness
from mmsharp.engine.robustness.classwise import ask_for_classes, class_values
from mmsharp.errors import MmsharpError
from mmsharp.robustness import load_results

pytestmark = pytest.mark.filterwarnings('ignore')  # the toolboxes warn of their own optional parts

GRID = ['gaussian_noise'], [0, 3]
CLASSES = ('square', 'disc')


def _cells(folder):
    return [result.metrics for result in load_results(folder)[1].values()]


@pytest.mark.parametrize(('model', 'metric'), [('detector', 'pascal_voc/mAP'), ('classifier', 'accuracy/top1')])
def test_the_mean_over_classes_is_the_metric(request, tmp_path, model, metric):
    """mAP is the mean of the APs; with as many images of each class, accuracy is the mean of the recalls."""
    arguments = request.getfixturevalue(model)
    summary = evaluate_robustness(*arguments, tmp_path / 'by_class', *GRID, samples=0, classwise=True)
    for cell in _cells(tmp_path / 'by_class'):
        values = [cell[f'class/{name}'] for name in CLASSES]
        assert sum(values) / 2 == pytest.approx(cell[metric], abs=1e-3)
    assert set(summary['by_class']['classes']) == set(CLASSES)
    assert summary['by_class']['classes']['disc']['clean'] == _cells(tmp_path / 'by_class')[0]['class/disc']
    evaluate_robustness(*arguments, tmp_path / 'plain', *GRID, samples=0)
    plain = _cells(tmp_path / 'plain')
    assert [cell[metric] for cell in _cells(tmp_path / 'by_class')] == [cell[metric] for cell in plain]
    assert not any(name.startswith('class/') for cell in plain for name in cell)
    with pytest.raises(MmsharpError, match='classwise: was False, is True'):
        evaluate_robustness(*arguments, tmp_path / 'plain', *GRID, samples=0, classwise=True)


def test_classes_without_names_are_their_labels(robust_data, classifier, tmp_path):
    """A data set with an annotation file and no classes; the values are those of the named ones."""
    config, checkpoint = classifier
    nameless = Config(config.to_dict())
    root = Path(nameless.test_dataloader.dataset.data_root)
    labels = {name: label for label, name in enumerate(sorted(CLASSES))}
    lines = [f'{path.relative_to(root)} {labels[path.parent.name]}' for path in sorted(root.rglob('*.png'))]
    (tmp_path / 'test.txt').write_text('\n'.join(lines))
    nameless.test_dataloader.dataset.ann_file = str(tmp_path / 'test.txt')
    summaries = [
        evaluate_robustness(given, checkpoint, tmp_path / str(number), 'fog', [0], samples=0, classwise=True)
        for number, given in enumerate((config, nameless))
    ]
    named, numbered = (summary['by_class']['classes'] for summary in summaries)
    assert [numbered[str(label)] for label in range(2)] == [named[name] for name in sorted(CLASSES)]


def test_names_with_slashes_belong_to_their_own_class():
    """Objects365 has `Cabinet/shelf`; prefixes of metrics hold slashes too."""
    metrics = {'coco/bbox_mAP': 0.3, 'coco/Cabinet/shelf_precision': 0.5, 'coco/shelf_precision': 0.1}
    for classes in (['shelf', 'Cabinet/shelf'], ['Cabinet/shelf', 'shelf']):
        found = class_values(metrics, classes)
        assert found == {'class/shelf': 0.1, 'class/Cabinet/shelf': 0.5}
    assert class_values({'a/coco/shelf_precision': 0.2}, ['shelf']) == {'class/shelf': 0.2}


def test_classes_of_one_name_are_kept_apart():
    """ImageNet's two cranes; a metric that keeps one value per name tells neither."""
    found = class_values(
        {'single-label/recall_classwise': [float(label) for label in range(1000)]}, IMAGENET_CATEGORIES
    )
    assert len(found) == 1000
    assert (found['class/crane (134)'], found['class/crane (517)']) == (134.0, 517.0)
    metrics = {'coco/bbox_mAP': 0.3, 'coco/crane_precision': 0.5, 'coco/dog_precision': 0.2}
    assert class_values(metrics, ['crane', 'dog', 'crane']) == {
        'class/crane (0)': None,
        'class/dog': 0.2,
        'class/crane (2)': None,
    }


def test_a_cell_without_any_detection_gives_zero_for_every_class(robust_data, detector, tmp_path):
    """CocoMetric returns nothing then; the mean of the ratios of the classes stays defined."""
    config = robust_data.coco_config(Path(detector[0].test_dataloader.dataset.data_root), tmp_path / 'a.json')
    current = {name: Config(config.to_dict()) for name in ('blind', 'seeing')}
    current['blind'].model.test_cfg.score_thr = 1.1
    for name, given in current.items():
        evaluate_robustness(given, detector[1], tmp_path / name, 'fog', [0], samples=0, classwise=True)
    values = {name: [_cells(tmp_path / name)[0].get(f'class/{kind}') for kind in CLASSES] for name in current}
    assert values['blind'] == [0.0, 0.0]
    assert all(value > 0 for value in values['seeing'])
    assert class_values({'coco/AR@100': 0.5}, CLASSES) == {}


def test_coco_metric_is_asked_for_its_own_values():
    """The config is changed in that only; a list stays a list."""
    cfg = Config({'test_evaluator': [{'type': 'CocoMetric', 'metric': 'bbox'}, {'type': 'Other'}]})
    ask_for_classes(cfg)
    assert cfg.test_evaluator == [{'type': 'CocoMetric', 'metric': 'bbox', 'classwise': True}, {'type': 'Other'}]


def test_an_evaluator_that_knows_no_classes_is_refused():
    """By name."""
    with pytest.raises(MmsharpError, match=r'of CocoMetric, VOCMetric and Accuracy.*is CityScapesMetric'):
        ask_for_classes(Config({'test_evaluator': {'type': 'CityScapesMetric'}}))
