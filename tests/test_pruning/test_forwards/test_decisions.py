"""A second network takes the decisions of the first."""

import pytest
import torch

from mmsharp.pruning.forwards.custom_functions import custom_functions
from mmsharp.pruning.forwards.decisions import Decisions

FIRST, SECOND = torch.tensor([[3.0, 1.0, 2.0]]), torch.tensor([[1.0, 3.0, 2.0]])


class Choose(torch.autograd.Function):
    """Stands for a compiled kernel that chooses, such as non-maximum suppression."""

    @staticmethod
    def forward(ctx, x):
        return torch.from_numpy(x.detach().numpy().argmax(axis=1))


CHOICES = {
    'argmax': (lambda x: x.argmax(1), torch.tensor([0])),
    'topk': (lambda x: x.topk(2, dim=1), (torch.tensor([[1.0, 2.0]]), torch.tensor([[0, 2]]))),
    'sort': (lambda x: x.sort(dim=1, descending=True), (torch.tensor([[1.0, 2.0, 3.0]]), torch.tensor([[0, 2, 1]]))),
    'max': (lambda x: x.max(dim=1), (torch.tensor([1.0]), torch.tensor([0]))),
    'comparison': (lambda x: x > 2.5, torch.tensor([[True, False, False]])),
    'rounding': (lambda x: (x + 0.5).long(), torch.tensor([[3, 1, 2]])),
    'a custom function': (Choose.apply, torch.tensor([0])),
}


@pytest.mark.parametrize('name', CHOICES)
def test_the_second_decides_as_the_first_and_keeps_its_values(name):
    """Places come from the first, values from the second at those places; without, it decides for itself."""
    choose, expected = CHOICES[name]
    decisions = Decisions()
    with decisions.recorded():
        first = choose(FIRST)
    with decisions.taken():
        second = choose(SECOND)
    for found, wanted in zip(
        torch.utils._pytree.tree_leaves(tuple(second) if not isinstance(second, torch.Tensor) else second),
        torch.utils._pytree.tree_leaves(expected),
    ):
        assert torch.equal(found, wanted)
    again = choose(FIRST)
    assert all(
        torch.equal(a, b)
        for a, b in zip(torch.utils._pytree.tree_leaves(first), torch.utils._pytree.tree_leaves(again))
    )


def test_decisions_of_another_shape_stay_its_own():
    """A comparison along channels that the second network lacks."""
    decisions = Decisions()
    with decisions.recorded():
        FIRST > 2.5  # noqa: B015
    with decisions.taken():
        assert torch.equal(SECOND[:, 1:] > 2.5, torch.tensor([[True, False]]))


@pytest.mark.parametrize('name', CHOICES)
def test_what_decisions_are_taken_from_is_compared(name):
    """Relative to its scale, and whatever the choice; equal grounds do not differ."""
    choose, _ = CHOICES[name]
    decisions = Decisions()
    with decisions.recorded():
        choose(FIRST)
    with decisions.taken():
        choose(FIRST + torch.tensor([0.0, 0.0, 0.3]))
    assert decisions.differences == {torch.float32: pytest.approx(0.1, rel=0.2)}
    with decisions.taken():
        choose(FIRST + 1e-7)
    assert decisions.differences == {torch.float32: 0}
    with decisions.taken():
        choose(FIRST / 0)
    assert decisions.differences == {torch.float32: float('inf')}


def test_numbers_that_python_takes_are_decisions():
    """The second network goes on with the first one's; both are compared."""
    decisions = Decisions()
    with decisions.recorded():
        assert FIRST.sum().item() == 6
    with decisions.taken():
        assert (2 * FIRST).sum().item() == 6
    assert decisions.differences == {torch.float32: 1}


def test_places_of_pooling_are_no_decisions():
    """The values at these places are handed on themselves."""
    decisions = Decisions()
    with decisions.recorded():
        torch.nn.functional.max_pool1d(FIRST, 2, return_indices=True)
    with decisions.taken():
        torch.nn.functional.max_pool1d(SECOND, 2, return_indices=True)
    assert not decisions.differences


def test_after_another_sequence_of_operations_it_is_on_its_own():
    """Decisions are never handed to an operation that did not make them."""
    decisions = Decisions()
    with decisions.recorded():
        FIRST.argmax(1)
        FIRST.argmin(1)
    with decisions.taken():
        assert SECOND.argmin(1).item() == 0
        assert SECOND.argmin(1).item() == 0


def test_custom_functions_come_back_after_an_error():
    """Whatever is raised inside, the function is as it was."""
    original = Choose.__dict__['forward']
    with pytest.raises(ZeroDivisionError), custom_functions(lambda *_: 1 / 0):
        Choose.apply(FIRST)
    assert Choose.__dict__['forward'] is original
