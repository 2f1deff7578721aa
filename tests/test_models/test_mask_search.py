"""A model with masks to search: its weights stand still, its passes share a batch, its terms are the parts'."""

import copy
import pickle

import numpy as np
import pytest
import torch
from mmengine.registry import MODELS
from mmengine.structures import BaseDataElement
from small_classifier import CHANNELS, WEIGHTS, SmallClassifier, batch, build, own_state, train, wrapper_of
from torch import nn
from torch.utils.checkpoint import checkpoint

from mmsharp.engine.optim_wrappers import AmpOptimWrapper, SAMOptimWrapper
from mmsharp.errors import MmsharpError
from mmsharp.models import has_masks, is_searching, without_masks
from mmsharp.pruning.mask_search import hard_mask, total_loss
from mmsharp.registry import MASK_PARAMETERISATIONS, MASK_PERTURBATIONS, MASK_TERMS

TASK = dict(task=dict(type='Task'))
SEARCHES = {
    'weights': WEIGHTS,
    'channels': CHANNELS,
    **{f'perturbation {name}': dict(WEIGHTS, perturbation=dict(type=name)) for name in MASK_PERTURBATIONS.module_dict},
    **{f'term {name}': dict(WEIGHTS, losses=dict(TASK, x=dict(type=name))) for name in MASK_TERMS.module_dict},
    **{f'{name}': dict(WEIGHTS, parameterisation=dict(type=name)) for name in MASK_PARAMETERISATIONS.module_dict},
    'ascent over channels': dict(CHANNELS, perturbation=dict(type='Gradient', rho=0.1)),
}
every_search = pytest.mark.parametrize('search', SEARCHES.values(), ids=SEARCHES)


def statistics(state: dict) -> dict:
    return {key: value for key, value in state.items() if 'running' in key or 'num_batches' in key}


@every_search
def test_weights_stand_still_and_masks_move(search):
    """Bitwise, through steps with momentum and weight decay; also whichever parts are registered."""
    model = build(search)
    before, first = own_state(model), {k: v.clone() for k, v in model.mask_search.variables.items()}
    logs = train(model)
    after = own_state(model)
    assert all(torch.equal(after[key], before[key]) for key in before if key not in statistics(before))
    assert all(not torch.equal(model.mask_search.variables[key], first[key]) for key in first)
    assert all(torch.isfinite(log['loss']) for log in logs)


@pytest.mark.parametrize('granularity', [WEIGHTS, CHANNELS], ids=['weights', 'channels'])
@pytest.mark.parametrize('term', MASK_TERMS.module_dict)
def test_every_term_reaches_every_mask(term, granularity):
    """By itself: what moves masks in a search is none of the others."""
    model = build(dict(granularity, losses=dict(x=dict(type=term, weight=1.0)), perturbation=dict(type='Uniform')))
    model.begin_search()
    loss = total_loss(model(**batch(), mode='loss'))
    masks = model.mask_search.by_name()
    gradients = torch.autograd.grad(loss, list(masks.values()))
    for name, gradient in zip(masks, gradients):
        assert gradient.isfinite().all(), name
        assert gradient.any(), name


@every_search
def test_batch_normalisation_sees_the_unperturbed_pass_alone(search):
    """Its statistics are those of one ordinary training pass with the masks of the step."""
    model = build(search)
    model.begin_search()
    reference = copy.deepcopy(model)
    torch.manual_seed(1)
    model(**batch(), mode='loss')
    reference.run_masked(reference.mask_search.soft(), batch()['inputs'], None, 'tensor')
    theirs = statistics(own_state(reference))
    for key, value in statistics(own_state(model)).items():
        torch.testing.assert_close(value, theirs[key], rtol=0, atol=0)


@pytest.mark.parametrize('search', [WEIGHTS, CHANNELS], ids=['weights', 'channels'])
def test_a_binary_mask_is_consistent(search):
    """Zero consistency loss, and not before the mask is binary."""
    model = build(search)
    assert model(**batch(), mode='loss')['loss_consistency'] > 1e-4
    for name, variable in model.mask_search.by_name().items():
        variable.data.copy_(hard_mask(variable, model.mask_search.units.kept[name]))
    assert model(**batch(), mode='loss')['loss_consistency'] == 0


