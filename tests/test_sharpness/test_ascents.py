"""Laws of every registered ascent, and each of them against its formula written longhand."""

import copy

import pytest
import torch
from torch import nn

from mmsharp.errors import MmsharpError
from mmsharp.registry import ASCENTS, build_part
from mmsharp.sharpness import ASAM, SAM, AdaSAP, Ascent, MomentumSAM, select_parameters

ALL_ASCENTS = sorted(ASCENTS.module_dict)


def small_network() -> nn.Module:
    torch.manual_seed(0)
    return nn.Sequential(
        nn.Conv2d(2, 4, 3), nn.BatchNorm2d(4), nn.ReLU(), nn.ConvTranspose2d(4, 3, 2), nn.Flatten(), nn.Linear(27, 2)
    )


def gradients_of(model: nn.Module, parameters):
    torch.manual_seed(1)
    loss = model(torch.randn(5, 2, 4, 4)).square().mean()
    return [g.clone() for g in torch.autograd.grad(loss, [parameter.tensor for parameter in parameters])]


def perturbation(ascent: Ascent, model: nn.Module, scale: float = 1.0, keep=None, which: str | None = None):
    parameters = select_parameters(model, which or ascent.default_parameters)
    gradients = [gradient * scale for gradient in gradients_of(model, parameters)]
    masks = [None] * len(gradients) if keep is None else [keep.get(parameter.name) for parameter in parameters]
    reading = ascent.perturb_(parameters, gradients, masks)
    return {parameter.name: gradient for parameter, gradient in zip(parameters, gradients)}, reading


@pytest.mark.parametrize('name', ALL_ASCENTS)
def test_ascent_is_invariant_to_a_positive_scale_of_the_gradient(name):
    """eps(c g) = eps(g) for c > 0: loss scaling and accumulation do not change the ball."""
    model = small_network()
    once, _ = perturbation(build_part(ASCENTS, dict(type=name)), model)
    scaled, _ = perturbation(build_part(ASCENTS, dict(type=name)), model, scale=512.0)
    for key in once:
        torch.testing.assert_close(once[key], scaled[key])


@pytest.mark.parametrize('name', ALL_ASCENTS)
def test_ascent_raises_the_loss_to_first_order(name):
    """<g, eps> > 0: the step goes uphill; along the momentum it goes ahead, <v, eps> < 0."""
    model = small_network()
    ascent = build_part(ASCENTS, dict(type=name))
    parameters = select_parameters(model, ascent.default_parameters)
    gradients = gradients_of(model, parameters)
    eps, _ = perturbation(ascent, model)
    slope = sum((eps[p.name] * g).sum() for p, g in zip(parameters, gradients))
    assert slope > 0 if ascent.direction == 'gradient' else slope < 0


@pytest.mark.parametrize('name', ALL_ASCENTS)
def test_ascent_leaves_pruned_positions_where_they_are(name):
    """eps = 0 wherever the mask is 0, and not everywhere else."""
    model = small_network()
    mask = torch.tensor([1.0, 0.0, 1.0, 0.0]).reshape(4, 1, 1, 1)
    eps, _ = perturbation(build_part(ASCENTS, dict(type=name)), model, keep={'0.weight': mask})
    assert torch.all(eps['0.weight'][[1, 3]] == 0)
    assert torch.all(eps['0.weight'][[0, 2]].flatten(1).norm(dim=1) > 0)


@pytest.mark.parametrize('name', ALL_ASCENTS)
def test_zero_gradient_gives_zero_and_not_nan(name):
    """0/0 does not happen: a dead network is not perturbed."""
    model = small_network()
    eps, _ = perturbation(build_part(ASCENTS, dict(type=name)), model, scale=0.0)
    assert all(torch.all(value == 0) for value in eps.values())


@pytest.mark.parametrize('name', ALL_ASCENTS)
def test_ascent_does_not_change_the_weights(name):
    """perturb_ writes into the gradients alone."""
    model = small_network()
    before = copy.deepcopy(model.state_dict())
    ascent = build_part(ASCENTS, dict(type=name))
    parameters = select_parameters(model, ascent.default_parameters)
    ascent.perturb_(parameters, [torch.ones_like(p.tensor) for p in parameters], [None] * len(parameters))
    assert all(torch.equal(value, before[key]) for key, value in model.state_dict().items())


