"""A model with masks to search: its weights stand still, its passes share a batch, its terms are the parts'."""

import copy
import pickle

import numpy as np
import pytest
import torch
from mmengine.config import ConfigDict
from mmengine.registry import MODELS
from mmengine.structures import BaseDataElement
from small_classifier import CHANNELS, WEIGHTS, batch, build, own_state, train, wrapper_of
from torch import nn

from mmsharp.engine.optim_wrappers import AmpOptimWrapper, SAMOptimWrapper
from mmsharp.errors import MmsharpError
from mmsharp.models import has_masks, is_searching, without_masks
from mmsharp.pruning.mask_search import hard_mask
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


def test_no_radius_is_no_instability():
    """rho = 0: the two passes, dropout included, are the same to the last bit."""
    for name in ('Uniform', 'Gradient', 'None'):
        perturbation = dict(type=name) if name == 'None' else dict(type=name, rho=0.0)
        model = build(dict(WEIGHTS, perturbation=perturbation))
        assert model(**batch(), mode='loss')['loss_stability'] == 0


class Arranged:
    """A transform that keeps what it is given, and gives what it is told."""

    dimensions = 1

    def __init__(self, change=lambda pixels: pixels):
        self.change, self.seen = change, []

    def parameters(self, uniform):
        return uniform

    def __call__(self, pixels, parameters):
        self.seen.append(pixels.clone())
        return self.change(pixels)


def margin(transform, weight: float = 1.0) -> dict:
    return dict(type='MarginRatio', transform=transform, weight=weight)


@pytest.mark.parametrize('perturbation', [dict(type='Uniform', rho=0.3), dict(type='Gradient', rho=3.0)], ids=str)
def test_transformed_images_are_seen_with_the_perturbed_masks(perturbation):
    """A transform that changes nothing makes no difference to the perturbed pass, however far it moves."""
    losses = dict(TASK, stability=dict(type='Stability'), margin_ratio=margin(Arranged()))
    model = build(dict(WEIGHTS, perturbation=perturbation, losses=losses))
    found = model(**batch(), mode='loss')
    assert found['loss_stability'] > 1e-3
    assert found['loss_margin_ratio'] < 1e-3


def test_every_term_sees_its_own_transform():
    """A second margin ratio on black images; together they cost a pass each."""
    black = Arranged(torch.zeros_like)
    model = build(dict(WEIGHTS, losses=dict(same=margin(Arranged()), black=margin(black), off=margin(black, 0))))
    passes = []
    model.stem.register_forward_hook(lambda *_: passes.append(1))
    found = model(**batch(), mode='loss')
    assert found['loss_same'] < 1e-3 < found['loss_black']
    assert len(passes) == 4  # clean, perturbed, and two transformed
    assert len(black.seen) == 1


SHIFTED = dict(type='ImgDataPreprocessor', mean=[100.0, 110.0, 120.0], std=[50.0, 60.0, 70.0])


@pytest.mark.parametrize('preprocessor', [None, SHIFTED], ids=['plain', 'normalised'])
def test_transforms_see_the_pixels_of_the_pipeline(preprocessor):
    """Divided by 255, whatever the preprocessor takes off; and what they give is put back on its scale."""
    transform = Arranged()
    model = build(dict(WEIGHTS, losses=dict(m=margin(transform))), data_preprocessor=preprocessor)
    reached = []
    model.stem.register_forward_pre_hook(lambda module, arguments: reached.append(arguments[0].clone()))
    images = torch.randint(256, (4, 3, 8, 8), dtype=torch.uint8, generator=torch.Generator().manual_seed(0))
    given = list(images) if preprocessor else images.float()
    model.train_step(dict(inputs=given, data_samples=torch.arange(4) % 3), wrapper_of(model))
    torch.testing.assert_close(transform.seen[0], images.float() / 255)
    torch.testing.assert_close(reached[-1], reached[0], rtol=1e-4, atol=1e-3)


@pytest.mark.parametrize(
    ('preprocessor', 'images', 'words'),
    [
        (dict(SHIFTED, mean=[0.5] * 3, std=[0.25] * 3), torch.rand(4, 3, 8, 8), 'ImgDataPreprocessor .mean=.*8 bits'),
        (None, torch.randn(4, 3, 8, 8), 'BaseDataPreprocessor .no mean and std'),
        (SHIFTED, torch.rand(4, 3, 8, 8) * 65535, 'the pixels of the batch lie from'),
    ],
    ids=['shares of white', 'standardised', '16 bits'],
)
def test_images_of_another_scale_are_not_transformed(preprocessor, images, words):
    """By the preprocessor and the range, with what to do; without a transform they are welcome."""
    model = build(data_preprocessor=preprocessor)
    data = dict(inputs=list(images) if preprocessor else images, data_samples=torch.arange(4) % 3)
    with pytest.raises(MmsharpError, match=words):
        model.train_step(data, wrapper_of(model))
    model = build(dict(WEIGHTS, losses=TASK), data_preprocessor=preprocessor)
    model.train_step(data, wrapper_of(model))


