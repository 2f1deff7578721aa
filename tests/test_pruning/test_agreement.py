"""Laws of agreement: what is handed back was shown to agree in float64, and a failure takes only its own kind along."""

from collections.abc import Callable

import pytest
import torch
from torch import Tensor, nn

from mmsharp.errors import MmsharpError
from mmsharp.pruning import find_groups, tensor_forward
from mmsharp.pruning.agreement import OBVIOUS


class TwoLayers(nn.Module):
    """Three linear layers, and something done between them."""

    def __init__(self, between: Callable[[nn.Module, Tensor], Tensor]) -> None:
        super().__init__()
        self.a, self.b, self.c = nn.Linear(4, 12), nn.Linear(12, 12), nn.Linear(12, 2)
        self.between = between

    def forward(self, x: Tensor) -> Tensor:
        return self.c(self.between(self, self.b(self.a(x).relu())))


def reasons(between: Callable[[nn.Module, Tensor], Tensor]) -> tuple[list[str], dict[str, str]]:
    """Names of the groups of such a model, and why layers stay dense."""
    model = TwoLayers(between)
    found = find_groups(model, tensor_forward(torch.randn(3, 4, generator=torch.Generator().manual_seed(0))))
    return [group.name for group in found.groups], {layer.module: layer.reason for layer in found.dense}


def test_all_groups_agree() -> None:
    """Nothing is blamed where nothing is wrong."""
    assert reasons(lambda model, x: x.relu()) == (['a', 'b'], {'c': "reaches the model's outputs"})


@pytest.mark.parametrize('share', [OBVIOUS * 100, OBVIOUS / 100])
def test_wrong_by_little_is_wrong(share: float) -> None:
    """A factor that depends on a width, so weakly that float32 hides it: float64 decides about all groups."""
    groups, dense = reasons(lambda model, x: x * (1 + share * x.shape[-1]))
    assert groups == ['a']
    assert dense['b'].startswith('a slim copy differs from the masked model by')


@pytest.mark.parametrize('shape', [(), (1,), (1, 1)])
@pytest.mark.parametrize('gate', [0.0, 1.0, 1e-6])
def test_closed_gate_hides_nothing(shape: tuple[int, ...], gate: float) -> None:
    """A branch that a single number switches off at first, or the branch that takes its place."""

    def between(model: nn.Module, x: Tensor) -> Tensor:
        closed = 1 - model.gate if gate == 1 else model.gate
        return x + closed * x * x.shape[-1]

    model = TwoLayers(between)
    model.gate = nn.Parameter(torch.full(shape, gate))
    found = find_groups(model, tensor_forward(torch.randn(3, 4, generator=torch.Generator().manual_seed(0))))
    assert [group.name for group in found.groups] == ['a']
    assert model.gate.flatten().tolist() == torch.full((1,), gate).tolist()


DECIDES = {
    'comparison': lambda means: means > 0.1,
    'rounding': lambda means: (10 * means).long(),
    'top-k': lambda means: torch.zeros_like(means).scatter(0, means.topk(2, dim=0).indices, 1),
    'number': lambda means: int(10 * means.sum().item()),
}


@pytest.mark.parametrize('name', DECIDES)
def test_decisions_do_not_hide_what_they_are_taken_from(name: str) -> None:
    """A mean over as many channels as there are, which reaches the output through a decision only."""

    def between(model: nn.Module, x: Tensor) -> Tensor:
        return x.relu() * DECIDES[name](x.relu().sum(1, keepdim=True) / x.shape[1])

    groups, dense = reasons(between)
    assert groups == ['a']
    assert dense['b'].startswith('a slim copy decides on numbers that differ from those of the masked model by')


