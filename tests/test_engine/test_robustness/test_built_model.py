"""A model in memory gives the values of its checkpoint."""

import pytest
import torch
from torch import nn

from mmsharp.apis import compare_robustness, evaluate_robustness, init_model
from mmsharp.engine.robustness.built_model import model_sha256
from mmsharp.errors import MmsharpError
from mmsharp.robustness import load_results

pytestmark = pytest.mark.filterwarnings('ignore')  # the toolboxes warn of their own optional parts

GRID = ['gaussian_noise'], [0, 3]


def _values(folder):
    return {cell: result.metrics for cell, result in load_results(folder)[1].items()}


@pytest.mark.parametrize('kind', ['detector', 'classifier'])
def test_it_is_tested_as_it_is_and_left_so(request, tmp_path, kind):
    """In training mode before and after, with a part that was not; weights and statistics bitwise."""
    config, checkpoint = request.getfixturevalue(kind)
    model = init_model(config, checkpoint)
    model.train()
    model.backbone.layer1.eval()
    before = {name: value.clone() for name, value in model.state_dict().items()}
    summary = evaluate_robustness(config, model, tmp_path / 'built', *GRID, samples=1)
    evaluate_robustness(config, checkpoint, tmp_path / 'path', *GRID, samples=0)
    assert _values(tmp_path / 'built') == _values(tmp_path / 'path')
    assert model.training
    assert not model.backbone.layer1.training
    assert all(torch.equal(value, before[name]) for name, value in model.state_dict().items())
    assert summary['checkpoint'] == type(model).__name__
    comparison = compare_robustness([tmp_path / 'built', tmp_path / 'path'])
    assert any('was of a model in memory' in note for note in comparison['notes'])


def test_another_model_in_the_same_folder_is_refused(classifier, tmp_path):
    """One weight is enough."""
    config, checkpoint = classifier
    model = init_model(config, checkpoint)
    evaluate_robustness(config, model, tmp_path, *GRID, samples=0)
    lines = (tmp_path / 'results.jsonl').read_bytes()
    evaluate_robustness(config, model, tmp_path, *GRID, samples=0)
    assert (tmp_path / 'results.jsonl').read_bytes() == lines
    model.head.fc.weight.data[0, 0] += 1
    with pytest.raises(MmsharpError, match='checkpoint_sha256'):
        evaluate_robustness(config, model, tmp_path, *GRID, samples=0)


def _threshold(model):
    model.bbox_head.test_cfg.score_thr = 1.1


def _overlap(model):
    model.bbox_head.test_cfg.nms.iou_threshold = 0.9


def _strides(model):
    model.bbox_head.prior_generator.strides[0] = (8, 8)


def _clip(model):
    model.bbox_head.bbox_coder.clip_border = False


def _mean(model):
    model.data_preprocessor.mean += 1


def _activation(model):
    model.backbone.relu = nn.SiLU()


def _stride(model):
    model.backbone.conv1.stride = (1, 1)


@pytest.mark.parametrize('change', [_threshold, _overlap, _strides, _clip, _mean, _activation, _stride])
def test_a_model_is_its_settings_too(detector, change):
    """What is not in its state counts as well; its mode, being built again and being used do not."""
    config, checkpoint = detector
    model = init_model(config, checkpoint)
    before = model_sha256(model)
    with torch.no_grad():
        model.train(not model.training)
        model.eval()
        image = {'inputs': [torch.zeros(3, 64, 80, dtype=torch.uint8)], 'data_samples': [_sample()]}
        model.test_step(image)
    assert model_sha256(model) == model_sha256(init_model(config, checkpoint)) == before
    change(model)
    assert model_sha256(model) != before


def _sample():
    from mmdet.structures import DetDataSample

    return DetDataSample(metainfo={'img_shape': (64, 80), 'ori_shape': (64, 80), 'scale_factor': (1.0, 1.0)})


def test_a_model_with_another_threshold_in_the_same_folder_is_refused(detector, tmp_path):
    """Its values are not those of the finished cells."""
    config, checkpoint = detector
    model = init_model(config, checkpoint)
    evaluate_robustness(config, model, tmp_path, 'fog', [0], samples=0)
    _threshold(model)
    with pytest.raises(MmsharpError, match='checkpoint_sha256'):
        evaluate_robustness(config, model, tmp_path, 'fog', [0], samples=0)


def test_a_model_that_mmengine_cannot_test_is_refused(classifier, tmp_path):
    """A plain network."""
    with pytest.raises(MmsharpError, match='Linear has no test_step'):
        evaluate_robustness(classifier[0], nn.Linear(2, 2), tmp_path, *GRID)