@pytest.mark.parametrize('search', [WEIGHTS, CHANNELS], ids=['weights', 'channels'])
def test_masks_stay_where_they_are_defined(search):
    """In [0, 1] in every pass, though steps far beyond are taken."""
    model = build(search)
    wrapper = wrapper_of(model, lr=50.0)
    for step in range(3):
        model.train_step(batch(step), wrapper)
        after = [variable.clone() for variable in model.mask_search.variables.values()]
        assert any(variable.min() < 0 or variable.max() > 1 for variable in after)
        model(**batch(step), mode='loss')
        assert all(v.min() >= 0 and v.max() <= 1 for v in model.mask_search.variables.values())
        assert all(mask.min() >= 0 and mask.max() <= 1 for mask in model.mask_search.soft().values())


@pytest.mark.parametrize('search', [WEIGHTS, CHANNELS], ids=['weights', 'channels'])
def test_binarising_is_exact_and_holds(search):
    """The ratio per layer, then steps with momentum and decay that move what is kept and nothing else."""
    model = build(search)
    wrapper = wrapper_of(model)
    train(model, 2, wrapper)
    model.finish_search()
    assert not is_searching(model)
    kept = {name: mask.detach().clone() for name, mask in model.mask_search.by_name().items()}
    for mask in kept.values():
        assert int((mask == 0).sum()) == round(0.5 * mask.numel())
    before = own_state(model)
    train(model, 3, wrapper)
    assert all(torch.equal(model.mask_search.by_name()[name], kept[name]) for name in kept)
    for name, value in model.mask_search.masked(model, kept).items():
        assert torch.equal(model.get_parameter(name), value)  # what is masked stays exactly zero
        assert not torch.equal(before[name], value)


def test_without_its_masks_it_is_the_ordinary_model():
    """The same class and keys, everything learns again, and the masked outputs are the plain ones."""
    model = build()
    train(model, 1)
    model.finish_search()
    model.eval()
    outputs = model(batch()['inputs'])
    without_masks(model)
    assert type(model) is MODELS.get('SmallClassifier')
    assert not has_masks(model)
    assert all(parameter.requires_grad for parameter in model.parameters())
    torch.testing.assert_close(model(batch()['inputs']), outputs, rtol=0, atol=0)
    without_masks(model)


@pytest.mark.parametrize('parameterisation', sorted(MASK_PARAMETERISATIONS.module_dict))
def test_before_its_search_the_model_is_the_dense_one(parameterisation):
    """No mask is applied until weights have been loaded and the search begins."""
    model = build(dict(WEIGHTS, parameterisation=dict(type=parameterisation))).eval()
    torch.manual_seed(0)
    dense = MODELS.build(dict(type='SmallClassifier')).eval()
    dense.load_state_dict(own_state(model))
    assert torch.equal(model(batch()['inputs']), dense(batch()['inputs']))


def test_normalisations_may_be_trained_too():
    """As HYDRA does; weights stand still all the same."""
    model = build(dict(WEIGHTS, train_norms=True))
    before = own_state(model)
    train(model)
    moved = {key for key, value in own_state(model).items() if not torch.equal(value, before[key])}
    assert {'stem.1.weight', 'stem.1.bias'} <= moved
    assert not {'stem.0.weight', 'head.weight', 'head.bias'} & moved


@pytest.mark.parametrize('perturbation', sorted(MASK_PERTURBATIONS.module_dict))
def test_mixed_precision_trains_masks(perturbation):
    """bfloat16 on a CPU; weights stand still, masks move."""
    model = build(dict(WEIGHTS, perturbation=dict(type=perturbation)))
    before, first = own_state(model), {k: v.clone() for k, v in model.mask_search.variables.items()}
    optimizer = torch.optim.SGD(model.parameters(), lr=0.5)
    train(model, 2, AmpOptimWrapper(optimizer=optimizer, dtype='bfloat16', loss_scale=1.0))
    assert torch.equal(model.stem[0].weight, before['stem.0.weight'])
    assert all(not torch.equal(model.mask_search.variables[key], first[key]) for key in first)


def test_a_sharpness_aware_wrapper_sees_one_forward():
    """Its second pass repeats the whole step, and what it perturbs are the masks, which alone learn."""
    model = build()
    before = own_state(model)
    train(model, 2, SAMOptimWrapper(torch.optim.SGD(model.parameters(), lr=0.1), ascent=dict(type='SAM')))
    assert torch.equal(model.stem[0].weight, before['stem.0.weight'])


