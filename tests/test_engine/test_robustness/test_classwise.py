"""Values per class, from the metrics of both toolboxes."""

import pytest
from mmengine.config import Config

from mmsharp.apis import evaluate_robustness
from mmsharp.engine.robustness.classwise import ask_for_classes
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


def test_coco_metric_is_asked_for_its_own_values():
    """The config is changed in that only; a list stays a list."""
    cfg = Config({'test_evaluator': [{'type': 'CocoMetric', 'metric': 'bbox'}, {'type': 'Other'}]})
    ask_for_classes(cfg)
    assert cfg.test_evaluator == [{'type': 'CocoMetric', 'metric': 'bbox', 'classwise': True}, {'type': 'Other'}]


def test_an_evaluator_that_knows_no_classes_is_refused():
    """By name."""
    with pytest.raises(MmsharpError, match=r'of CocoMetric, VOCMetric and Accuracy.*is CityScapesMetric'):
        ask_for_classes(Config({'test_evaluator': {'type': 'CityScapesMetric'}}))