@MODELS.register_module(force=True)
class WithMargin(nn.Linear):
    """A head that gives the labelled class a harder time, in the loss alone, as ArcFace does."""

    def forward(self, inputs, labels=None):
        scores = super().forward(inputs)
        return scores if labels is None else scores - 3 * nn.functional.one_hot(labels, 3)


@MODELS.register_module(force=True)
class MarginClassifier(MODELS.get('SmallClassifier')):
    def __init__(self):
        super().__init__()
        self.head = WithMargin(10, 3)

    def forward(self, inputs, data_samples=None, mode='tensor'):
        features = self.dropout(self.inner(self.stem(inputs)).mean(dim=(2, 3)))
        if mode == 'loss':
            return dict(loss=nn.functional.cross_entropy(self.head(features, data_samples), data_samples))
        return self.head(features)


@pytest.mark.parametrize('name', ['Uniform', 'Gradient', 'None'])
def test_a_head_with_margins_is_compared_by_what_it_predicts(name):
    """The laws of no radius and of binary masks, which its loss pass would break; its loss has the margin."""
    perturbation = dict(type=name) if name == 'None' else dict(type=name, rho=0.0)
    search = dict(WEIGHTS, perturbation=perturbation)
    torch.manual_seed(0)
    model = MODELS.build(dict(type='mmsharp.MaskSearch', base='MarginClassifier', search=search)).train()
    model.begin_search()
    for mask in model.mask_search.by_name().values():
        mask.data.copy_(mask.round())
        mask.data.copy_(hard_mask(mask, mask.numel() - round(0.5 * mask.numel())))
    found = model(**batch(), mode='loss')
    assert found['loss_stability'] == 0
    assert found['loss_consistency'] == 0
    assert found['loss_task'] > 1.5


def test_some_radius_is_some_instability():
    """The other side of the law."""
    for name, rho in (('Uniform', 0.2), ('Gradient', 2.0)):
        model = build(dict(WEIGHTS, perturbation=dict(type=name, rho=rho)))
        assert model(**batch(), mode='loss')['loss_stability'] > 1e-4


@pytest.mark.parametrize('search', [WEIGHTS, CHANNELS], ids=['weights', 'channels'])
def test_a_binary_mask_is_consistent(search):
    """Zero consistency loss, and not before the mask is binary."""
    model = build(search)
    assert model(**batch(), mode='loss')['loss_consistency'] > 1e-4
    for name, variable in model.mask_search.by_name().items():
        variable.data.copy_(hard_mask(variable, model.mask_search.units.kept[name]))
    assert model(**batch(), mode='loss')['loss_consistency'] == 0


def loss_at(model, variables) -> torch.Tensor:
    """Cross-entropy with `w * clip(C)`, written out for a network without dropout."""
    x = batch()['inputs']
    stem, inner, head = (clipped.clamp(0, 1) for clipped in variables)
    x = nn.functional.conv2d(x, model.stem[0].weight * stem, padding=1)
    x = nn.functional.batch_norm(x, None, None, model.stem[1].weight, model.stem[1].bias, training=True).relu()
    x = nn.functional.conv2d(x, model.inner[0].weight * inner, padding=1)
    x = nn.functional.batch_norm(x, None, None, model.inner[1].weight, model.inner[1].bias, training=True).relu()
    scores = nn.functional.linear(x.mean(dim=(2, 3)), model.head.weight * head, model.head.bias)
    return nn.functional.cross_entropy(scores, batch()['data_samples'])


def test_the_gradient_perturbation_is_sam_on_masks():
    """The gradient of the step is that of the loss at `clip(C + rho g / ||g||)`, with `g` the gradient at `C`."""
    rho = 0.5
    search = dict(ratio=0.5, losses=TASK, perturbation=dict(type='Gradient', rho=rho))
    model = build(search, dropout=0.0)
    model.begin_search()
    variables = [variable.detach().clone().requires_grad_() for variable in model.mask_search.by_name().values()]
    # The gradient passes through the clipping, so that it is taken inside of it.
    inside = [variable.detach().clamp(0, 1).requires_grad_() for variable in variables]
    gradients = torch.autograd.grad(loss_at(model, inside), inside)
    norm = sum(gradient.square().sum() for gradient in gradients).sqrt()
    moved = [(v + rho * g / (norm + 1e-12)).detach().clamp(0, 1).requires_grad_() for v, g in zip(variables, gradients)]
    expected = torch.autograd.grad(loss_at(model, moved), moved)

    sum(model(**batch(), mode='loss').values()).backward()
    for variable, gradient in zip(model.mask_search.by_name().values(), expected):
        torch.testing.assert_close(variable.grad, gradient, rtol=1e-4, atol=1e-7)


