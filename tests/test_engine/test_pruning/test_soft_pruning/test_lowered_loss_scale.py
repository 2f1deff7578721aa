"""Laws of the lowered loss scale: it goes down by the pulse, comes back, and goes on from a checkpoint."""

import pytest
import torch

from mmsharp.engine.pruning.soft_pruning.lowered_loss_scale import PULSE, LoweredLossScale


class Wrapper:
    """What an optimizer wrapper has of a loss scale."""

    def __init__(self, scale, fixed=False):
        self.loss_scaler = torch.amp.GradScaler('cpu', init_scale=scale)
        self._scale_update_param = scale if fixed else None


@pytest.mark.parametrize('fixed', [True, False])
@pytest.mark.parametrize('used', [True, False])
def test_a_lowered_scale_is_gone_on_with(used, fixed):
    """Also by a scaler that has scaled no loss yet, as after loading a checkpoint; a fixed one stays low, too."""
    wrapper = Wrapper(4096.0, fixed)
    if used:
        wrapper.loss_scaler.scale(torch.ones(()))
    wrapper.loss_scaler.load_state_dict(dict(wrapper.loss_scaler.state_dict(), scale=4096.0 / PULSE))
    scale = LoweredLossScale(wrapper)
    scale.go_on(4096.0)
    assert scale.now == 4096.0 / PULSE
    assert wrapper._scale_update_param == (4096.0 / PULSE if fixed else None)
    scale.restore()
    assert scale.now == 4096.0
    assert wrapper._scale_update_param == (4096.0 if fixed else None)


def test_what_the_scaler_lowers_stays_lower():
    """And what it raises gets no higher than it was."""
    wrapper = Wrapper(4096.0)
    for change, after in ((0.5, 2048.0), (4.0, 2048.0)):
        scale = LoweredLossScale(wrapper)
        scale.lower()
        scale.lower()
        wrapper.loss_scaler.update(scale.now * change)
        scale.restore()
        assert scale.now == after


def test_what_the_scaler_raises_is_lowered_again():
    """At the next pruning step, whose pulses are as large; and it goes back to what it was."""
    wrapper = Wrapper(4096.0)
    scale = LoweredLossScale(wrapper)
    scale.lower()
    for _ in range(3):
        wrapper.loss_scaler.update(scale.now * 2**6)
        scale.lower()
        assert scale.now == 4096.0 / PULSE
    wrapper.loss_scaler.update(scale.now * 2**6)
    scale.restore()
    assert scale.now == 4096.0


def test_without_a_scale_nothing_happens():
    """A wrapper has none, or one that is switched off."""
    for wrapper in (object(), Wrapper(1.0)):
        if hasattr(wrapper, 'loss_scaler'):
            wrapper.loss_scaler = torch.amp.GradScaler('cpu', enabled=False)
        scale = LoweredLossScale(wrapper)
        scale.go_on(8.0)
        scale.restore()
        scale.lower()
        assert scale.now == 1.0
        assert scale.before is None
