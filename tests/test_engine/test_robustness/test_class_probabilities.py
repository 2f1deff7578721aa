"""Probabilities of images in [0, 1] are those of the model's own test, and what has none is refused."""

import copy

import pytest
import torch
from mmengine.registry import DATASETS, init_default_scope
from mmpretrain.structures import DataSample
from torch.utils.data import default_collate

from mmsharp.apis import init_model
from mmsharp.engine.model_access.class_probabilities import ClassProbabilities, labelled_images
from mmsharp.errors import MmsharpError

pytestmark = pytest.mark.filterwarnings('ignore')  # the toolboxes warn of their own optional parts


@pytest.fixture
def model_and_batch(classifier):
    """The classifier, and a batch as its pipeline gives it."""
    config, checkpoint = classifier
    init_default_scope('mmpretrain')
    dataset = DATASETS.build(copy.deepcopy(config.test_dataloader.dataset))
    items = [dataset[index] for index in range(4)]
    batch = {'inputs': [item['inputs'] for item in items], 'data_samples': [item['data_samples'] for item in items]}
    return init_model(config, checkpoint).eval(), batch


@pytest.mark.parametrize('to_rgb', [True, False])
@pytest.mark.parametrize('stacked', [True, False])
def test_scores_are_those_of_the_models_own_test(model_and_batch, to_rgb, stacked):
    """Channels, normalisation and head are the model's: the same scores as for the 8-bit pictures."""
    model, batch = model_and_batch
    model.data_preprocessor.to_rgb = to_rgb
    expected = torch.stack([sample.pred_score for sample in model.test_step(copy.deepcopy(batch))])
    inputs = default_collate(batch['inputs']) if stacked else batch['inputs']
    found = list(labelled_images({**batch, 'inputs': inputs}))
    scores = ClassProbabilities(model)(torch.stack([item.image for item in found]))
    torch.testing.assert_close(scores, expected, atol=1e-5, rtol=1e-4)
    assert [item.label for item in found] == [int(sample.gt_label) for sample in batch['data_samples']]
    assert all(0 <= item.image.min() <= item.image.max() <= 1 for item in found)
    assert len({item.name for item in found}) == 4
    assert not torch.allclose(scores[0], expected[-1])


def test_the_order_of_the_channels_matters_to_the_model(model_and_batch):
    """What the test above would not notice if pictures were grey."""
    model, batch = model_and_batch
    images = torch.stack(batch['inputs']).float() / 255
    before = ClassProbabilities(model)(images)
    model.data_preprocessor.to_rgb = not model.data_preprocessor.to_rgb
    assert not torch.allclose(before, ClassProbabilities(model)(images))


def test_names_do_not_depend_on_the_folder(model_and_batch):
    """A data set that was moved draws the same transforms: class and file name the image."""
    _, batch = model_and_batch
    assert [item.name for item in labelled_images(batch)][:2] == ['disc/0.png', 'disc/1.png']


def test_pictures_and_labels_that_cannot_be_certified(model_and_batch):
    """Pictures that are normalised already, several labels, no labels, no names."""
    _, batch = model_and_batch
    with pytest.raises(MmsharpError, match=r'float32.*data_preprocessor'):
        list(labelled_images({**batch, 'inputs': torch.stack(batch['inputs']).float()}))
    with pytest.raises(MmsharpError, match='PackInputs'):
        list(labelled_images({'inputs': batch['inputs']}))
    several = [DataSample(metainfo={'img_path': 'a'}).set_gt_label([0, 1])] * 4
    with pytest.raises(MmsharpError, match='single-label'):
        list(labelled_images({**batch, 'data_samples': several}))
    nameless = [DataSample().set_gt_label(0)] * 4
    with pytest.raises(MmsharpError, match='sample_idx'):
        list(labelled_images({**batch, 'data_samples': nameless}))


def test_models_without_scores_are_refused():
    """A detector's predictions, or anything else without pred_score."""

    class Other(torch.nn.Module):
        def test_step(self, data):
            return [DataSample()]

    with pytest.raises(MmsharpError, match=r'Other predicts no probabilities.*--corruptions'):
        ClassProbabilities(Other())(torch.zeros(1, 3, 2, 2))
