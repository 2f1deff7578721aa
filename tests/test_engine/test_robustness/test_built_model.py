"""A model in memory gives the values of its checkpoint."""

import pytest
import torch
from torch import nn

from mmsharp.apis import compare_robustness, evaluate_robustness, init_model
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


def test_a_model_that_mmengine_cannot_test_is_refused(classifier, tmp_path):
    """A plain network."""
    with pytest.raises(MmsharpError, match='Linear has no test_step'):
        evaluate_robustness(classifier[0], nn.Linear(2, 2), tmp_path, *GRID)
