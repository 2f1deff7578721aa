"""Laws of what PSAP learns: what came back is not taken at the next steps, nor by the masks at the end."""

import pytest
import torch
from psap_training import HOOK, OfOneKind, Watch, hook_of, setting, steps_of

from mmsharp.registry import PROTECTIONS


@PROTECTIONS.register_module(force=True)
class LowestOfEach(OfOneKind):
    """Brings the first zeroed channel of each group back, once, and remembers that for ever."""

    memory, weight = 0.999, 100.0

    def __init__(self, steps: int = 1) -> None:
        super().__init__()
        self.remaining = 2 * steps  # groups

    def chosen(self, zeroed):
        self.remaining -= 1
        back = torch.zeros_like(zeroed)
        if self.remaining >= 0 and zeroed.any():
            back[zeroed.nonzero()[0]] = True
        return back


@pytest.mark.parametrize('wrapper', ['plain', 'adasap'])
@pytest.mark.parametrize('memory', [0.0, 0.999])
def test_what_came_back_is_not_taken_again(make_runner, wrapper, memory):
    """At no later soft step, nor by the masks that are held; without a memory it is."""
    runner = make_runner(dict(HOOK, protection=dict(type='LowestOfEach'), hard=0.25), **setting(wrapper))
    protection = hook_of(runner).protection
    protection.memory = memory
    masks = []

    def look(runner):
        if hook_of(runner)._state.kind == 'masked':
            masks.append(hook_of(runner).pruner.masks.keep)

    runner.register_hook(Watch(look))
    runner.train()
    groups = len(hook_of(runner).pruner.groups.groups)
    first = [zeroed for _, _, zeroed in protection.seen[:groups]]
    taken_again = []
    for place, zeroed in enumerate(first):
        if zeroed.any():
            back = int(zeroed.nonzero()[0])
            later = [bool(seen[back]) for _, _, seen in protection.seen[groups + place :: groups]]
            taken_again += [*later, not masks[-1][place][back]]
    assert any(taken_again) == (memory == 0.0)
    assert (sum(step['held'] for step in steps_of(runner)) > 0) == (memory > 0)


@pytest.mark.parametrize('budget', [dict(params=0.4), dict(macs=0.5), dict(channels=0.5)])
def test_the_budget_is_met_whatever_is_remembered(make_runner, budget):
    """Up to one channel: with one more of those that cost most, it would be exceeded."""
    protection = dict(type='LowestOfEach', steps=10)
    runner = make_runner(dict(HOOK, budget=budget, protection=protection, slim=False, hard=0.25))
    runner.train()
    pruner = hook_of(runner).pruner
    [(resource, target)] = budget.items()
    keep = pruner.masks.keep
    assert pruner.cost.fraction(resource, keep) <= target
    larger = []
    for mask in keep:
        for channel in (~mask).nonzero()[:, 0].tolist():
            mask[channel] = True
            larger.append(pruner.cost.fraction(resource, keep))
            mask[channel] = False
    assert max(larger) > target


def test_evidence_is_forgotten_when_the_masks_are_held(make_runner):
    """It has spoken for the last time."""
    runner = make_runner(dict(HOOK, protection=dict(type='LowestOfEach'), hard=0.25))
    counts = []
    runner.register_hook(Watch(lambda runner: counts.append(len(hook_of(runner)._steps._memory.evidence))))
    runner.train()
    assert set(counts[3:12]) == {2}
    assert set(counts[12:]) == {0}
