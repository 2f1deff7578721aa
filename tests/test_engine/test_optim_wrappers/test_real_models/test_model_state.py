"""What a step leaves of a real model: statistics, random numbers, data samples, and everything when it goes wrong."""

import copy
import random

import numpy as np
import pytest
import torch
from mmengine.logging import MessageHub
from real_models import wrap
from small_network import BrokenLayerError, breaking

from mmsharp.sharpness import RandomState

pytestmark = pytest.mark.filterwarnings('ignore')  # the toolboxes warn of what is deprecated

SAM = dict(type='SAM', rho=0.1)


def losses_of(model, batch):
    return model(**model.data_preprocessor(copy.deepcopy(batch), True), mode='loss')


def momenta_of(wrapper):
    return [state['momentum_buffer'].clone() for state in wrapper.optimizer.state.values()]


def assert_same(first, second):
    assert first.keys() == second.keys()
    assert all(torch.equal(value, second[key]) for key, value in first.items())


@pytest.mark.parametrize('ascent', [dict(type='SAM', rho=5.0), dict(type='AdaSAP')], ids=lambda ascent: ascent['type'])
def test_statistics_are_those_of_the_clean_pass(real, ascent):
    """Running mean, variance and counter of all BatchNorm layers equal those of one plain forward pass."""
    changes = dict(norm_eval=False, frozen_stages=-1)
    model, twin = real.make(**changes), real.make(**changes)
    torch.manual_seed(1)
    model.train_step(real.batch(0), wrap(model, ascent=ascent))
    torch.manual_seed(1)
    losses_of(twin, real.batch(0))
    assert_same(dict(model.named_buffers()), dict(twin.named_buffers()))
    assert twin.state_dict()[next(key for key in twin.state_dict() if 'num_batches' in key)] == 1


def test_both_passes_draw_the_same_random_numbers(real):
    """Samplers of boxes and dropout: without a radius both losses are equal; the streams go on as after one pass."""
    model = real.make()
    torch.manual_seed(1)
    losses = [model.parse_losses(losses_of(model, real.batch(0)))[0].item() for _ in range(2)]
    assert losses[0] != losses[1]  # what is drawn matters
    wrapper = wrap(model, lr=0.0, ascent=dict(type='SAM', rho=0.0))
    start = RandomState.capture()
    model.train_step(real.batch(0), wrapper)
    after = (random.random(), np.random.rand(), torch.rand(1).item())
    assert MessageHub.get_current_instance().get_scalar('train/sharpness/loss_gap').current() == 0.0
    start.restore()
    losses_of(model, real.batch(0))
    assert (random.random(), np.random.rand(), torch.rand(1).item()) == after


def overwrite(model, arguments, keywords, output):
    """What a forward may do to its data samples: exchange what they hold, and write into it."""
    for sample in keywords['data_samples']:
        if 'gt_instances' in sample:
            sample.gt_instances.bboxes.mul_(0.5)
            sample.gt_instances.labels = torch.zeros_like(sample.gt_instances.labels)
        else:
            sample.gt_label.fill_(0)
            sample.set_gt_label(1)


def test_both_passes_see_the_same_data_samples(real):
    """A forward that spoils its data samples trains bitwise like one that does not."""
    ends = []
    for spoils in (False, True):
        model = real.make()
        if spoils:
            model.register_forward_hook(overwrite, with_kwargs=True)
        torch.manual_seed(1)
        wrapper = wrap(model, ascent=SAM)
        for seed in range(2):
            model.train_step(real.batch(seed), wrapper)
        ends.append(model.state_dict())
    assert_same(*ends)


def spoil(model, real, kind, number):
    """Make the loss or a gradient of the given pass, counted from 1, something else than a number."""
    passes = []

    def is_now():
        passes.append(None)
        return len(passes) == number

    if kind == 'gradient':
        model.get_parameter(real.last).register_hook(lambda gradient: gradient * torch.inf if is_now() else gradient)
        return

    def spoil_losses(model, arguments, output):
        return {name: _times_nan(value) for name, value in output.items()} if is_now() else output

    model.register_forward_hook(spoil_losses)


