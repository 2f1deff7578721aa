"""Laws of a new wrapper: it sees the parameters of now, and what MMEngine set up on the old one holds on."""

from types import SimpleNamespace

import torch
from mmengine.config import Config
from mmengine.model import BaseModel, BaseTTAModel, MMDistributedDataParallel, is_model_wrapper
from mmengine.runner import Runner
from two_processes import in_two_processes

from mmsharp.engine.distributed.wrap_again import wrap_again


class Wrapping(Runner):
    """A runner that is only a model and its config."""

    def __init__(self, model, **config):
        self.model, self.cfg = model, Config(config)
        self._experiment_name = 'wrapping'

    logger = SimpleNamespace(info=lambda text: None)
    distributed = True


def wrapped_twice(rank):
    inner = torch.nn.Sequential(torch.nn.Linear(2, 3), torch.nn.Linear(3, 1))
    compiled = []
    torch.compile = lambda function, **options: compiled.append((function.__self__, options)) or function
    wrapper = dict(type='MMDistributedDataParallel', device_ids=None)
    runner = Wrapping(inner, compile=dict(dynamic=False), model_wrapper_cfg=wrapper)
    runner.model = first = runner.wrap_model(dict(wrapper), inner)
    inner[0].requires_grad_(False)
    wrap_again(runner)
    (owner, options), *more = compiled
    return (
        isinstance(runner.model, MMDistributedDataParallel),
        runner.model is not first,
        runner.model.module is inner,
        owner is runner.model and options == dict(dynamic=False) and not more,
    )


def test_a_wrapped_model_gets_a_new_wrapper_which_is_compiled_as_the_old_one(tmp_path):
    """In both processes; a wrapper that was compiled and then left would train uncompiled without a word."""
    assert in_two_processes(wrapped_twice, tmp_path) == [(True,) * 4] * 2


class FirstView(BaseTTAModel):
    """A model around another, as test-time augmentation has it."""

    def merge_preds(self, data_samples_list):
        return [samples[0] for samples in data_samples_list]


class Plain(BaseModel):
    def __init__(self):
        super().__init__()
        self.layer = torch.nn.Linear(2, 1)

    def forward(self, inputs, data_samples=None, mode='tensor'):
        return self.layer(inputs)


def wrapped_views(rank):
    runner = Wrapping(FirstView(Plain()), model_wrapper_cfg=dict(type='MMDistributedDataParallel', device_ids=None))
    views = runner.model
    runner.model = first = runner.wrap_model(dict(type='MMDistributedDataParallel', device_ids=None), views)
    wrap_again(runner)
    return runner.model is not first and runner.model.module is views


def test_what_is_around_a_model_and_no_wrapper_stays(tmp_path):
    """Test-time augmentation, in both processes."""
    assert in_two_processes(wrapped_views, tmp_path) == [True, True]


def test_a_model_without_a_wrapper_is_left_alone():
    """Nothing is compiled twice either."""
    model = torch.nn.Linear(1, 1)
    runner = Wrapping(model, compile=True)
    wrap_again(runner)
    assert runner.model is model
    assert not is_model_wrapper(runner.model)
