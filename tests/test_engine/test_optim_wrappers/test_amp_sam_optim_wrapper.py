"""Loss scaling changes nothing but what underflows and what overflows; half precision goes where full precision goes.

Every registered ascent goes through it under every policy: on a CPU in bfloat16, and in float16 with torch's own
scaler, where MMEngine's wrapper wants an accelerator; on a GPU too where there is one.
"""

import contextlib
import copy

import pytest
import small_network
import torch
from mmengine.logging import MessageHub
from mmengine.model import BaseModel
from mmengine.optim import OptimWrapper
from small_network import ALL_ASCENTS, PAIRS, policy_of
from torch import nn

from mmsharp.engine.optim_wrappers import AmpSAMOptimWrapper, SAMOptimWrapper, amp_optim_wrapper
from mmsharp.errors import MmsharpError
from mmsharp.registry import ASCENTS, build_part
from mmsharp.sharpness import SAM, LookSAM, RandomLayers, gradient_norm

SCALE = 2.0**16
"""A power of two, by which float32 numbers are multiplied and divided exactly."""

SMALL_SCALE = 2.0**10
"""One at which float16 does not overflow here, as it does at the 2**16 that a scaler begins with."""

TWO_PASSES = [name for name in ALL_ASCENTS if ASCENTS.get(name).direction == 'gradient']
SETTINGS = [{}, dict(accumulative_counts=2), dict(clip_grad=dict(max_norm=0.05))]
HALVES = ['float16', 'bfloat16']


class Network(BaseModel):
    """Convolution, BatchNorm and a classifier."""

    def __init__(self, gain: float = 1.0) -> None:
        super().__init__()
        torch.manual_seed(0)
        self.gain = gain
        self.layers = nn.Sequential(
            nn.Conv2d(2, 4, 3), nn.BatchNorm2d(4), nn.ReLU(), nn.Flatten(), nn.Dropout(0.2), nn.Linear(16, 3)
        )

    def forward(self, inputs, data_samples=None, mode='loss'):
        return dict(loss=self.gain * self.layers(inputs).square().mean())


def optimizer_of(model, lr=0.1):
    return torch.optim.SGD(model.parameters(), lr=lr, momentum=0.9, weight_decay=1e-3)


def train(model, wrapper, steps=4):
    torch.manual_seed(7)
    for step in range(steps):
        generator = torch.Generator().manual_seed(step)
        model.train_step(dict(inputs=torch.randn(6, 2, 4, 4, generator=generator)), wrapper)
    return copy.deepcopy(model.state_dict())


def assert_same(first, second):
    assert first.keys() == second.keys()
    assert all(torch.equal(value, second[key]) for key, value in first.items())


def reading(name):
    return MessageHub.get_current_instance().get_scalar(f'train/sharpness/{name}').current()


@pytest.fixture
def cpu_only(monkeypatch):
    """MMEngine sees no accelerator, even where there is one."""
    monkeypatch.setattr('mmsharp.engine.optim_wrappers.amp_optim_wrapper.get_device', lambda: 'cpu')


@pytest.fixture
def scaled(monkeypatch, cpu_only):
    """A function that builds the wrapper with loss scaling, torch's own, on a CPU and in full precision.

    MMEngine's wrapper builds a scaler for CUDA alone, so that a scaler for CPUs is put in its place.
    """
    monkeypatch.setattr('mmengine.runner.amp.autocast', lambda **_: contextlib.nullcontext())

    def build(model, ascent, init_scale=SCALE, lr=0.1, **kwargs):
        wrapper = AmpSAMOptimWrapper(optimizer=optimizer_of(model, lr), ascent=ascent, **kwargs)
        wrapper.loss_scaler = torch.amp.GradScaler('cpu', init_scale=init_scale, growth_interval=1000)
        return wrapper

    return build