def test_all_passes_see_the_same_batch():
    """Only the transformed pass gets other images, from the same batch; nothing given is changed."""
    model = build()
    seen = []
    model.stem.register_forward_pre_hook(lambda module, arguments: seen.append(arguments[0].clone()))
    given = batch()
    model(**given, mode='loss')
    assert len(seen) == 4
    assert sum(torch.equal(images, given['inputs']) for images in seen) == 3
    assert torch.equal(given['inputs'], batch()['inputs'])


def test_a_pass_that_nobody_asks_for_is_not_made():
    """HYDRA's search costs one pass."""
    model = build(dict(WEIGHTS, parameterisation=dict(type='Score'), perturbation=dict(type='None'), losses=TASK))
    seen = []
    model.stem.register_forward_hook(lambda *_: seen.append(1))
    losses = model(**batch(), mode='loss')
    assert len(seen) == 1
    assert list(losses) == ['loss_task']


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


@pytest.mark.parametrize('missing', ['base', 'search'])
def test_what_is_missing_is_named(missing):
    """With an example."""
    config = dict(type='mmsharp.MaskSearch', base='SmallClassifier', search=WEIGHTS)
    del config[missing]
    with pytest.raises(MmsharpError, match=f"'{missing}' is missing.*search=dict\\(ratio=0.5"):
        MODELS.build(config)


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
    assert 'collapsed to a constant prediction' in said[0]


def test_the_config_is_left_as_it_was():
    """Two models from one config, alike."""
    config = ConfigDict(type='mmsharp.MaskSearch', base='SmallClassifier', search=copy.deepcopy(CHANNELS), width=8)
    before = copy.deepcopy(config)
    first, second = MODELS.build(config), MODELS.build(config)
    assert config == before
    assert first.mask_search.units.shapes == second.mask_search.units.shapes
    assert first.stem[0].out_channels == 8


@pytest.mark.parametrize(
    ('search', 'words'),
    [
        (dict(), 'exactly one of them'),
        (dict(ratio=0.5, budget=dict(params=0.4)), 'exactly one of them'),
        (dict(ratio=1.0), 'search.ratio is 1.0'),
        (dict(ratio=True), 'search.ratio is True'),
        (dict(WEIGHTS, granularity='layer'), "'weight', 'channel'"),
        (dict(WEIGHTS, ratoi=0.5), 'search.ratoi is unknown; accepted: granularity, ratio'),
        (dict(budget=dict(params=0.4)), "for granularity='channel'"),
        (dict(CHANNELS, input_shape=None), r'give \(channels, height, width\)'),
        (dict(CHANNELS, ratio=None, budget=dict(latency=0.5)), 'budget of latency'),
        (dict(CHANNELS, round_to=0), 'search.round_to is 0'),
        (dict(CHANNELS, round_to=8), 'round_to is 8, and search.ratio=0.5 is met exactly'),
        (dict(WEIGHTS, ratio=0.99, parameterisation=dict(type='Score')), "of 'head.weight'; remove less"),
        (dict(WEIGHTS, ignore='head'), "search.ignore is 'head'"),
        (dict(WEIGHTS, train_norms=1), 'search.train_norms is 1'),
        (dict(WEIGHTS, losses=dict()), 'nothing would be learned'),
        (dict(WEIGHTS, losses=dict(task=dict(type='Task', weight=0))), 'nothing would be learned'),
        (dict(WEIGHTS, losses=dict(a=dict(type='Nothing'))), "'Nothing' is unknown; accepted: Consistency, L1"),
        (dict(WEIGHTS, losses=[]), r'search.losses is \[\]'),
        (dict(WEIGHTS, perturbation=dict(type='Normal')), "'Normal' is unknown; accepted: Gradient, None, Uniform"),
        (dict(WEIGHTS, perturbation='Uniform'), 'is no perturbation'),
        (dict(WEIGHTS, perturbation=dict(type='Uniform', radius=1)), 'radius'),
        (
            dict(WEIGHTS, perturbation=dict(type='Gradient'), losses=dict(s=dict(type='Stability'))),
            'add Task or MarginRatio',
        ),
        (dict(WEIGHTS, collapse=dict(share=0.9)), 'search.collapse'),
        (dict(WEIGHTS, collapse=dict(window=1)), 'window is 1'),
        ('half', "search is 'half'"),
    ],
)
def test_wrong_settings_are_refused(search, words):
    """At once, by name and value, with what is accepted."""
    with pytest.raises(MmsharpError, match=words):
        build(search)


@MODELS.register_module(force=True)
class WithoutHead(nn.Sequential):
    def __init__(self):
        super().__init__(nn.Linear(2, 2))


def test_other_models_are_refused():
    """By name."""
    with pytest.raises(MmsharpError, match='WithoutHead has neither the head of a classifier'):
        MODELS.build(dict(type='mmsharp.MaskSearch', base='WithoutHead', search=WEIGHTS))


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
