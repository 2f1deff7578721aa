"""Laws of the passes of a step: the same batch, each with its masks, its images and what its term asks for."""

import pytest
import torch
from mmengine.registry import MODELS
from small_classifier import WEIGHTS, batch, build, wrapper_of
from torch import nn

from mmsharp.errors import MmsharpError
from mmsharp.pruning.mask_search import hard_mask
from mmsharp.pruning.mask_search.perturbations import GradientPerturbation

TERMS = dict(stability='Stability', margin_ratio='MarginRatio', consistency='Consistency', l1='L1', task='Task')
TASK = dict(task=dict(type='Task'))


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


FIVE = {name: dict(type=kind) for name, kind in TERMS.items()}


def ascent_of(monkeypatch, losses) -> dict[str, torch.Tensor]:
    """The `g` that the gradient perturbation is given in the first step."""
    seen = []
    plain = GradientPerturbation.__call__
    monkeypatch.setattr(
        GradientPerturbation, '__call__', lambda own, masks, g=None: seen.append(g) or plain(own, masks, g)
    )
    model = build(dict(WEIGHTS, losses=losses, perturbation=dict(type='Gradient', rho=0.5)), dropout=0.0)
    torch.manual_seed(1)
    found = model(**batch(), mode='loss')
    monkeypatch.undo()
    assert found['loss_stability'] > 0 if 'stability' in losses else 'loss_stability' not in found
    return seen[0]


def test_the_ascent_is_of_the_task_and_the_margin_ratio(monkeypatch):
    """With all five terms, `g` is the sum of the gradients of these two, and no other weight changes it."""
    together = ascent_of(monkeypatch, FIVE)
    alone = [ascent_of(monkeypatch, {name: FIVE[name]}) for name in ('task', 'margin_ratio')]
    for name, gradient in together.items():
        assert gradient.any()
        torch.testing.assert_close(gradient, alone[0][name] + alone[1][name], rtol=1e-4, atol=1e-6)
    for term in FIVE:
        heavier = ascent_of(monkeypatch, dict(FIVE, **{term: dict(FIVE[term], weight=7.0)}))
        same = all(torch.equal(heavier[name], together[name]) for name in together)
        assert same == (term not in ('task', 'margin_ratio')), term


@pytest.mark.parametrize('term', ['stability', 'consistency', 'l1'])
def test_the_other_terms_do_not_rise_with_the_perturbation(term):
    """That is why they are not in the ascent: alone they are refused with the gradient perturbation."""
    with pytest.raises(MmsharpError, match=r'no term of search\.losses says where it rises'):
        build(dict(WEIGHTS, losses={term: FIVE[term]}, perturbation=dict(type='Gradient')))


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


@pytest.mark.parametrize(('term', 'passes'), [('L1', 1), ('Consistency', 2), ('Stability', 2), ('Task', 2)])
def test_masks_are_perturbed_for_those_who_look(term, passes):
    """A term that compares the clean pass with others costs no perturbed one."""
    model, seen = build(dict(WEIGHTS, losses=dict(x=dict(type=term)))), []
    model.stem.register_forward_hook(lambda *_: seen.append(1))
    model(**batch(), mode='loss')
    assert len(seen) == passes