@pytest.mark.parametrize('kwargs', SETTINGS, ids=str)
@pytest.mark.parametrize(('ascent', 'policy'), PAIRS)
def test_loss_scaling_trains_bitwise_like_full_precision(scaled, ascent, policy, kwargs):
    """Weights, statistics, and the readings: gradients are unscaled before the ascent, and the norms, are taken."""
    ours, plain = Network(), Network()
    names = ('momentum_norm' if ASCENTS.get(ascent).direction == 'momentum' else 'gradient_norm', 'radius')
    options = dict(ascent=dict(type=ascent), policy=policy_of(policy), **kwargs)
    expected = train(plain, SAMOptimWrapper(optimizer=optimizer_of(plain), **copy.deepcopy(options)))
    readings = [reading(name) for name in names]
    assert_same(train(ours, scaled(ours, **copy.deepcopy(options))), expected)
    assert [reading(name) for name in names] == readings


def test_look_sam_remembers_across_scales(scaled):
    """The remembered part is a direction: that it was taken under another scale does not matter."""
    ours, plain = Network(), Network()
    expected = train(plain, SAMOptimWrapper(optimizer=optimizer_of(plain), ascent=SAM(0.1), policy=LookSAM(2)))
    wrapper = scaled(ours, SAM(0.1), policy=LookSAM(2))
    original = wrapper.step

    def step(**kwargs):
        original(**kwargs)
        wrapper.loss_scaler.update(wrapper.loss_scaler.get_scale() / 8)

    wrapper.step = step
    for name, value in train(ours, wrapper).items():
        torch.testing.assert_close(value, expected[name], rtol=1e-5, atol=1e-6)


@pytest.mark.parametrize(('ascent', 'policy'), PAIRS)
def test_an_overflow_skips_the_step_and_lowers_the_scale(scaled, ascent, policy):
    """In every pass, as a scale that is too large gives it: weights are bitwise as before, and no momentum appears."""
    model = Network(gain=1e3)
    before = {name: value.clone() for name, value in model.named_parameters()}
    wrapper = scaled(model, dict(type=ascent), init_scale=2.0**127, policy=policy_of(policy))
    train(model, wrapper, steps=1)
    assert wrapper.loss_scaler.get_scale() == 2.0**126
    assert_same(dict(model.named_parameters()), before)
    assert not wrapper.optimizer.state


@pytest.mark.parametrize('ascent', TWO_PASSES)
def test_an_overflow_in_the_second_pass_alone_skips_the_step_too(scaled, ascent):
    """The weights are back by then."""
    model = Network()
    overflow_in(model, 2)
    before = {name: value.clone() for name, value in model.named_parameters()}
    wrapper = scaled(model, dict(type=ascent))
    train(model, wrapper, steps=1)
    assert wrapper.loss_scaler.get_scale() == SCALE / 2
    assert_same(dict(model.named_parameters()), before)


@pytest.mark.parametrize('ascent', TWO_PASSES)
def test_an_overflow_in_the_first_pass_alone_leaves_the_parent_s_step(scaled, ascent):
    """Without a direction nothing is displaced; the second gradient is the plain one, and there is nothing to skip."""
    model, plain = Network(), Network()
    overflow_in(model, 1)
    wrapper = scaled(model, dict(type=ascent))
    assert_same(train(model, wrapper, steps=1), train(plain, OptimWrapper(optimizer_of(plain)), steps=1))
    assert wrapper.loss_scaler.get_scale() == SCALE


def test_training_goes_on_once_the_scale_fits(scaled):
    """A few skipped steps, then steps as in full precision."""
    model, plain = Network(gain=1e3), Network(gain=1e3)
    wrapper = scaled(model, SAM(rho=0.1), init_scale=2.0**127)
    skipped = 0
    before = {name: value.clone() for name, value in model.named_parameters()}
    while all(torch.equal(value, before[name]) for name, value in model.named_parameters()):
        train(model, wrapper, steps=1)
        skipped += 1
        assert skipped < 20
    train(plain, SAMOptimWrapper(optimizer=optimizer_of(plain), ascent=SAM(rho=0.1)), steps=1)
    assert skipped > 1
    assert_same(dict(model.named_parameters()), dict(plain.named_parameters()))