@pytest.mark.parametrize('name', ALL_ASCENTS)
def test_building_twice_from_one_config_gives_the_same_and_leaves_it_alone(name):
    """Configs are data."""
    config = dict(type=f'mmsharp.{name}')
    first, second = build_part(ASCENTS, config), build_part(ASCENTS, config)
    assert config == dict(type=f'mmsharp.{name}')
    assert type(first) is type(second)
    assert vars(first).keys() == vars(second).keys()


def test_sam_equals_its_formula():
    """eps = rho g / ||g|| with one norm over everything."""
    model = small_network()
    parameters = select_parameters(model, 'all')
    gradients = gradients_of(model, parameters)
    norm = torch.cat([gradient.flatten() for gradient in gradients]).norm()
    eps, reading = perturbation(SAM(rho=0.3), model)
    for parameter, gradient in zip(parameters, gradients):
        torch.testing.assert_close(eps[parameter.name], 0.3 * gradient / norm)
    torch.testing.assert_close(reading.gradient_norm, norm)


def test_asam_equals_its_formula():
    """eps = rho T^2 g / ||T g||, T = |w| + eta for weights and 1 for biases."""
    model = small_network()
    parameters = select_parameters(model, 'all')
    gradients = gradients_of(model, parameters)
    operators = [
        parameter.tensor.detach().abs() + 0.01 if parameter.name.endswith('weight') else torch.ones_like(gradient)
        for parameter, gradient in zip(parameters, gradients)
    ]
    norm = torch.cat([(t * g).flatten() for t, g in zip(operators, gradients)]).norm()
    eps, _ = perturbation(ASAM(rho=0.5, eta=0.01), model)
    for parameter, gradient, operator in zip(parameters, gradients, operators):
        torch.testing.assert_close(eps[parameter.name], 0.5 * operator**2 * gradient / norm)


def longhand_adasap(weight, gradient, axis, rho_min, rho_max, eta, form, denominator=None, power=1):
    """Channel by channel, in loops, the absolute form: eps_i = rho_i T^2 g_i / ||T g_i||, or below T^2 g_i."""
    channels = [(weight.select(axis, i), gradient.select(axis, i)) for i in range(weight.shape[axis])]
    scores = [w.norm().item() for w, _ in channels]
    low, high = min(scores), max(scores)
    result = torch.zeros_like(gradient)
    for i, (w, g) in enumerate(channels):
        rho = rho_max - (scores[i] - low) / (high - low) * (rho_max - rho_min)
        operator = w.abs() + eta if form == 'asam' else torch.ones_like(w)
        below = (operator**power * g).norm() if denominator is None else denominator
        result.select(axis, i).copy_(rho * operator**2 * g / below)
    return result


@pytest.mark.parametrize('form', ['asam', 'sam'])
@pytest.mark.parametrize('norm_scope', ['neuron', 'layer', 'global'])
@pytest.mark.parametrize(('below', 'power'), [(None, 1), ('Tg', 1), ('T2g', 2)])
def test_adasap_equals_its_formula(form, norm_scope, below, power):
    """Every channel has its own radius; transposed convolutions count channels along axis 1."""
    model = small_network()
    parameters = select_parameters(model, 'weights')
    gradients = gradients_of(model, parameters)
    scaled = [
        (p.tensor.detach().abs() + 0.01) ** power * g if form == 'asam' else g for p, g in zip(parameters, gradients)
    ]
    everywhere = torch.cat([value.flatten() for value in scaled]).norm()
    ascent = AdaSAP(0.1, 1.0, form=form, norm_scope=norm_scope, eta=0.01, radius='absolute', denominator=below)
    eps, _ = perturbation(ascent, model)
    assert [parameter.name for parameter in parameters] == ['0.weight', '3.weight', '5.weight']
    for parameter, gradient, value in zip(parameters, gradients, scaled):
        denominator = {'neuron': None, 'layer': value.norm(), 'global': everywhere}[norm_scope]
        axis = 1 if parameter.name == '3.weight' else 0
        weight = parameter.tensor.detach()
        expected = longhand_adasap(weight, gradient, axis, 0.1, 1.0, 0.01, form, denominator, power)
        torch.testing.assert_close(eps[parameter.name], expected)


