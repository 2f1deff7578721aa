"""Laws of the measured sharpness."""

import copy

import pytest
import torch
from torch import nn
from torch.utils.checkpoint import checkpoint

from mmsharp.errors import MmsharpError
from mmsharp.sharpness import measure_sharpness

CURVATURE = torch.diag(torch.tensor([4.0, 1.0, 0.25]))


class Quadratic(nn.Module):
    """L(w) = 1/2 (w - c)^T A (w - c), with A diagonal: its maximum over a ball is known."""

    def __init__(self, start):
        super().__init__()
        self.weight = nn.Parameter(torch.tensor(start))


def loss(model):
    return 0.5 * model.weight @ CURVATURE @ model.weight


def test_at_a_minimum_projected_ascent_finds_the_largest_eigenvalue():
    """max over ||eps|| <= rho of 1/2 eps^T A eps is 1/2 rho^2 lambda_max; many steps find it."""
    model = Quadratic([1e-3, 1e-3, 1e-3])
    found = measure_sharpness(model, [loss], rho=0.5, steps=40)
    assert found.value == pytest.approx(0.5 * 0.25 * 4.0, rel=0.01)


def test_one_step_is_sam_written_out():
    """eps = rho g / ||g||, also for the mean over batches; one eps for all of them."""
    model = Quadratic([1.0, 2.0, -1.0])
    losses = [loss, lambda model: model.weight.square().sum()]
    gradient = 0.5 * (CURVATURE @ model.weight + 2 * model.weight).detach()
    moved = Quadratic((model.weight + 0.3 * gradient / gradient.norm()).tolist())
    expected = sum(part(moved) - part(model) for part in losses).item() / 2
    found = measure_sharpness(model, losses, rho=0.3)
    assert found.value == pytest.approx(expected, rel=1e-5)
    assert found.steps == 1


def test_more_steps_find_no_less_and_stay_in_the_ball():
    """The worst point on the way counts, and no point leaves the ball."""
    torch.manual_seed(0)
    model = nn.Sequential(nn.Linear(4, 8), nn.Tanh(), nn.Linear(8, 1))
    inputs = torch.randn(16, 4)
    distances = []
    before = torch.cat([p.detach().flatten() for p in model.parameters()])

    def far(model):
        distances.append((torch.cat([p.detach().flatten() for p in model.parameters()]) - before).norm().item())
        return model(inputs).square().mean()

    values = [measure_sharpness(model, [far], rho=0.5, steps=steps).value for steps in (1, 5, 20)]
    assert values[0] <= values[1] * 1.001
    assert values[1] <= values[2] * 1.001
    assert max(distances) <= 0.5 * 1.0001


def test_the_adaptive_ball_does_not_see_the_scale_of_a_layer():
    """ASAM's law: (w_1 * a, w_2 / a) computes the same and is as sharp; in the plain ball it is not."""
    torch.manual_seed(0)
    model = nn.Sequential(nn.Linear(4, 8, bias=False), nn.ReLU(), nn.Linear(8, 1, bias=False)).double()
    rescaled = copy.deepcopy(model)
    rescaled[0].weight.data.mul_(4)
    rescaled[2].weight.data.div_(4)
    inputs = torch.randn(16, 4).double()
    losses = [lambda model: (model(inputs) - 1).square().mean()]
    for steps in (1, 6):
        first, second = (measure_sharpness(m, losses, rho=0.2, steps=steps, eta=0.0).value for m in (model, rescaled))
        assert first == pytest.approx(second, rel=1e-6)
    assert measure_sharpness(model, losses, rho=0.2).value != pytest.approx(
        measure_sharpness(rescaled, losses, rho=0.2).value, rel=0.05
    )


def test_the_model_is_left_bitwise_as_it_was():
    """Weights, statistics, gradients; also when a loss raises."""
    model = nn.Sequential(nn.Linear(2, 3), nn.BatchNorm1d(3))
    before = copy.deepcopy(model.state_dict())
    inputs = torch.randn(4, 2)
    measure_sharpness(model, [lambda model: model(inputs).pow(3).mean().abs() + 1], steps=3)
    with pytest.raises(MmsharpError, match='nan'):
        measure_sharpness(model, [lambda model: model(inputs).sum() * torch.nan])
    assert all(torch.equal(value, before[key]) for key, value in model.state_dict().items())
    assert all(parameter.grad is None for parameter in model.parameters())


@pytest.mark.parametrize(
    ('arguments', 'words'),
    [(dict(rho=-1), 'rho=-1'), (dict(steps=0), 'steps=0'), (dict(eta='a'), "eta='a'"), (dict(parameters=['x']), 'x')],
)
def test_arguments_are_checked(arguments, words):
    """By name."""
    with pytest.raises(MmsharpError, match=words):
        measure_sharpness(Quadratic([1.0, 1.0, 1.0]), [loss], **arguments)


def test_losses_that_say_nothing_are_refused():
    """None at all, or one that no parameter enters."""
    with pytest.raises(MmsharpError, match='empty'):
        measure_sharpness(Quadratic([1.0, 1.0, 1.0]), [])
    with pytest.raises(MmsharpError, match='no parameter'):
        measure_sharpness(Quadratic([1.0, 1.0, 1.0]), [lambda model: torch.ones(())])


@pytest.mark.parametrize('steps', [1, 3])
@pytest.mark.parametrize('bad', [torch.inf, torch.nan])
def test_a_loss_that_is_infinite_nearby_is_infinitely_sharp(steps, bad):
    """A number to print and to compare, not the end of a series of radii."""
    model = Quadratic([1.0, 1.0, 1.0])
    start = [parameter.detach().clone() for parameter in model.parameters()]

    def cliff(model):
        moved = any(not torch.equal(p, s) for p, s in zip(model.parameters(), start))
        return loss(model) * (bad if moved else 1.0)

    reading = measure_sharpness(model, [cliff], rho=0.1, steps=steps)
    assert reading.perturbed_loss == reading.value == float('inf')


@pytest.mark.parametrize('reentrant', [True, False])
def test_activation_checkpoints_change_nothing(reentrant):
    """Models of the toolboxes with with_cp=True reenter autograd, which torch.autograd.grad refuses."""
    torch.manual_seed(0)
    layers = nn.Sequential(nn.Linear(4, 8), nn.Tanh(), nn.Linear(8, 1))
    inputs = torch.randn(16, 4, requires_grad=True)
    stored = [lambda model: model(inputs).square().mean()]
    recomputed = [lambda model: checkpoint(model, inputs, use_reentrant=reentrant).square().mean()]
    assert measure_sharpness(layers, recomputed, steps=3) == measure_sharpness(layers, stored, steps=3)
