"""Laws of the rule: who comes back, who goes instead, and what gate gradients are."""

import pytest
import torch
from torch import nn

from mmsharp.errors import MmsharpError
from mmsharp.pruning import ProtectiveReconstruction, find_groups, gate_gradients, reconstruct, refill, tensor_forward

ZEROED = torch.tensor([True, True, True, True, True, False])


@pytest.mark.parametrize('kappa', [0.0, 0.5, 1.0, 1.5])
def test_the_threshold_is_mean_plus_deviations(kappa):
    """Over the zeroed channels alone; a kept one never comes back."""
    pulse = torch.tensor([1.0, 2.0, 3.0, 4.0, 10.0, 99.0])
    values = pulse[:5]
    threshold = values.mean() + kappa * ((values - values.mean()) ** 2).mean().sqrt()
    protected = ProtectiveReconstruction(kappa)(pulse, None, ZEROED)
    assert protected.tolist() == [*(values > threshold).tolist(), False]
    assert protected.any()


@pytest.mark.parametrize('value', [0.0, 0.1, 1e-20, 1e20])
def test_equal_pulses_protect_nobody(value):
    """Nobody stands out, whatever rounding says."""
    pulse = torch.full((1000,), value)
    assert not ProtectiveReconstruction(0.0, gate=True)(pulse, pulse, torch.ones(1000, dtype=torch.bool)).any()


@pytest.mark.parametrize('factor', [2.0**-20, 2.0**16])
def test_a_common_factor_changes_nothing(factor):
    """Such as a loss scale."""
    pulse = torch.rand(200, generator=torch.Generator().manual_seed(0))
    zeroed, rule = pulse > 0.1, ProtectiveReconstruction()
    assert torch.equal(rule(pulse, None, zeroed), rule(pulse * factor, None, zeroed))


def test_silent_channels_are_judged_by_their_gates():
    """Among each other, and only those whose pulse is exactly zero."""
    pulse = torch.tensor([0.0, 0.0, 0.0, 4.0, 9.0, 0.0])
    gate = torch.tensor([1.0, 1.0, 4.0, 99.0, 99.0, 99.0])
    assert ProtectiveReconstruction(gate=True)(pulse, gate, ZEROED).tolist() == [False, False, True, False, True, False]
    by_pulse = [False, False, False, False, True, False]
    assert ProtectiveReconstruction()(pulse, gate, ZEROED).tolist() == by_pulse
    assert ProtectiveReconstruction(gate=True)(pulse, None, ZEROED).tolist() == by_pulse


@pytest.mark.parametrize('kappa', [0.0, 1.0])
def test_gates_beside_those_of_the_kept(kappa):
    """Longhand, whatever the other zeroed ones have: none, some and all may come back."""
    gate = torch.rand(30, generator=torch.Generator().manual_seed(0))
    zeroed, pulse = torch.arange(30) < 12, torch.zeros(30)
    kept = gate[12:]
    threshold = kept.mean() + kappa * ((kept - kept.mean()) ** 2).mean().sqrt()
    rule = ProtectiveReconstruction(kappa, gate=True, among='kept')
    some = rule(pulse, gate, zeroed)
    assert torch.equal(some, zeroed & (gate > threshold))
    assert 0 < some.sum() < 12
    for height, back in ((0.001, 0), (2.0, 12)):
        assert int(rule(pulse, torch.where(zeroed, height + gate / 1000, gate), zeroed).sum()) == back
    everybody = torch.ones(30, dtype=torch.bool)
    assert not rule(pulse, torch.ones(30), everybody).any()


@pytest.mark.parametrize('kept', [1, 2, 3])
def test_few_kept_ones_are_enough_to_be_compared_with(kept):
    """They are no sample that somebody has to stand out of: who has a larger gate gradient comes back."""
    zeroed = torch.arange(12) >= kept
    gate = torch.where(zeroed, 5.0, 0.1)
    assert torch.equal(ProtectiveReconstruction(gate=True, among='kept')(torch.zeros(12), gate, zeroed), zeroed)
    assert not ProtectiveReconstruction(gate=True, among='kept')(
        torch.zeros(12), gate.flip(0).where(zeroed, 9.0), zeroed
    ).any()


@pytest.mark.parametrize('value', [float('inf'), float('nan')])
def test_an_overflow_says_nothing(value):
    """It neither protects nor hides the others."""
    pulse = torch.tensor([value, 1.0, 1.0, 1.0, 9.0, 0.0])
    assert ProtectiveReconstruction()(pulse, None, ZEROED).tolist() == [False, False, False, False, True, False]


def test_who_has_no_pulse_stays_zeroed_whatever_kappa_is():
    """Also where the mean less some deviations is below 0."""
    pulse = torch.tensor([0.0, 0.0, 0.0, 1.0, 2.0])
    protected = ProtectiveReconstruction(kappa=-2.0)(pulse, None, torch.ones(5, dtype=torch.bool))
    assert protected.tolist() == [False, False, False, True, True]


def test_nothing_zeroed_nothing_protected():
    """An empty sample has no mean."""
    assert not ProtectiveReconstruction(gate=True)(torch.ones(4), torch.ones(4), torch.zeros(4, dtype=torch.bool)).any()