def longhand_relative_adasap(weight, gradient, axis, rho_min, rho_max, eta, form, over=None, under=None):
    """Channel by channel, in loops: eps_i = rho_i ||w|| T^2 g_i / ||T^2 g||, T = |w| + eta rms(w)."""
    channels = [(weight.select(axis, i), gradient.select(axis, i)) for i in range(weight.shape[axis])]
    scores = [w.norm().item() for w, _ in channels]
    low, high = min(scores), max(scores)
    result = torch.zeros_like(gradient)
    for i, (w, g) in enumerate(channels):
        rho = rho_max - (scores[i] - low) / (high - low) * (rho_max - rho_min)
        floor = eta * (w if over is None else weight).square().mean().sqrt()
        direction = (w.abs() + floor) ** 2 * g if form == 'asam' else g
        unit, length = (w.norm(), direction.norm()) if over is None else (over, under)
        result.select(axis, i).copy_(rho * unit * direction / length)
    return result


@pytest.mark.parametrize('form', ['asam', 'sam'])
@pytest.mark.parametrize('norm_scope', ['neuron', 'layer', 'global'])
def test_relative_adasap_equals_its_formula(form, norm_scope):
    """The radius is a share of the weights' norm over the scope, whatever their scale."""
    model = small_network()
    parameters = select_parameters(model, 'weights')
    gradients = gradients_of(model, parameters)
    weights = [parameter.tensor.detach() for parameter in parameters]
    directions = [
        (w.abs() + 0.3 * w.square().mean().sqrt()) ** 2 * g if form == 'asam' else g for w, g in zip(weights, gradients)
    ]
    over, under = (torch.cat([value.flatten() for value in values]).norm() for values in (weights, directions))
    ascent = AdaSAP(0.1, 1.0, form=form, norm_scope=norm_scope, eta=0.3)
    eps, _ = perturbation(ascent, model)
    for parameter, gradient, direction in zip(parameters, gradients, directions):
        weight = parameter.tensor.detach()
        norms = {'neuron': (None, None), 'layer': (weight.norm(), direction.norm()), 'global': (over, under)}
        axis = 1 if parameter.name == '3.weight' else 0
        expected = longhand_relative_adasap(weight, gradient, axis, 0.1, 1.0, 0.3, form, *norms[norm_scope])
        torch.testing.assert_close(eps[parameter.name], expected)


@pytest.mark.parametrize('norm_scope', ['neuron', 'layer', 'global'])
@pytest.mark.parametrize('form', ['asam', 'sam'])
def test_a_relative_radius_knows_no_scale(form, norm_scope):
    """A network whose weights are c times as large, and gradients 1/c, moves c times as far: one default for all."""
    weight, gradient = (torch.randn(4, 3, 3, 3, generator=torch.Generator().manual_seed(seed)) for seed in (0, 1))
    moved = []
    for scale in (1.0, 1e-3, 50.0):
        layer = nn.Conv2d(3, 4, 3, bias=False)
        layer.weight.data = weight * scale
        eps = gradient / scale
        AdaSAP(form=form, norm_scope=norm_scope).perturb_(select_parameters(layer, 'weights'), [eps], [None])
        moved.append(eps / scale)
    torch.testing.assert_close(moved[1], moved[0])
    torch.testing.assert_close(moved[2], moved[0])


def test_a_relative_radius_is_the_share_that_a_filter_moves_by():
    """Depth-wise filters of 9 weights and wide ones of 4608 move by the same share of their norm."""
    for layer in (nn.Conv2d(32, 32, 3, groups=32, bias=False), nn.Conv2d(512, 8, 3, bias=False)):
        gradient = torch.randn_like(layer.weight)
        AdaSAP(0.05, 0.05).perturb_(select_parameters(layer, 'weights'), [gradient], [None])
        shares = gradient.flatten(1).norm(dim=1) / layer.weight.detach().flatten(1).norm(dim=1)
        torch.testing.assert_close(shares, torch.full_like(shares, 0.05))


def test_a_channel_of_zeros_has_no_relative_radius():
    """Nothing of nothing, and no division by it."""
    layer = nn.Linear(4, 2, bias=False)
    nn.init.zeros_(layer.weight)
    gradient = torch.ones(2, 4)
    AdaSAP().perturb_(select_parameters(layer, 'weights'), [gradient], [None])
    assert gradient.tolist() == [[0.0] * 4] * 2