def overflow_in(model, number):
    """Make the gradient of a weight infinite in the given backward pass alone, counted from 1."""
    passes = []

    def hook(gradient):
        passes.append(None)
        return gradient * torch.inf if len(passes) == number else gradient

    model.layers[5].weight.register_hook(hook)


def distance(first, second):
    return sum((one - other).square().sum() for one, other in zip(first.parameters(), second.parameters())).sqrt()


def enlarged(name):
    """An ascent that goes where it goes by default, but so far that training cannot overlook it."""
    ascent = build_part(ASCENTS, dict(type=name))
    own = ascent.direct_

    def direct_(parameters, gradients, keep):
        reading, factor = own(parameters, gradients, keep)
        torch._foreach_mul_(list(gradients), factor)
        torch._foreach_mul_(list(gradients), 1.0 / (gradient_norm(gradients) + 1e-12))
        return reading, 1.0

    ascent.direct_ = direct_
    return ascent


@pytest.fixture(
    params=[
        *((kind, 'cpu') for kind in HALVES),
        *(pytest.param((kind, 'cuda'), marks=pytest.mark.gpu) for kind in HALVES),
    ],
    ids='-'.join,
)
def half(request, monkeypatch):
    """A function that builds the wrapper in half precision, on a CPU in float16 too."""
    dtype, device = request.param
    if device == 'cpu':
        monkeypatch.setattr(amp_optim_wrapper, 'get_device', lambda: 'cpu')
        monkeypatch.setattr('mmengine.runner.amp.autocast', lambda **_: torch.autocast('cpu', getattr(torch, dtype)))

    def build(model, lr=0.1, **kwargs):
        asked = 'bfloat16' if device == 'cpu' else dtype
        scale = dict(init_scale=SMALL_SCALE)
        wrapper = AmpSAMOptimWrapper(optimizer=optimizer_of(model, lr), dtype=asked, loss_scale=scale, **kwargs)
        if (dtype, device) == ('float16', 'cpu'):
            wrapper.loss_scaler = torch.amp.GradScaler('cpu', **scale)
        return wrapper

    build.dtype, build.device = getattr(torch, dtype), device
    return build


@pytest.mark.parametrize(('ascent', 'policy'), PAIRS)
def test_half_precision_goes_where_full_precision_goes(half, ascent, policy):
    """Far from where plain training in half precision goes: the ascent is in it. Weights stay in float32."""
    ours, full, plain = (Network().to(half.device) for _ in range(3))
    seen = []
    ours.layers[0].register_forward_hook(lambda _, inputs, outputs: seen.append(outputs.dtype))
    train(ours, half(ours, ascent=enlarged(ascent), policy=policy_of(policy)), steps=3)
    options = dict(ascent=enlarged(ascent), policy=policy_of(policy))
    train(full, SAMOptimWrapper(optimizer=optimizer_of(full), **options), steps=3)
    train(plain, half(plain, ascent=SAM(rho=0.0)), steps=3)
    assert set(seen) == {half.dtype}
    assert all(value.dtype == torch.float32 for value in ours.parameters())
    assert distance(ours, full) < 0.3 * distance(plain, full)


@pytest.mark.parametrize(('ascent', 'policy'), PAIRS)
def test_half_precision_gives_the_weights_back_bitwise(half, ascent, policy):
    """With a learning rate of 0 nothing moves, although the second gradient was taken elsewhere."""
    model = Network().to(half.device)
    before = {name: value.clone() for name, value in model.named_parameters()}
    train(model, half(model, lr=0.0, ascent=dict(type=ascent), policy=policy_of(policy)))
    assert_same(dict(model.named_parameters()), before)


def test_a_state_without_loss_scaling_is_no_state_of_a_scaler(scaled):
    """Training in bfloat16 on a CPU goes on where losses are scaled."""
    model = Network()
    wrapper = scaled(model, SAM())
    before = wrapper.loss_scaler.state_dict()
    state = SAMOptimWrapper(optimizer=optimizer_of(Network()), ascent=SAM()).state_dict()
    wrapper.load_state_dict(dict(state, loss_scaler={}))
    assert wrapper.loss_scaler.state_dict() == before


