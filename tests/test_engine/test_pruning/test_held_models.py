"""Laws of what a runner holds of a model: all of it is found, and all of it follows new shapes."""

from types import SimpleNamespace

import pytest
import torch
from mmengine.hooks import EMAHook
from mmengine.model import ExponentialMovingAverage
from torch import nn

from mmsharp.engine.pruning.held_models import held_models, shadows, take_new_shapes


class Held:
    """A runner with one averaged model, or with a hook that has not begun to average."""

    def __init__(self, model, update_buffers=False, begun=True):
        self.model, self.forgotten = model, 0
        hook = EMAHook()
        if begun:
            hook.ema_model = ExponentialMovingAverage(model, update_buffers=update_buffers)
        self.hooks = [hook]
        self.optim_wrapper = SimpleNamespace(forget_model=self._forget)

    def _forget(self):
        self.forgotten += 1


def test_a_model_and_its_average_are_held():
    """The average only once there is one."""
    model = nn.BatchNorm1d(3)
    runner = Held(model)
    assert [*held_models(runner)] == [model, *shadows(runner)]
    assert [type(shadow) for shadow in shadows(runner)] == [nn.BatchNorm1d]
    assert [*held_models(Held(model, begun=False))] == [model]


@pytest.mark.parametrize('buffers', [True, False])
def test_an_average_goes_on_in_the_new_shapes(buffers):
    """Also one that averages buffers, which knows tensors by name; and the optimizer's wrapper forgets the old ones."""
    model = nn.Sequential(nn.Linear(2, 3), nn.BatchNorm1d(3))
    runner = Held(model, update_buffers=buffers)
    for one in held_models(runner):
        one[0], one[1] = nn.Linear(2, 1), nn.BatchNorm1d(1)
    take_new_shapes(runner)
    averaged = runner.hooks[0].ema_model
    averaged.update_parameters(model)
    averaged.update_parameters(model)
    assert averaged.module[0].weight.shape == (1, 2)
    assert torch.isfinite(averaged.module(torch.zeros(2, 2))).all()
    assert runner.forgotten == 1