def test_adasap_scales_every_parameter_whatever_it_is_called():
    """A table of positions is no `weight` by name; moved by its radius without a scale it would be destroyed."""
    model = nn.Module()
    model.table = nn.Parameter(0.02 * torch.randn(3, 5, generator=torch.Generator().manual_seed(0)))
    (parameter,) = select_parameters(model, 'weights')
    gradient = torch.randn(3, 5, generator=torch.Generator().manual_seed(1))
    for scope in ('neuron', 'layer'):
        eps = gradient.clone()
        AdaSAP(0.1, 1.0, eta=0.01, norm_scope=scope, radius='absolute').perturb_([parameter], [eps], [None])
        scaled = (model.table.detach().abs() + 0.01) * gradient
        denominator = None if scope == 'neuron' else scaled.norm()
        expected = longhand_adasap(model.table.detach(), gradient, 0, 0.1, 1.0, 0.01, 'asam', denominator)
        torch.testing.assert_close(eps, expected)


def test_adasap_in_half_precision_leaves_channels_without_gradient_alone():
    """1e-12 is nothing there, and 0 / 0 no number."""
    layer = nn.Linear(4, 3).half()
    gradient = torch.randn(3, 4).half()
    gradient[1] = 0
    AdaSAP().perturb_(select_parameters(layer, 'weights'), [gradient], [None])
    assert gradient.isfinite().all()
    assert not gradient[1].any()
    assert gradient[0].any()


def test_adasap_scores_over_the_whole_network_on_request():
    """score_scope='global': the extremes are those of all channels together."""
    model = small_network()
    parameters = select_parameters(model, 'weights')
    gradients = gradients_of(model, parameters)
    scores = torch.cat([p.tensor.detach().movedim(p.channel_axis, 0).flatten(1).norm(dim=1) for p in parameters])
    eps, _ = perturbation(AdaSAP(0.1, 1.0, form='sam', score_scope='global', radius='absolute'), model)
    for parameter, gradient in zip(parameters, gradients):
        for i in range(gradient.shape[parameter.channel_axis]):
            own = parameter.tensor.detach().select(parameter.channel_axis, i).norm()
            expected = 1.0 - (own - scores.min()) / (scores.max() - scores.min()) * 0.9
            torch.testing.assert_close(eps[parameter.name].select(parameter.channel_axis, i).norm(), expected)
            assert gradient.norm() > 0


def test_adasap_extremes_ignore_pruned_channels():
    """A pruned channel scores 0; counted, it would pin s_min and shrink every other radius."""
    layer = nn.Linear(2, 3, bias=False)
    layer.weight.data = torch.tensor([[0.0, 0.0], [1.0, 0.0], [2.0, 0.0]])
    gradient = torch.ones(3, 2)
    mask = torch.tensor([[0.0], [1.0], [1.0]])
    for scope in ('layer', 'global'):
        moved = gradient.clone()
        ascent = AdaSAP(0.1, 1.0, form='sam', radius='absolute', score_scope=scope)
        reading = ascent.perturb_(select_parameters(layer), [moved], [mask])
        torch.testing.assert_close(moved.norm(dim=1), torch.tensor([0.0, 1.0, 0.1]))
        torch.testing.assert_close(reading.radius, torch.tensor(0.55))  # the mean of those that move


def test_scores_stand_for_an_interval():
    """Two perturbations by the scores of the first, the third by its own; and at once where channels have gone."""
    layer = nn.Linear(2, 2, bias=False)
    ascent = AdaSAP(0.1, 1.0, form='sam', radius='absolute', score_interval=2)

    def radii(*lengths):
        layer.weight = nn.Parameter(torch.tensor([[length, 0.0] for length in lengths]))
        gradient = torch.ones(len(lengths), 2)
        ascent.perturb_(select_parameters(layer), [gradient], [None])
        return [round(radius, 4) for radius in gradient.norm(dim=1).tolist()]

    assert [radii(1.0, 2.0), radii(2.0, 1.0), radii(2.0, 1.0)] == [[1.0, 0.1], [1.0, 0.1], [0.1, 1.0]]
    assert radii(1.0, 2.0, 3.0) == [1.0, 0.55, 0.1]