def test_a_state_dict_holds_the_search():
    """A model that is built anew goes on where the first was; its state is plain tensors under the ordinary names."""
    model = build()
    train(model, 2)
    other = build(dict(WEIGHTS, ratio=0.5))
    other.load_state_dict(model.state_dict())
    torch.manual_seed(5)
    first = model(**batch(), mode='loss')
    torch.manual_seed(5)
    second = other(**batch(), mode='loss')
    assert {key: value.item() for key, value in first.items()} == {key: value.item() for key, value in second.items()}
    dense = MODELS.build(dict(type='SmallClassifier'))
    missing, extra = dense.load_state_dict(model.state_dict(), strict=False)
    assert not missing
    assert all(key.startswith('mask_search.') for key in extra)


def test_frozen_parts_are_left_as_they_are():
    """Whole, frozen before, during and after the search."""
    torch.manual_seed(0)
    model = MODELS.build(dict(type='mmsharp.MaskSearch', base='FrozenStem', search=WEIGHTS)).train()
    before = own_state(model)['stem.0.weight']
    train(model, 2)
    model.finish_search()
    train(model, 1)
    assert torch.equal(model.stem[0].weight, before)
    assert not model.stem[0].weight.requires_grad
    assert int((model.inner[0].weight == 0).sum()) == round(0.5 * model.inner[0].weight.numel())


@MODELS.register_module(force=True)
class FrozenStem(MODELS.get('SmallClassifier')):
    def __init__(self):
        super().__init__()
        self.stem.requires_grad_(False)


@MODELS.register_module(force=True)
class TiedLayers(MODELS.get('SmallClassifier')):
    def __init__(self):
        super().__init__()
        self.inner[0] = nn.Conv2d(6, 6, 3, padding=1)
        self.inner[1] = nn.Sequential(nn.Conv2d(6, 6, 3, padding=1), nn.BatchNorm2d(6))
        self.inner[1][0].weight = self.inner[0].weight
        self.head = nn.Linear(6, 3)


def test_tied_layers_have_one_mask():
    """They train, stay tied, and end at the ratio; over channels both are named."""
    torch.manual_seed(0)
    with pytest.raises(MmsharpError, match=r'inner\.0\.weight, inner\.1\.0\.weight are one tied weight'):
        MODELS.build(dict(type='mmsharp.MaskSearch', base='TiedLayers', search=CHANNELS))
    model = MODELS.build(dict(type='mmsharp.MaskSearch', base='TiedLayers', search=WEIGHTS)).train()
    train(model, 2)
    model.finish_search()
    tied = model.inner[0].weight
    assert model.inner[1][0].weight is tied
    assert int((tied == 0).sum()) == round(0.5 * tied.numel())
    assert all(torch.isfinite(log['loss']) for log in train(model, 1))


@MODELS.register_module(force=True)
class SeveralNames(SmallClassifier):
    """One convolution under two names, as the shared ones of RTMDet's head, and called by both."""

    def __init__(self, **kwargs) -> None:
        super().__init__(**kwargs)
        self.levels = nn.ModuleList([self.inner, nn.Sequential(self.inner[0], nn.BatchNorm2d(10), nn.ReLU())])

    def forward(self, inputs, data_samples=None, mode='tensor'):
        stem = self.stem(inputs)
        features = [level(stem).mean(dim=(2, 3)) for level in self.levels]
        scores = self.head(self.dropout(sum(features)))
        return dict(loss=nn.functional.cross_entropy(scores, data_samples)) if mode == 'loss' else scores


@MODELS.register_module(force=True)
class Checkpointed(SmallClassifier):
    """Its stem and inner layers are recomputed in the backward pass."""

    reentrant: bool | None = None

    def forward(self, inputs, data_samples=None, mode='tensor'):
        if self.reentrant is None:
            return super().forward(inputs, data_samples, mode)
        stem, inner = self.stem, self.inner
        try:
            for name, layer in (('stem', stem), ('inner', inner)):
                self._modules[name] = Recomputed(layer, self.reentrant)
            return super().forward(inputs, data_samples, mode)
        finally:
            self.stem, self.inner = stem, inner


class Recomputed(nn.Module):
    def __init__(self, layer, reentrant):
        super().__init__()
        self.layer, self.reentrant = [layer], reentrant

    def forward(self, inputs):
        inputs = inputs if inputs.requires_grad else inputs.clone().requires_grad_()
        return checkpoint(self.layer[0], inputs, use_reentrant=self.reentrant)


