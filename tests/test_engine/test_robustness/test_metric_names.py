"""A metric that is not computed is noticed before the first pass, and the trial leaves no trace."""

import random

import mmengine
import numpy as np
import pytest
import torch
from mmengine.config import Config
from mmengine.evaluator import BaseMetric
from mmengine.registry import METRICS

from mmsharp.apis import evaluate_robustness
from mmsharp.engine.robustness import metric_names
from mmsharp.errors import MmsharpError
from mmsharp.robustness import Cell, load_results

pytestmark = pytest.mark.filterwarnings('ignore')  # the toolboxes warn of their own optional parts


class Own(BaseMetric):
    """Two values; remembers all that it ever saw, draws random numbers, and may want more images than a few."""

    def __init__(self, least=0, names=('a', 'b')):
        super().__init__()
        self.least = least
        self.names = names
        self.seen = []

    def process(self, data_batch, data_samples):
        """Count, and move every generator on."""
        self.seen.extend(data_samples)
        self.results.extend(data_samples)
        random.random(), np.random.rand(), torch.rand(1)

    def compute_metrics(self, results):
        """Fails where there is too little."""
        if len(results) < self.least:
            raise ZeroDivisionError
        return {name: float(len(self.seen)) for name in self.names}


@pytest.fixture
def own(classifier):
    """A config with the metric, and the checkpoint."""

    def build(**arguments):
        config = Config(classifier[0].to_dict())
        config.test_evaluator = {'type': 'mmengine.Own', **arguments}
        return config, classifier[1]

    METRICS.register_module(module=Own, force=True)
    yield build
    METRICS.module_dict.pop('Own')


@pytest.mark.parametrize(('model', 'name'), [('detector', 'pascal_voc/mAP'), ('classifier', 'accuracy/top1')])
def test_an_unknown_metric_is_noticed_before_the_first_cell(request, tmp_path, model, name):
    """With those that there are; the right one then starts in the same folder."""
    arguments = *request.getfixturevalue(model), tmp_path / 'run', 'fog', [0]
    with pytest.raises(MmsharpError, match=rf"metric 'foo' was not evaluated; choose --metric among .*{name}"):
        evaluate_robustness(*arguments, metric='foo', samples=0)
    assert load_results(tmp_path / 'run')[1] == {}
    summary = evaluate_robustness(*arguments, metric=name, samples=0)
    assert summary['scores']['clean'] == evaluate_robustness(*arguments, samples=0)['scores']['clean']
    with pytest.raises(MmsharpError, match="metric 'foo' was not evaluated"):
        evaluate_robustness(*arguments[:-1], [0, 1], metric='foo', samples=0)
    assert len(load_results(tmp_path / 'run')[1]) == 1


def test_coco_metric_too(robust_data, tmp_path):
    """Which reads its ground truth from a file of its own, and has the values of all images afterwards."""
    root = robust_data.write_voc(tmp_path / 'voc', images=8)
    config = robust_data.coco_config(root, tmp_path / 'test.json')
    checkpoint = robust_data.write_checkpoint(config, tmp_path / 'detector.pth', steps=30)
    arguments = config, checkpoint
    with pytest.raises(MmsharpError, match=r"metric 'foo' .*coco/bbox_mAP, .*coco/bbox_mAP_50"):
        evaluate_robustness(*arguments, tmp_path / 'run', 'fog', [0], metric='foo', samples=0)
    evaluate_robustness(*arguments, tmp_path / 'run', 'fog', [0], metric='coco/bbox_mAP_50', samples=0)
    evaluate_robustness(*arguments, tmp_path / 'plain', 'fog', [0], samples=0)
    found = [load_results(tmp_path / name)[1][Cell.clean()].metrics for name in ('run', 'plain')]
    assert found[0] == found[1]


@pytest.fixture
def trusted(monkeypatch):
    """As if the metric were known to call its values the same whatever it has seen."""
    monkeypatch.setattr(metric_names, 'FIXED', (*metric_names.FIXED, 'Own'))


@pytest.mark.usefixtures('trusted')
def test_a_choice_that_only_the_user_can_make_is_asked_for_at_once(own, tmp_path):
    """Of two values none is the score by its name."""
    with pytest.raises(MmsharpError, match='which metric is the score'):
        evaluate_robustness(*own(), tmp_path / 'run', 'fog', [0], samples=0)
    assert load_results(tmp_path / 'run')[1] == {}


def test_metrics_that_may_do_anything_are_not_tried(own, tmp_path, monkeypatch):
    """Their names may depend on what they have seen; the first pass says which there are, and nothing was refused."""
    monkeypatch.setattr(Own, 'compute_metrics', lambda self, results: {f'of {len(results)}': 1.0})
    evaluate_robustness(*own(), tmp_path / 'run', 'fog', [0], metric='of 12', samples=0)
    assert load_results(tmp_path / 'run')[1][Cell.clean()].metrics == {'of 12': 1.0}


def test_no_file_of_the_users_is_written_by_a_trial(classifier, tmp_path):
    """Predictions that are dumped beside the scores are those of all images, or not there."""
    config = Config(classifier[0].to_dict())
    dump = tmp_path / 'dump.pkl'
    config.test_evaluator = [config.test_evaluator, dict(type='DumpResults', out_file_path=str(dump))]
    with pytest.raises(MmsharpError, match="metric 'foo' was not evaluated"):
        evaluate_robustness(config, classifier[1], tmp_path / 'run', 'fog', [0], metric='foo', samples=0)
    assert len(mmengine.load(dump)) == 12


@pytest.mark.usefixtures('trusted')
def test_the_trial_leaves_no_trace(own, tmp_path, monkeypatch):
    """Neither in what a metric remembers nor in the generators, nor in the model's mode."""
    drawn = []
    evaluate_robustness(*own(), tmp_path / 'tried', 'fog', [0], metric='a', samples=0)
    drawn.append((random.random(), np.random.rand(), float(torch.rand(1))))
    monkeypatch.setattr(metric_names, 'try_out', lambda *arguments: [])
    evaluate_robustness(*own(), tmp_path / 'not', 'fog', [0], metric='a', samples=0)
    drawn.append((random.random(), np.random.rand(), float(torch.rand(1))))
    assert drawn[0] == drawn[1]
    for name in ('tried', 'not'):
        assert load_results(tmp_path / name)[1][Cell.clean()].metrics == {'a': 12.0, 'b': 12.0}


def test_a_metric_that_needs_more_images_is_asked_after_the_first_pass(own, tmp_path):
    """As its names are not known before; what was evaluated stays."""
    with pytest.raises(MmsharpError, match="metric 'foo' was not evaluated; choose --metric among a, b"):
        evaluate_robustness(*own(least=10), tmp_path / 'run', 'fog', [0], metric='foo', samples=0)
    assert list(load_results(tmp_path / 'run')[1]) == [Cell.clean()]
    evaluate_robustness(*own(least=10), tmp_path / 'run', 'fog', [0], metric='b', samples=0)


def test_where_the_score_is_known_nothing_is_tried(classifier, tmp_path, monkeypatch):
    """The toolboxes' own metrics have one by its name."""
    monkeypatch.setattr(metric_names, 'try_out', None)
    evaluate_robustness(*classifier, tmp_path / 'run', 'fog', [0], samples=0)