class Content(nn.Module):
    """Two layers, between which another thing happens to other inputs."""

    def __init__(self, is_other: Callable[[Tensor], Tensor], other: Callable[[Tensor], Tensor]) -> None:
        super().__init__()
        torch.manual_seed(0)  # among other weights are such that no channel which is kept is alive
        self.a, self.b, self.c = nn.Linear(4, 12), nn.Linear(12, 12), nn.Linear(12, 2)
        self.is_other, self.other = is_other, other

    def forward(self, x: Tensor) -> Tensor:
        y = self.a(x).relu()
        return self.c(self.b(self.other(y) if self.is_other(x) else y).relu())


@pytest.mark.parametrize(
    'other', [lambda x: x.flip(1), lambda x: x * x.shape[1], lambda x: x.view(-1, 3, 4).flatten(1)]
)
@pytest.mark.parametrize('start', [-1.0, 0.0, 1.0])
@pytest.mark.parametrize('limit', [-2, 0.5, 2])
def test_structure_that_depends_on_the_content_is_refused(other, start, limit) -> None:
    """On one side of a limit all is well, on the other channels are coupled otherwise; the model stays as it was."""
    images = torch.randn(3, 4, generator=torch.Generator().manual_seed(0)) + start
    given = bool(images.mean() > limit)
    model = Content(lambda x: bool(x.mean() > limit) != given, other)
    before = {name: value.clone() for name, value in model.state_dict().items()}
    with pytest.raises(MmsharpError, match='depends on the content of its input'):
        find_groups(model, tensor_forward(images))
    assert all(torch.equal(value, before[name]) for name, value in model.state_dict().items())


def test_what_is_wrong_by_little_on_the_given_input_is_no_branch() -> None:
    """Float64 shows it there, float32 on other inputs only: the layer stays dense, and the model is taken."""
    model = Content(lambda x: x.mean() < 1e9, lambda y: y * (1 + y.shape[1] * 1e-7 * model.size))
    model.a.register_forward_pre_hook(lambda module, given: setattr(model, 'size', float(given[0].abs().max()) ** 4))
    images = torch.randn(3, 4, generator=torch.Generator().manual_seed(0))
    assert [group.name for group in find_groups(model, tensor_forward(images)).groups] == ['b']


def test_branches_that_couple_alike_are_taken() -> None:
    """Numbers may well decide what is computed, as long as channels stay what they are."""
    model = Content(lambda x: x.mean() > 0, lambda x: 2 * x)
    found = find_groups(model, tensor_forward(torch.randn(3, 4, generator=torch.Generator().manual_seed(0))))
    assert [group.name for group in found.groups] == ['a', 'b']


def test_a_model_that_takes_no_other_input_is_not_refused() -> None:
    """Its own failure says nothing about slim copies."""

    def refuse(x: Tensor) -> Tensor:
        raise ValueError('not an image')

    model = Content(lambda x: x.mean().abs() > 2, refuse)
    found = find_groups(model, tensor_forward(torch.randn(3, 4, generator=torch.Generator().manual_seed(0))))
    assert [group.name for group in found.groups] == ['a', 'b']


def test_failure_names_the_error() -> None:
    """A reshape to a stored number blames the layer before it and no other."""
    groups, dense = reasons(lambda model, x: x.view(-1, 3, 4).relu().view(-1, 3 * 4))
    assert groups == ['a']
    assert dense['b'].startswith('a slim copy fails with RuntimeError: shape')


def test_even_numbers_only() -> None:
    """Code that takes no odd number of channels takes none of its groups either."""

    def between(model: nn.Module, x: Tensor) -> Tensor:
        if x.shape[-1] % 2:
            raise RuntimeError('odd')
        return x

    groups, dense = reasons(between)
    assert groups == ['a']
    assert dense['b'] == 'a slim copy fails with RuntimeError: odd'


def test_widths_that_shrink_together() -> None:
    """What needs another layer's width to be its own fails when one of them shrinks alone."""
    groups, dense = reasons(lambda model, x: x.view(-1, model.a.out_features))
    assert 'b' not in groups
    assert dense['b'].startswith('a slim copy fails with')