@pytest.mark.parametrize('pulse', [0.0, 5.0])
@pytest.mark.parametrize(('kappa', 'zeroed'), [(1.0, 1), (1.0, 2), (0.0, 1), (1.5, 3), (2.0, 5)])
def test_too_few_to_stand_out_are_judged_among_the_kept(kappa, zeroed, pulse):
    """By their gates, with the same formula; whatever their pulses are, and only where there are gates."""
    gone, pulses = torch.arange(12) < zeroed, torch.zeros(12)
    pulses[0] = pulse
    gate = torch.rand(12, generator=torch.Generator().manual_seed(0))
    for height in (0.1, 10.0):
        gate[0] = height
        threshold = gate.mean() + kappa * ((gate - gate.mean()) ** 2).mean().sqrt()
        protected = ProtectiveReconstruction(kappa, gate=True)(pulses, gate, gone)
        assert torch.equal(protected, gone & (gate > threshold))
        assert bool(protected[0]) == (height == 10.0)
    assert not ProtectiveReconstruction(kappa, gate=True)(pulses, None, gone).any()
    assert not ProtectiveReconstruction(kappa)(pulses, gate, gone).any()


@pytest.mark.parametrize('kappa', [1.0, 2.0])
def test_one_more_is_enough_to_stand_out_by_a_pulse(kappa):
    """The numbers at which the rule changes: with one more, an outlier comes back whatever its gate."""
    count = int(1 + kappa**2) + 1
    zeroed, pulse = torch.arange(12) < count, torch.ones(12)
    pulse[1] = 100.0
    assert ProtectiveReconstruction(kappa, gate=True)(pulse, torch.zeros(12), zeroed).nonzero().tolist() == [[1]]
    zeroed[count - 1] = False
    assert not ProtectiveReconstruction(kappa, gate=True)(pulse, torch.zeros(12), zeroed).any()


@pytest.mark.parametrize(
    ('answer', 'words'),
    [
        (lambda zeroed: zeroed.float(), r"group 'stem' it gives torch.float32 of shape \(6,\), expected a torch.bool"),
        (lambda zeroed: zeroed[:-1], r"group 'stem' it gives torch.bool of shape \(5,\)"),
        (lambda zeroed: zeroed.tolist(), "group 'stem' it gives .*, expected"),
    ],
)
def test_answers_of_another_kind_are_refused(answer, words):
    """By group, with what is expected."""
    with pytest.raises(MmsharpError, match=words):
        reconstruct(lambda pulse, gate, zeroed: answer(zeroed), [~ZEROED], [torch.ones(6)], None, None, ['stem'])


def test_what_was_kept_cannot_come_back():
    """A protection may speak for all channels."""
    everybody = reconstruct(lambda pulse, gate, zeroed: zeroed | True, [~ZEROED], [torch.ones(6)], None, None)
    assert everybody[0][0].tolist() == ZEROED.tolist()


@pytest.mark.parametrize(('kept', 'returning'), [(5, 2), (3, 3), (1, 4)])
def test_refilling_keeps_the_count_where_a_channel_can_stay(kept, returning):
    """The lowest scores go, as many as come back, but never the last one."""
    scores = torch.randperm(10, generator=torch.Generator().manual_seed(kept)).float()
    keep = torch.arange(10) < kept
    protected = torch.arange(10) >= 10 - returning
    extra = refill(keep, protected, scores)
    assert int(extra.sum()) == min(returning, kept - 1)
    assert not (extra & ~keep).any()
    if extra.any():
        assert scores[extra].max() < scores[keep & ~extra].min()


class Gated(nn.Module):
    """A gate of ones after the activation, in a network with a channel that two layers read."""

    def __init__(self):
        super().__init__()
        torch.manual_seed(1)
        self.first = nn.Sequential(nn.Conv2d(3, 10, 3), nn.BatchNorm2d(10), nn.ReLU())
        self.readers = nn.ModuleList([nn.Conv2d(10, 6, 1), nn.Conv2d(10, 6, 1)])
        self.head = nn.Sequential(nn.BatchNorm2d(6), nn.ReLU(), nn.Conv2d(6, 4, 1))
        nn.init.normal_(self.first[1].bias)
        self.gate = None

    def forward(self, x):
        x = self.first(x)
        x = x if self.gate is None else x * self.gate[:, None, None]
        return self.head(self.readers[0](x) + self.readers[1](x))


def test_gate_gradients_are_those_of_a_gate():
    """Weights and gradients of the readers say what a gate after the activation would."""
    model = Gated()
    image = torch.randn(4, 3, 6, 6, generator=torch.Generator().manual_seed(0))
    groups = find_groups(model, tensor_forward(image)).groups
    group = next(group for group in groups if group.name == 'first.0')
    model.gate = torch.ones(10, requires_grad=True)
    model(image).square().mean().backward()
    ours = gate_gradients(model, group)
    torch.testing.assert_close(ours, model.gate.grad.abs(), rtol=1e-4, atol=1e-7)
    assert ours.max() > 0


@pytest.mark.parametrize(
    'arguments',
    [dict(kappa='1'), dict(kappa=True), dict(kappa=float('inf')), dict(gate=1), dict(refill='no'), dict(watch=0),
     dict(watch=True), dict(among='others')],
)  # fmt: skip
def test_bad_arguments_are_refused(arguments):
    """By name."""
    with pytest.raises(MmsharpError, match=next(iter(arguments))):
        ProtectiveReconstruction(**arguments)
