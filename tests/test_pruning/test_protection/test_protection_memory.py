"""Laws of the memory: nothing is learned from nothing, one protection fades, several add up, only scores are raised."""

import pytest
import torch

from mmsharp.errors import MmsharpError
from mmsharp.pruning import ProtectionMemory, ProtectiveReconstruction, held

SCORES = [torch.tensor([1.0, 2.0, 3.0, 6.0]), torch.tensor([0.5, 0.5])]
FIRST = [torch.tensor([True, False, False, False]), torch.tensor([False, False])]
NOBODY = [torch.zeros_like(mask) for mask in FIRST]


def test_without_evidence_scores_are_what_they_were():
    """Before any step, and after steps at which nobody came back."""
    memory = ProtectionMemory(0.9, 1.0)
    for _ in range(3):
        assert all(torch.equal(one, other) for one, other in zip(memory.raised(SCORES), SCORES))
        memory.update(NOBODY)


@pytest.mark.parametrize(('decay', 'weight'), [(0.0, 1.0), (0.9, 0.0)])
def test_forgetting_and_weighing_nothing_are_no_memory(decay, weight):
    """Scores alone decide, whatever came back."""
    memory = ProtectionMemory(decay, weight)
    memory.update(FIRST)
    assert all(torch.equal(one, other) for one, other in zip(memory.raised(SCORES), SCORES))


@pytest.mark.parametrize('steps', [1, 3])
@pytest.mark.parametrize('factor', [1.0, 1e-6])
def test_a_protection_is_worth_its_weight_in_mean_scores_and_fades(steps, factor):
    """Written out: weight * decay^steps times the mean over the group, whatever the scores' scale; others stay."""
    memory = ProtectionMemory(0.5, 2.0)
    memory.update(FIRST)
    for _ in range(steps - 1):
        memory.update(NOBODY)
    ours = memory.raised([score * factor for score in SCORES])
    torch.testing.assert_close(ours[0], torch.tensor([1.0 + 2.0 * 0.5**steps * 3.0, 2.0, 3.0, 6.0]) * factor)
    assert torch.equal(ours[1], SCORES[1] * factor)


def test_repeated_protection_adds_up_to_a_bound():
    """The geometric series: decay / (1 - decay)."""
    memory = ProtectionMemory(0.8, 1.0)
    for _ in range(200):
        memory.update(FIRST)
    assert float(memory.evidence[0][0]) == pytest.approx(4.0)
    assert not memory.evidence[0][1:].any()


def test_held_counts_what_scores_alone_would_have_taken():
    """Kept channels below the best of those that go; none where the lowest go, or nothing does."""
    scores = torch.tensor([1.0, 2.0, 3.0, 4.0])
    assert held(torch.tensor([True, False, False, True]), scores) == 1
    assert held(torch.tensor([False, False, True, True]), scores) == 0
    assert held(torch.ones(4, dtype=torch.bool), scores) == 0


@pytest.mark.parametrize('arguments', [dict(memory=1.0), dict(memory=-0.1), dict(memory='x'), dict(memory=True),
                                       dict(weight=-1), dict(weight=float('inf')), dict(weight=None)])  # fmt: skip
def test_bad_arguments_are_refused(arguments):
    """By the names that the protection has them by."""
    with pytest.raises(MmsharpError, match=next(iter(arguments))):
        ProtectiveReconstruction(**arguments)
