"""Laws of agreement: what is handed back was shown to agree in float64, and a failure takes only its own kind along."""

import logging
import re
from collections.abc import Callable

import numpy as np
import pytest
import torch
from torch import Tensor, nn

from mmsharp.errors import MmsharpError
from mmsharp.pruning import find_groups, tensor_forward
from mmsharp.pruning.forwards import TensorForward
from mmsharp.pruning.forwards.contrasting_images import KINDS
from mmsharp.pruning.forwards.numbers_read import Reading
from mmsharp.pruning.groups.group_trial import OBVIOUS, Trial


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


class TwoConvolutions(nn.Module):
    """Between which channels are reversed for some images."""

    def __init__(self, is_other: Callable[[Tensor], object]) -> None:
        super().__init__()
        torch.manual_seed(0)
        self.a, self.b = nn.Conv2d(3, 8, 3), nn.Conv2d(8, 4, 3)
        self.is_other = is_other

    def forward(self, x: Tensor) -> Tensor:
        y = self.a(x).relu()
        return self.b(y.flip(1) if self.is_other(x) else y)


BRANCHES = {
    'faint': lambda x: x.std() < 0.1,
    'strong': lambda x: x.std().item() > 20,
    'one bright corner': lambda x: x[..., :4, :4].mean() > x.mean() + 1,
    'somewhat bright': lambda x: 0.2 < x.mean() < 0.9,
    'somewhat dark': lambda x: -0.9 < float(x.mean()) < -0.2,
    'dark': lambda x: x.mean() < -1,
    'by way of NumPy': lambda x: np.abs(x.numpy()).max() > 50,
}


@pytest.mark.parametrize(('spread', 'mean'), [(1, 0), (60, 120)], ids=['preprocessed', 'raw'])
@pytest.mark.parametrize('kind', BRANCHES)
def test_branches_on_images_unlike_the_given_one_are_refused(kind: str, spread: int, mean: int) -> None:
    """Whatever scale its images have, and with the line that decides; the model stays as it was."""
    model = TwoConvolutions(lambda x: BRANCHES[kind]((x - mean) / spread))
    before = {name: value.clone() for name, value in model.state_dict().items()}
    image = torch.randn(1, 3, 16, 16, generator=torch.Generator().manual_seed(0))
    assert not model.is_other(spread * image + mean)
    with pytest.raises(MmsharpError, match=r'depends on the content of its input.* reads numbers at .*test_agreement'):
        find_groups(model, tensor_forward(spread * image + mean))
    assert all(torch.equal(value, before[name]) for name, value in model.state_dict().items())


def test_lines_that_read_numbers_are_named(monkeypatch: pytest.MonkeyPatch) -> None:
    """A test that no trial meets is the reader's to look at; without one nothing is said, and nothing more tried."""
    said: list[str] = []
    levels: list[int] = []
    monkeypatch.setattr(
        'mmsharp.pruning.groups.group_trial.print_log', lambda text, _, level: (said.append(text), levels.append(level))
    )
    image = torch.randn(1, 3, 16, 16, generator=torch.Generator().manual_seed(0))
    rare = TwoConvolutions(lambda x: 0.111 < x.std() < 0.112)
    assert [group.name for group in find_groups(rare, tensor_forward(image)).groups] == ['a']
    assert len(said) == 1
    assert re.search(r'TwoConvolutions reads numbers out of its images at .*test_agreement\.py:\d+\. ', said[0])

    said.clear()
    plain = TwoConvolutions(lambda x: x.shape[2] > 20)
    monkeypatch.setattr(TensorForward, 'contrasting', lambda self: pytest.fail('tried'))
    assert [group.name for group in find_groups(plain, tensor_forward(image)).groups] == ['a']
    assert said == []

    levels.clear()
    monkeypatch.setattr(TensorForward, 'numbers_read', lambda self, model: [Reading('mmdet/models/a.py:1', True)])
    find_groups(nn.Sequential(nn.Conv2d(3, 4, 1), nn.Conv2d(4, 2, 1)), tensor_forward(image))
    assert levels == [logging.INFO]