def test_scores_that_a_criterion_does_not_give_yet_do_not_stand():
    """Filters are looked at meanwhile, and the criterion as soon as it says something, from where that stands."""
    ascent = AdaSAP(0.1, 1.0, form='sam', radius='absolute', score=dict(type='Magnitude'), score_interval=3)
    layer = nn.Linear(2, 2, bias=False)
    layer.weight = nn.Parameter(torch.tensor([[1.0, 0.0], [2.0, 0.0]]))
    answers = iter([None, torch.tensor([9.0, 1.0]), torch.tensor([1.0, 9.0])])
    ascent.score_by = lambda parameter: next(answers)
    radii = []
    for _ in range(5):
        gradient = torch.ones(2, 2)
        ascent.perturb_(select_parameters(layer), [gradient], [None])
        radii.append([round(radius, 4) for radius in gradient.norm(dim=1).tolist()])
    assert radii == [[1.0, 0.1], [0.1, 1.0], [0.1, 1.0], [0.1, 1.0], [1.0, 0.1]]


@pytest.mark.parametrize('nested', [False, True])
def test_an_interval_goes_on_where_it_was(nested):
    """From a state, also of an ascent inside of another, which is a copy of its own."""

    def make():
        inner = AdaSAP(0.1, 1.0, form='sam', radius='absolute', score_interval=2)
        return MomentumSAM(inner) if nested else inner

    layer = nn.Linear(2, 2, bias=False)

    def radii(ascent, *lengths):
        layer.weight = nn.Parameter(torch.tensor([[length, 0.0] for length in lengths]))
        gradient = torch.ones(len(lengths), 2)
        ascent.perturb_(select_parameters(layer), [gradient], [None])
        return [round(radius, 4) for radius in gradient.norm(dim=1).tolist()]

    first, second = make(), make()
    radii(first, 1.0, 2.0)
    second.load_state_dict(first.state_dict())
    radii(first, 2.0, 1.0)
    assert [radii(second, 2.0, 1.0) for _ in range(2)] == [[1.0, 0.1], [0.1, 1.0]]


def test_equal_scores_all_get_the_largest_radius():
    """Where s_max = s_min the paper is silent; a division by zero is not an answer."""
    layer = nn.Linear(2, 3, bias=False)
    nn.init.ones_(layer.weight)
    gradient = torch.ones(3, 2)
    AdaSAP(0.1, 1.0, form='sam', radius='absolute').perturb_(select_parameters(layer), [gradient], [None])
    torch.testing.assert_close(gradient.norm(dim=1), torch.ones(3))


@pytest.mark.parametrize(
    ('config', 'words'),
    [
        (dict(type='SAM', rho=-0.1), ['rho', '-0.1']),
        (dict(type='SAM', rho='big'), ['rho', 'big']),
        (dict(type='SAM', rho=float('nan')), ['rho', 'nan']),
        (dict(type='SAM', rho=True), ['rho', 'True']),
        (dict(type='ASAM', eta=-1), ['eta', '-1']),
        (dict(type='AdaSAP', rho_min=1.0, rho_max=0.5), ['rho_min', 'rho_max']),
        (dict(type='AdaSAP', radius='scaled'), ['radius', 'scaled', 'relative', 'absolute']),
        (dict(type='AdaSAP', form='other'), ['form', 'other', 'asam']),
        (dict(type='AdaSAP', radius='absolute', denominator='g'), ['denominator', "'g'", 'Tg', 'T2g']),
        (dict(type='AdaSAP', denominator='Tg'), ['denominator', "'Tg'", 'absolute']),
        (dict(type='AdaSAP', norm_scope='other'), ['norm_scope', 'neuron']),
        (dict(type='AdaSAP', score='other'), ['score', 'l2']),
        (dict(type='AdaSAP', score_scope='other'), ['score_scope', 'layer']),
        (dict(type='AdaSAP', score_interval=0), ['score_interval', '0', 'at least 1']),
        (dict(type='AdaSAP', coupled='yes'), ['coupled', 'yes', 'True']),
        (dict(type='AdaSAP', coupled=True, score=len), ['coupled', 'len', 'l2']),
        (dict(type='Nothing'), ['Nothing', 'AdaSAP', 'SAM']),
        (dict(rho=0.1), ['type', 'SAM']),
        (dict(type='SAM', radius=0.1), ['radius', 'rho']),
    ],
)
def test_bad_values_are_refused_by_name(config, words):
    """The error names the argument, the value and what was accepted."""
    with pytest.raises(MmsharpError) as caught:
        build_part(ASCENTS, config)
    assert all(word in str(caught.value) for word in words)
