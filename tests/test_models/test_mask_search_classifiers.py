"""Masks are searched in classifiers of mmpretrain whose logits are not what one head gives."""

import numpy as np
import pytest
import torch
from headless_classifiers import BASES
from mmengine.registry import MODELS, DefaultScope
from small_classifier import own_state, wrapper_of
from torch import nn

from mmsharp.engine.model_access.fabricated_samples import classification_sample
from mmsharp.errors import MmsharpError
from mmsharp.models import without_masks
from mmsharp.models.network_outputs import head_of, outputs_of

pytest.importorskip('mmpretrain')
pytestmark = pytest.mark.filterwarnings('ignore')  # the toolboxes warn of their own optional parts

SEARCHES = {
    'weights': dict(granularity='weight', ratio=0.5),
    'channels': dict(granularity='channel', ratio=0.5, input_shape=(3, 32, 32)),
}
CONFORMER = dict(
    base='ImageClassifier',
    backbone=dict(
        type='Conformer',
        arch=dict(embed_dims=24, depths=3, num_heads=2, channel_ratio=1),
        base_channels=8,
        norm_eval=False,
    ),
    head=dict(type='ConformerHead', num_classes=3, in_channels=[32, 24]),
)


TASK_HEAD = dict(type='LinearClsHead', num_classes=3)


def built(search, **config):
    torch.manual_seed(0)
    with DefaultScope.overwrite_default_scope('mmpretrain'):
        return MODELS.build(dict(type='mmsharp.MaskSearch', search=search, **config)).train()


def images_of(seed: int = 0) -> dict:
    generator = np.random.default_rng(seed)
    images = [torch.from_numpy(generator.integers(0, 256, (3, 32, 32), dtype=np.uint8)) for _ in range(4)]
    return dict(inputs=images, data_samples=[classification_sample(generator, (32, 32), 3) for _ in images])


MODELS_OF = {'ConformerHead': CONFORMER, **{base: dict(base=base) for base in BASES}}


@pytest.mark.parametrize('search', SEARCHES.values(), ids=SEARCHES)
@pytest.mark.parametrize('config', MODELS_OF.values(), ids=MODELS_OF)
def test_all_five_terms_move_masks_alone(config, search):
    """Weights stand still; a binary mask is consistent; the search ends at its ratio."""
    model = built(search, **config)
    before = own_state(model)
    first = {name: mask.detach().clone() for name, mask in model.mask_search.by_name().items()}
    wrapper = wrapper_of(model)
    for seed in range(2):
        losses = model.train_step(images_of(seed), wrapper)
        assert {f'loss_{name}' for name in ('stability', 'margin_ratio', 'consistency', 'l1', 'task')} <= set(losses)
        assert torch.isfinite(losses['loss'])
        assert losses['loss_stability'] > 0
    after = own_state(model)
    parameters = [name for name in before if 'running' not in name and 'num_batches' not in name]
    assert all(torch.equal(after[name], before[name]) for name in parameters)
    assert any(not torch.equal(mask, first[name]) for name, mask in model.mask_search.by_name().items())
    model.finish_search()
    assert all(((mask == 0) | (mask == 1)).all() for mask in model.mask_search.by_name().values())


@pytest.mark.parametrize('config', MODELS_OF.values(), ids=MODELS_OF)
def test_compared_is_what_the_model_predicts_with(config):
    """The probabilities of its own prediction, image by image."""
    model = built(SEARCHES['weights'], **config)
    without_masks(model.eval())
    data = model.data_preprocessor(images_of())
    predicted = torch.stack([sample.pred_score for sample in model(**data, mode='predict')])
    found = outputs_of(head_of(model), model(data['inputs'], mode='tensor'))
    torch.testing.assert_close(found.scores[:, 0], predicted)


@pytest.mark.parametrize('base', BASES)
def test_a_state_dict_that_renames_its_keys_holds_the_search(base):
    """The network's keys are without the wrapper's, as its library has them; those of the masks come back, too."""
    search = SEARCHES['weights']
    model, other = built(search, base=base), built(search, base=base)
    model.train_step(images_of(), wrapper_of(model))
    state = model.state_dict()
    assert {'stem.0.weight', 'mask_search.begun'} <= set(state)
    other.load_state_dict(state)
    assert other.mask_search.begun
    assert all(torch.equal(other.state_dict()[key], value) for key, value in state.items())
    names = model.mask_search.by_name()
    assert all(torch.equal(other.mask_search.by_name()[name], mask) for name, mask in names.items())


@pytest.mark.parametrize(
    ('config', 'words'),
    [
        (dict(head=dict(type='MultiLabelLinearClsHead', num_classes=3, in_channels=64)), 'gives several labels; acc'),
        (dict(head=dict(type='LinearRegressionHead', num_classes=3, in_channels=64)), 'gives numbers that are no clas'),
        (
            dict(head=dict(type='MultiTaskHead', in_channels=64, task_heads=dict(a=TASK_HEAD))),
            'MultiTaskHead gives several tasks; accepted are heads with one softmax over classes, such as Linear',
        ),
        (dict(), 'ImageClassifier has neither the head of a classifier nor .* call the module that gives the logits'),
    ],
    ids=['several labels', 'regression', 'several tasks', 'no head'],
)
def test_heads_without_a_softmax_over_classes_are_refused(config, words):
    """Before anything is trained, with what is accepted."""
    backbone = dict(type='ResNet', depth=18, base_channels=8, stem_channels=8)
    with pytest.raises(MmsharpError, match=words):
        built(SEARCHES['weights'], base='ImageClassifier', backbone=backbone, neck=None, **config)


def test_what_gives_no_logits_is_refused_by_what_it_gives():
    """At the first step, for only its forward tells."""
    with pytest.raises(MmsharpError, match=r'forward of Identity gives a Tensor of shape \(2, 3, 4\), and logits'):
        outputs_of(nn.Identity(), torch.zeros(2, 3, 4))
    with pytest.raises(MmsharpError, match='forward of Identity gives a list, and logits'):
        outputs_of(nn.Identity(), [torch.zeros(2, 3)])