def test_one_module_of_the_users_is_enough_to_look_for_branches(monkeypatch: pytest.MonkeyPatch) -> None:
    """Where the toolboxes' code reads numbers: what kernels compute hides who reads next."""
    monkeypatch.setattr(TensorForward, 'numbers_read', lambda self, model: [Reading('mmdet/models/a.py:1', True)])
    forward = tensor_forward(torch.randn(1, 3, 8, 8, generator=torch.Generator().manual_seed(0)))
    own = type('Own', (nn.ReLU,), {'__module__': 'my_detectors.heads'})
    for activation, every_kind, expected in ((nn.ReLU, False, False), (own, False, True), (nn.ReLU, True, True)):
        model = nn.Sequential(nn.Conv2d(3, 4, 1), activation(), nn.Conv2d(4, 2, 1))
        trial = Trial(model, find_groups(model, forward), forward, every_kind)
        trial.look_for_numbers()
        assert trial.may_branch == expected
    trial = Trial(torch.fx.symbolic_trace(model), find_groups(model, forward), forward)
    trial.look_for_numbers()
    assert trial.may_branch


def test_what_cannot_be_followed_is_tried_all_the_same(monkeypatch: pytest.MonkeyPatch) -> None:
    """Where nobody knows which numbers are read, that is said, and branches are looked for."""
    said: list[str] = []
    monkeypatch.setattr('mmsharp.pruning.groups.group_trial.print_log', lambda text, *_: said.append(text))

    def refuse(*_: object) -> list[Reading]:
        raise NotImplementedError('sparse')

    monkeypatch.setattr('mmsharp.pruning.forwards.forward.numbers_read', refuse)
    image = torch.randn(1, 3, 16, 16, generator=torch.Generator().manual_seed(0))
    with pytest.raises(MmsharpError, match="of the kind 'faint'"):
        find_groups(TwoConvolutions(BRANCHES['faint']), tensor_forward(image))
    assert 'is not known (NotImplementedError: sparse)' in said[0]


def test_a_model_that_refuses_unlike_images_is_taken() -> None:
    """An assertion about the content is no branch."""

    def check(x: Tensor) -> bool:
        assert 0.5 < x.std() < 1.5
        return False

    image = torch.randn(1, 3, 16, 16, generator=torch.Generator().manual_seed(0))
    found = find_groups(TwoConvolutions(check), tensor_forward(image))
    assert [group.name for group in found.groups] == ['a']


@pytest.mark.parametrize('shape', [(), (5,), (2, 5), (1, 3, 8, 8)])
@pytest.mark.parametrize('listed', [False, True])
def test_contrasting_images_are_on_the_scale_of_the_given(shape: tuple[int, ...], listed: bool) -> None:
    """Of its shape, precision and number, around its mean in its deviation; the same ones each time."""
    image = 7 + 3 * torch.randn(shape, dtype=torch.float64, generator=torch.Generator().manual_seed(0))
    forward = tensor_forward([image, image.repeat(2)] if listed and len(shape) == 1 else image)
    found = forward.contrasting()
    assert {*KINDS} < {kind for kind, _ in found}
    for (_, one), (_, again) in zip(found, forward.contrasting(), strict=True):
        first, second = (each.inputs[0] if isinstance(each.inputs, list) else each.inputs for each in (one, again))
        assert first.shape == image.shape
        assert first.dtype == image.dtype
        assert torch.equal(first, second)
    if image.dim() == 4:
        scaled = {kind: (other.inputs - image.mean()) / image.std() for kind, other in found}
        assert scaled['bright'].mean() > 1.5 > -1.5 > scaled['dark'].mean()
        assert scaled['faint'].std() < 0.1 < 3 < scaled['strong'].std() < 20 < scaled['very strong'].std()


def test_inputs_that_are_no_images_have_no_contrasts() -> None:
    """Numbers of words, or nothing at all."""
    assert tensor_forward(torch.arange(4)).contrasting() == []
    assert tensor_forward({'image': torch.ones(1)}).contrasting() == []


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
