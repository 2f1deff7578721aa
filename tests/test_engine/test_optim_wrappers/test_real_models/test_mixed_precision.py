"""Mixed precision on real models: overflows in either pass, and half precision as written out."""

import contextlib
import copy
from functools import partial

import pytest
import torch
from real_models import train_longhand, wrap
from small_network import policy_of

from mmsharp.engine.optim_wrappers import amp_optim_wrapper
from mmsharp.registry import ASCENTS, POLICIES, build_part
from mmsharp.sharpness import RandomState

pytestmark = pytest.mark.filterwarnings('ignore')  # the toolboxes warn of what is deprecated

SAM = dict(type='SAM', rho=0.1)
SCALE = 2.0**8
"""A power of two, by which float32 numbers are multiplied and divided exactly."""


def assert_same(first, second):
    assert first.keys() == second.keys()
    assert all(torch.equal(value, second[key]) for key, value in first.items())


@pytest.fixture
def scaled(monkeypatch):
    """A function that builds the wrapper with torch's own loss scaling on a CPU, in full or in half precision."""
    monkeypatch.setattr(amp_optim_wrapper, 'get_device', lambda: 'cpu')

    def build(model, dtype=None, scale=SCALE, **settings):
        context = contextlib.nullcontext if dtype is None else partial(torch.autocast, 'cpu', dtype)
        monkeypatch.setattr('mmengine.runner.amp.autocast', lambda **_: context())
        wrapper = wrap(model, kind='mmsharp.AmpSAMOptimWrapper', **settings)
        wrapper.loss_scaler = torch.amp.GradScaler('cpu', init_scale=scale)
        return wrapper

    return build


def overflow_in(model, real, number):
    """Make a gradient infinite in the given backward pass alone, counted from 1."""
    passes = []

    def hook(gradient):
        passes.append(None)
        return gradient * torch.inf if len(passes) == number else gradient

    model.get_parameter(real.last).register_hook(hook)


def test_loss_scaling_trains_bitwise_like_full_precision(real, scaled):
    """Where nothing overflows: weights and statistics."""
    ends = []
    for build in (wrap, scaled):
        model = real.make()
        wrapper = build(model, ascent=SAM, accumulative_counts=2, clip_grad=dict(max_norm=0.1))
        torch.manual_seed(1)
        for seed in range(4):
            model.train_step(real.batch(seed), wrapper)
        ends.append(model.state_dict())
    assert_same(*ends)


def test_an_overflow_in_the_first_pass_leaves_the_base_wrapper_s_step(real, scaled):
    """Nothing is displaced, the second gradient is the plain one, and the scale stays."""
    model, plain = real.make(), real.make()
    torch.manual_seed(1)
    plain.train_step(real.batch(0), wrap(plain, kind='OptimWrapper'))
    overflow_in(model, real, 1)
    wrapper = scaled(model, ascent=SAM)
    torch.manual_seed(1)
    model.train_step(real.batch(0), wrapper)
    assert_same(model.state_dict(), plain.state_dict())
    assert wrapper.loss_scaler.get_scale() == SCALE


@pytest.mark.parametrize('number', [2, None], ids=['second pass', 'both passes'])
def test_an_overflow_in_the_second_pass_skips_the_step(real, scaled, number):
    """The weights are back by then, no momentum appears, and the scale is lowered; the next step is an ordinary one."""
    model = real.make()
    scale = SCALE if number else 2.0**127
    if number:
        overflow_in(model, real, number)
    else:
        model.get_parameter(real.last).register_hook(lambda gradient: gradient * 1e3)
    before = copy.deepcopy(dict(model.named_parameters()))
    wrapper = scaled(model, scale=scale, ascent=SAM)
    model.train_step(real.batch(0), wrapper)
    assert_same(dict(model.named_parameters()), before)
    assert not wrapper.optimizer.state
    assert wrapper.loss_scaler.get_scale() == scale / 2
    wrapper.loss_scaler.update(SCALE)
    model.train_step(real.batch(1), wrapper)
    assert all(value.isfinite().all() for value in model.parameters())
    assert not torch.equal(model.get_parameter(real.last), before[real.last])


@pytest.mark.parametrize('dtype', [torch.bfloat16, torch.float16], ids=str)
def test_half_precision_is_the_formula_written_out(real_in_half_precision, scaled, dtype, monkeypatch):
    """Both passes run in half precision, the ascent and the step in float32; float16 with loss scaling."""
    real = real_in_half_precision
    model, twin, plain = real.make(), real.make(), real.make()
    if dtype == torch.float16:
        wrapper = scaled(model, dtype, ascent=SAM)
    else:
        monkeypatch.setattr(amp_optim_wrapper, 'get_device', lambda: 'cpu')
        wrapper = wrap(model, kind='mmsharp.AmpSAMOptimWrapper', dtype='bfloat16', ascent=SAM)
    seen = []
    convolution = next(part for part in model.modules() if isinstance(part, torch.nn.Conv2d))
    handle = convolution.register_forward_hook(lambda module, inputs, output: seen.append(output.dtype))
    batches = [real.batch(seed) for seed in range(2)]
    states = []
    for batch in batches:
        states.append(RandomState.capture())
        model.train_step(copy.deepcopy(batch), wrapper)
    handle.remove()
    assert seen == [dtype] * 4
    policy = build_part(POLICIES, policy_of('EveryStep'))
    half = partial(torch.autocast, 'cpu', dtype)
    train_longhand(twin, batches, states, build_part(ASCENTS, SAM), policy, context=half)
    train_longhand(plain, batches, states, build_part(ASCENTS, dict(SAM, rho=0.0)), policy, context=half)
    assert all(value.dtype == torch.float32 for value in model.parameters())
    # Loss scaling keeps small gradients of float16 that longhand, which does not scale, loses.
    assert distance(model, twin) < (0.3 if dtype == torch.float16 else 1e-3) * distance(plain, twin)


def distance(first, second):
    return (
        sum((one - other).square().sum() for one, other in zip(first.parameters(), second.parameters())).sqrt().item()
    )