def _times_nan(value):
    return [part * torch.nan for part in value] if isinstance(value, list) else value * torch.nan


@pytest.mark.parametrize('kind', ['loss', 'gradient'])
@pytest.mark.parametrize('skip', [False, True])
def test_without_a_finite_first_pass_the_step_is_the_base_wrapper_s(real, kind, skip):
    """There is no direction: the second pass is made at the weights, and its gradient is finite and stepped with."""
    model, plain = real.make(), real.make()
    torch.manual_seed(1)
    plain.train_step(real.batch(0), wrap(plain, kind='OptimWrapper'))
    spoil(model, real, kind, 1)
    torch.manual_seed(1)
    model.train_step(real.batch(0), wrap(model, ascent=SAM, skip_nonfinite=skip))
    assert_same(model.state_dict(), plain.state_dict())


@pytest.mark.parametrize('kind', ['loss', 'gradient'])
def test_without_a_finite_second_pass_the_weights_are_back_first(real, kind):
    """Then the optimizer steps with what is not finite, as it does under the base wrapper: in the same parameters."""
    model, plain = real.make(), real.make()
    before = copy.deepcopy(dict(model.named_parameters()))
    seen = {}
    wrapper, other = wrap(model, ascent=SAM), wrap(plain, kind='OptimWrapper')
    wrapper.optimizer.register_step_pre_hook(lambda *_: seen.update(copy.deepcopy(dict(model.named_parameters()))))
    spoil(model, real, kind, 2)
    spoil(plain, real, kind, 1)
    for network, wrapped in ((model, wrapper), (plain, other)):
        torch.manual_seed(1)
        network.train_step(real.batch(0), wrapped)
    assert_same(seen, before)
    finite = [bool(value.isfinite().all()) for value in model.parameters()]
    assert not all(finite)
    assert finite == [bool(value.isfinite().all()) for value in plain.parameters()]


@pytest.mark.parametrize('kind', ['loss', 'gradient'])
def test_steps_that_are_not_finite_are_left_out_on_request(real, kind):
    """skip_nonfinite: weights and momentum stay bitwise, and training goes on."""
    model = real.make()
    wrapper = wrap(model, ascent=SAM, skip_nonfinite=True)
    model.train_step(real.batch(0), wrapper)
    before = copy.deepcopy(dict(model.named_parameters())), momenta_of(wrapper)
    spoil(model, real, kind, 2)
    model.train_step(real.batch(1), wrapper)
    assert_same(dict(model.named_parameters()), before[0])
    assert all(torch.equal(value, old) for value, old in zip(momenta_of(wrapper), before[1]))
    model.train_step(real.batch(2), wrapper)
    assert all(value.isfinite().all() for value in model.parameters())
    assert not torch.equal(model.get_parameter(real.last), before[0][real.last])


@pytest.mark.parametrize('passes', ['forward', 'backward'])
@pytest.mark.parametrize(('ascent', 'at'), [('SAM', 1), ('SAM', 2), ('AdaSAP', 2), ('MomentumSAM', 1)])
def test_an_exception_in_any_pass_leaves_weights_and_state_bitwise(real, ascent, at, passes):
    """First or second, forward or backward: all is as before the step, no hook stays, and training goes on."""
    model = real.make(norm_eval=False)
    wrapper = wrap(model, ascent=dict(type=ascent))
    model.train_step(real.batch(0), wrapper)  # from here on there is a momentum
    before = copy.deepcopy(model.state_dict())
    if passes == 'forward':
        handle = model.get_submodule(real.last.rpartition('.')[0]).register_forward_hook(breaking([0], at))
    else:
        handle = model.get_parameter(real.last).register_hook(breaking([0], at))
    with pytest.raises(BrokenLayerError):
        model.train_step(real.batch(1), wrapper)
    handle.remove()
    assert_same(model.state_dict(), before)
    assert not any(module._forward_pre_hooks or module._forward_hooks for module in model.modules())
    model.train_step(real.batch(2), wrapper)
    assert all(value.isfinite().all() for value in model.parameters())
