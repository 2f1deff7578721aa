"""The model that runs is noted once, and torch's hook does not outlive its use."""

import gc

import pytest
import torch.nn.modules.module as torch_module
from mmengine.model import BaseModel
from torch import nn

from mmsharp.engine.model_access.running_model import RunningModel
from mmsharp.errors import MmsharpError


class Model(BaseModel):
    """A model with another inside."""

    def __init__(self, inside=None):
        super().__init__()
        self.inside = nn.Linear(1, 1) if inside is None else inside

    def forward(self, inputs, data_samples=None, mode='tensor'):
        return inputs


def hooks():
    return len(torch_module._global_forward_pre_hooks)


def test_the_first_model_counts_and_the_hook_is_gone():
    """Layers are passed over; models that run later are not taken."""
    before = hooks()
    running, first, second = RunningModel(), Model(), Model()
    assert hooks() == before + 1
    first.inside(first.inside.weight)
    with pytest.raises(MmsharpError, match='no model'):
        _ = running.model
    first(1)
    second(1)
    assert running.model is first
    assert hooks() == before


def test_the_outermost_model_counts():
    """A model that calls models runs before them."""

    class Outer(Model):
        def forward(self, inputs, data_samples=None, mode='tensor'):
            return self.inside(inputs)

    running, outer = RunningModel(), Outer(Model())
    outer(1)
    assert running.model is outer


def test_a_hook_that_nobody_holds_is_removed():
    """A metric that is built and never used leaves nothing behind, and no model is kept alive."""
    before = hooks()
    running = RunningModel()
    del running
    gc.collect()
    assert hooks() == before
    running, model = RunningModel(), Model()
    model(1)
    del model
    gc.collect()
    with pytest.raises(MmsharpError, match='no model'):
        _ = running.model