@pytest.mark.parametrize('reentrant', [True, False])
@pytest.mark.parametrize('perturbation', MASK_PERTURBATIONS.module_dict)
@pytest.mark.parametrize('search', [WEIGHTS, CHANNELS], ids=['weights', 'channels'])
def test_activation_checkpoints_change_nothing(search, perturbation, reentrant):
    """A recomputed layer would see its weights without masks, and the masks in it would learn nothing."""
    ends = []
    for kind in (None, reentrant):
        torch.manual_seed(0)
        settings = dict(search, perturbation=dict(type=perturbation))
        model = MODELS.build(dict(type='mmsharp.MaskSearch', base='Checkpointed', search=settings)).train()
        model.reentrant = kind
        train(model, 2)
        found = {name: mask.detach().clone() for name, mask in model.mask_search.by_name().items()}
        model.finish_search()
        train(model, 2)
        ends.append((found, own_state(model)))
    for one, other in zip(*ends):
        assert all(torch.equal(value, other[name]) for name, value in one.items())


@pytest.mark.parametrize('search', [WEIGHTS, CHANNELS], ids=['weights', 'channels'])
def test_a_layer_of_several_names_is_masked_and_put_back(search):
    """Everywhere it is called, once; afterwards it has its own weight again, under all its names."""
    torch.manual_seed(0)
    model = MODELS.build(dict(type='mmsharp.MaskSearch', base='SeveralNames', search=search)).train()
    before = own_state(model)
    logs = train(model)
    assert model.levels[1][0] is model.inner[0]
    assert isinstance(model.inner[0].weight, nn.Parameter)
    after = own_state(model)
    assert all(torch.equal(after[key], before[key]) for key in before if key not in statistics(before))
    assert all(torch.isfinite(log['loss']) for log in logs)
    zeros = {name: torch.zeros_like(mask) for name, mask in model.mask_search.soft().items()}
    model.eval()
    closed = model.run_masked(zeros, batch()['inputs'], None, 'tensor')
    assert torch.equal(closed, closed[:1].expand_as(closed))  # no image comes through either level


def test_training_without_the_hook_is_noticed(monkeypatch):
    """Once; also where a search goes on that was loaded, whose weights would learn otherwise."""
    said = []
    monkeypatch.setattr('mmsharp.models.masked_network.print_log', lambda text, *_: said.append(text))
    model = build()
    train(model, 3)
    assert len(said) == 1
    assert "add default_hooks=dict(pruning=dict(type='mmsharp.MaskSearchHook', search=0.2))" in said[0]
    other = build()
    other.load_state_dict(model.state_dict())
    before = own_state(other)
    train(other, 1)
    assert len(said) == 2
    assert torch.equal(other.head.weight, before['head.weight'])
    begun = build()
    begun.begin_search()
    train(begun, 1)
    assert len(said) == 2


@pytest.mark.parametrize(
    'copied', [copy.deepcopy, lambda model: pickle.loads(pickle.dumps(model))], ids=['copy', 'pickle']
)
def test_a_copy_searches_alike(copied):
    """Also one that is written down, whose class is made as it is needed."""
    model = build()
    train(model, 1)
    other = copied(model)
    assert type(other) is type(model)
    torch.manual_seed(5)
    first = model(**batch(), mode='loss')
    torch.manual_seed(5)
    second = other(**batch(), mode='loss')
    assert {key: value.item() for key, value in first.items()} == {key: value.item() for key, value in second.items()}


def test_collapse_is_noticed(monkeypatch):
    """A head whose bias decides every image."""
    said = []
    monkeypatch.setattr('mmsharp.models.masked_network.print_log', lambda text, *_: said.append(text))
    model = build(dict(WEIGHTS, collapse=dict(window=12, limit=0.9)))
    train(model, 2)
    said.clear()
    model.head.bias.data[1] = 100.0
    train(model, 2)
    assert len(said) == 1
    assert '100.0% of the last 12 images got the same class: the masks have collapsed to a constant' in said[0]