def test_loss_scaling_without_any_gradient_of_the_chosen(scaled):
    """A policy may draw layers that no loss depends on: a plain step, as in full precision."""
    model = Network()
    model.idle = nn.Linear(2, 2)
    before = {name: value.clone() for name, value in model.named_parameters()}
    train(model, scaled(model, SAM(), policy=RandomLayers(0.2, seed=1)), steps=6)
    assert not torch.equal(model.layers[0].weight, before['layers.0.weight'])


@pytest.mark.usefixtures('cpu_only')
@pytest.mark.parametrize('loss_scale', ['dynamc', [1], -1, 0, True])
def test_a_loss_scale_that_is_none_is_named_on_a_cpu_too(loss_scale):
    """Although nothing is scaled there."""
    with pytest.raises(MmsharpError, match='loss_scale='):
        AmpSAMOptimWrapper(loss_scale=loss_scale, optimizer=optimizer_of(Network()), ascent=SAM())


@pytest.mark.gpu
@pytest.mark.parametrize('dtype', HALVES)
@pytest.mark.parametrize('number', [0, 2])
def test_half_precision_overflows_skip_the_step(dtype, number):
    """By a scale that is too large, in both passes, or in the second alone."""
    model = Network(gain=1.0 if number else 1e3).cuda()
    overflow_in(model, number)
    scale = SCALE if number else 2.0**127
    before = {name: value.clone() for name, value in model.named_parameters()}
    wrapper = AmpSAMOptimWrapper(
        optimizer=optimizer_of(model), ascent=SAM(rho=0.1), dtype=dtype, loss_scale=dict(init_scale=scale)
    )
    train(model, wrapper, steps=1)
    assert wrapper.loss_scaler.get_scale() == scale / 2
    assert_same(dict(model.named_parameters()), before)


@pytest.mark.usefixtures('cpu_only')
def test_bfloat16_on_the_cpu_follows_the_formula_written_longhand():
    """Both passes run in bfloat16, the ascent in float32; a second pass with cached casts of w would not get here."""
    model = small_network.Network(dropout=0.0)
    twin = copy.deepcopy(model)
    seen: list[torch.dtype] = []
    model.layers[0].register_forward_hook(lambda _, inputs, outputs: seen.append(outputs.dtype))
    optimizer = torch.optim.SGD(model.parameters(), lr=0.1)
    wrapper = AmpSAMOptimWrapper(optimizer=optimizer, ascent=SAM(rho=1.0), dtype='bfloat16')
    model.train_step(small_network.batch(), wrapper)
    assert seen == [torch.bfloat16] * 2

    def gradients_of(network):
        with torch.autocast('cpu', torch.bfloat16):
            loss = network(**small_network.batch())['loss']
        return torch.autograd.grad(loss, list(network.layers.parameters()))

    first = gradients_of(copy.deepcopy(twin))
    norm = torch.cat([gradient.flatten() for gradient in first]).norm()
    moved = copy.deepcopy(twin)
    for parameter, gradient in zip(moved.layers.parameters(), first):
        parameter.data.add_(gradient / norm)
    second = gradients_of(moved)
    assert max((a - b).abs().max() for a, b in zip(first, second)) > 0.05  # so much does the ascent matter here
    for ours, start, gradient in zip(model.layers.parameters(), twin.layers.parameters(), second):
        assert ours.dtype == torch.float32
        torch.testing.assert_close(ours, start - 0.1 * gradient, rtol=1e-5, atol=1e-6)


@pytest.mark.usefixtures('cpu_only')
def test_float16_on_the_cpu_is_refused():
    """By name, with what works."""
    with pytest.raises(MmsharpError, match='bfloat16'):
        AmpSAMOptimWrapper(
            optimizer=torch.optim.SGD(small_network.Network().parameters(), lr=0.1), ascent=SAM(), dtype='float16'
        )