def test_the_end_of_a_search_looks_at_the_last_images(monkeypatch):
    """A window that is not full, then at what the binary masks give; nothing is said of few images."""
    said = []
    monkeypatch.setattr('mmsharp.models.masked_network.print_log', lambda text, *_: said.append(text))
    model = build(dict(WEIGHTS, collapse=dict(window=500)))
    model.begin_search()
    model.head.bias.data[1] = 100.0
    train(model, 5)
    model.end_watch()
    assert not said  # 30 images
    train(model, 6)
    assert not said
    model.end_watch()
    model.end_watch()
    assert len(said) == 1
    assert '100.0% of the last 36 images got the same class' in said[0]
    model.finish_search()
    model.eval()
    same = [lambda network: network(batch(images=20)['inputs'])]
    for forwards in ([], same):
        model.watch_binary(forwards)
    assert len(said) == 1
    model.watch_binary(same * 2)
    assert 'with the binary masks 100.0% of 40 images get the same class' in said[1]
    varied = model.head.register_forward_hook(lambda head, given, scores: 1000 * torch.eye(3).repeat(7, 1)[:20])
    model.watch_binary(same * 2)
    varied.remove()
    assert len(said) == 2


@pytest.mark.filterwarnings('ignore')
def test_a_detector_is_searched_by_its_scores_and_boxes():
    """RetinaNet of mmdet over channels: weights stand still, and the margin of classes is refused."""
    pytest.importorskip('mmdet')
    from mmengine.registry import init_default_scope

    from mmsharp.engine.model_access.fabricated_samples import detection_sample
    from mmsharp.engine.prunability.examples import announce_first_iteration

    init_default_scope('mmdet')
    config = small_retinanet()
    search = dict(granularity='channel', ratio=0.5, input_shape=(3, 64, 64))
    with pytest.raises(MmsharpError, match=r'search.losses.margin_ratio: MarginRatio is not defined for detectors'):
        MODELS.build(dict(config, search=search))
    names = ('Stability', 'Consistency', 'L1', 'Task')
    search['losses'] = {name.lower(): dict(type=name) for name in names}
    torch.manual_seed(0)
    model = MODELS.build(dict(config, search=search))
    model.train()
    announce_first_iteration()
    samples = [detection_sample(np.random.default_rng(0), (64, 64), 3) for _ in range(2)]
    data = dict(inputs=[torch.randint(255, (3, 64, 64), dtype=torch.uint8) for _ in range(2)], data_samples=samples)
    before = own_state(model)
    log = model.train_step(data, wrapper_of(model, lr=0.01))
    assert {'loss_cls', 'loss_bbox', 'loss_stability', 'loss_consistency', 'loss_l1'} <= set(log)
    assert log['loss_stability'] > 0
    assert torch.equal(model.bbox_head.retina_cls.weight, before['bbox_head.retina_cls.weight'])
    still = MODELS.build(dict(config, search=dict(search, perturbation=dict(type='Uniform', rho=0.0)))).train()
    assert still(**still.data_preprocessor(data, True), mode='loss')['loss_stability'] == 0
    assert all(isinstance(sample, BaseDataElement) for sample in samples)


def small_retinanet() -> dict:
    """mmdet's, as narrow and as shallow as it goes."""
    return dict(
        type='mmsharp.MaskSearch',
        base='RetinaNet',
        data_preprocessor=dict(type='DetDataPreprocessor', pad_size_divisor=32),
        backbone=dict(type='ResNet', depth=18, base_channels=8, stem_channels=8, out_indices=(1, 2, 3)),
        neck=dict(type='FPN', in_channels=[16, 32, 64], out_channels=8, num_outs=3),
        bbox_head=dict(
            type='RetinaHead',
            num_classes=3,
            in_channels=8,
            stacked_convs=1,
            feat_channels=8,
            anchor_generator=dict(
                type='AnchorGenerator',
                octave_base_scale=4,
                scales_per_octave=1,
                ratios=[1.0],
                strides=[8, 16, 32],
            ),
            bbox_coder=dict(type='DeltaXYWHBBoxCoder'),
            loss_cls=dict(type='FocalLoss', use_sigmoid=True),
            loss_bbox=dict(type='L1Loss'),
        ),
        train_cfg=dict(
            assigner=dict(type='MaxIoUAssigner', pos_iou_thr=0.5, neg_iou_thr=0.4, min_pos_iou=0, ignore_iof_thr=-1),
            sampler=dict(type='PseudoSampler'),
            allowed_border=-1,
            pos_weight=-1,
            debug=False,
        ),
        test_cfg=dict(nms_pre=100, score_thr=0.05, nms=dict(type='nms', iou_threshold=0.5), max_per_img=10),
    )
