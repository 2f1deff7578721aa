"""The contract of the sharpness-aware wrapper, clause by clause, over every registered ascent where it matters."""

import copy
import io
import weakref

import pytest
import torch
from mmengine.logging import MessageHub
from mmengine.model import BaseModel, ExponentialMovingAverage
from mmengine.optim import OptimWrapper, build_optim_wrapper
from mmengine.structures import BaseDataElement
from torch import nn
from torch.nn.parallel import DistributedDataParallel
from torch.utils.checkpoint import checkpoint

from mmsharp.engine.optim_wrappers import AmpSAMOptimWrapper, SAMOptimWrapper
from mmsharp.engine.optim_wrappers.sharpness_aware import refuse_static_graph
from mmsharp.errors import MmsharpError
from mmsharp.registry import ASCENTS, POLICIES, build_part
from mmsharp.sharpness import ASAM, SAM, AdaSAP, LookSAM, MomentumSAM, Periodic, Policy, RandomLayers, select_parameters


@pytest.fixture
def cpu_only(monkeypatch):
    """MMEngine sees no accelerator, even where there is one."""
    monkeypatch.setattr('mmsharp.engine.optim_wrappers.amp_sam_optim_wrapper.get_device', lambda: 'cpu')


ALL_ASCENTS = sorted(ASCENTS.module_dict)
ALL_POLICIES = sorted(POLICIES.module_dict)
PAIRS = [
    (ascent, policy)
    for ascent in ALL_ASCENTS
    for policy in ALL_POLICIES
    if ASCENTS.get(ascent).direction == 'gradient' or not POLICIES.get(policy).corrects  # refused, see below
]
SMALL = dict(Periodic=dict(interval=2), LookSAM=dict(interval=2))
"""Settings that make a policy change its mind within a few steps."""


SEEN_SHIFTS: list[float] = []


class Network(BaseModel):
    """Convolution, BatchNorm, dropout, an unused parameter, and a forward that changes its data samples."""

    def __init__(self, dropout: float = 0.3) -> None:
        super().__init__()
        torch.manual_seed(0)
        self.layers = nn.Sequential(
            nn.Conv2d(2, 4, 3), nn.BatchNorm2d(4), nn.ReLU(), nn.Dropout(dropout), nn.Flatten(), nn.Linear(16, 3)
        )
        self.unused = nn.Linear(2, 2)

    def forward(self, inputs, data_samples=None, mode='loss'):
        outputs = self.layers(inputs)
        if data_samples is not None:
            SEEN_SHIFTS.append(data_samples[0].shift)
            outputs = outputs + data_samples[0].shift
            data_samples[0].shift += 1.0
        return dict(loss=outputs.square().mean())


def batch(seed: int = 0) -> dict:
    generator = torch.Generator().manual_seed(seed)
    return dict(inputs=torch.randn(6, 2, 4, 4, generator=generator))


def wrapped(model: nn.Module, ascent=None, lr: float = 0.1, weight_decay: float = 1e-3, **kwargs):
    optimizer = torch.optim.SGD(model.parameters(), lr=lr, momentum=0.9, weight_decay=weight_decay)
    if ascent is None:
        return OptimWrapper(optimizer, **kwargs)
    return SAMOptimWrapper(optimizer, ascent=ascent, **kwargs)


def train(model: BaseModel, wrapper, steps: int = 4) -> dict[str, torch.Tensor]:
    torch.manual_seed(7)
    for step in range(steps):
        model.train_step(batch(step), wrapper)
    return copy.deepcopy(model.state_dict())


def assert_same(first: dict[str, torch.Tensor], second: dict[str, torch.Tensor]) -> None:
    assert all(torch.equal(first[key], second[key]) for key in second)


@pytest.mark.parametrize('kwargs', [{}, dict(accumulative_counts=2), dict(clip_grad=dict(max_norm=0.01))])
def test_radius_zero_trains_bitwise_like_the_parent(kwargs):
    """rho = 0: weights, statistics and random numbers are those of OptimWrapper, with accumulation and clipping too."""
    plain = Network()
    twin = copy.deepcopy(plain)
    assert_same(train(plain, wrapped(plain, **kwargs)), train(twin, wrapped(twin, SAM(rho=0.0), **kwargs)))


@pytest.mark.parametrize('name', ALL_ASCENTS)
def test_step_equals_the_formula_written_longhand(name):
    """w <- w - lr grad L(w + eps(grad L(w))): no momentum, no dropout, one step, without any of our guards."""
    model = Network(dropout=0.0)
    twin = copy.deepcopy(model)
    ascent = build_part(ASCENTS, dict(type=name))
    momentum = 0.9 if ascent.direction == 'momentum' else 0.0  # of which there is none before the first step
    optimizer = torch.optim.SGD(model.parameters(), lr=0.1, momentum=momentum)
    model.train_step(batch(), SAMOptimWrapper(optimizer, ascent=ascent))

    parameters = [p for p in select_parameters(twin, ascent.default_parameters) if not p.name.startswith('unused')]
    loss = twin(**batch())['loss']
    gradients = list(torch.autograd.grad(loss, [parameter.tensor for parameter in parameters]))
    if momentum:
        gradients = [torch.zeros_like(gradient) for gradient in gradients]
    else:
        ascent.perturb_(parameters, gradients, [None] * len(parameters))
    moved = copy.deepcopy(twin)
    for parameter, eps in zip(parameters, gradients):
        moved.get_parameter(parameter.name).data.add_(eps)
    moved(**batch())['loss'].backward()
    for (key, parameter), other in zip(twin.named_parameters(), moved.parameters()):
        expected = parameter if other.grad is None else parameter - 0.1 * other.grad
        torch.testing.assert_close(model.get_parameter(key), expected, rtol=1e-6, atol=1e-7)


def policy_of(name: str) -> dict:
    return dict(type=name, **SMALL.get(name, {}))


@pytest.mark.parametrize(('ascent', 'policy'), PAIRS)
def test_weights_are_bitwise_back_before_the_optimizer_steps(ascent, policy):
    """With a learning rate of 0 nothing moves, although gradients were taken elsewhere."""
    model = Network()
    before = {key: value.clone() for key, value in model.named_parameters()}
    train(model, wrapped(model, dict(type=ascent), lr=0.0, policy=policy_of(policy)), steps=4)
    assert_same(before, dict(model.named_parameters()))


class BrokenLayerError(RuntimeError):
    """What the forward or backward of a layer raises on demand."""


def breaking(count: list[int], at: int):
    def hook(*_):
        count[0] += 1
        if count[0] == at:
            raise BrokenLayerError

    return hook


@pytest.mark.parametrize('passes', ['forward', 'backward'])
@pytest.mark.parametrize('at', [1, 2, 3, 4])
@pytest.mark.parametrize('ascent', ALL_ASCENTS)
def test_an_exception_in_any_pass_leaves_weights_and_state_bitwise(ascent, at, passes):
    """First or second, forward or backward; buffers are those of before the step."""
    model = Network(dropout=0.0)
    wrapper = wrapped(model, dict(type=ascent))
    model.train_step(batch(9), wrapper)  # from here on there is a momentum
    layer = model.layers[5] if passes == 'forward' else model.layers[2]
    register = layer.register_forward_hook if passes == 'forward' else layer.register_full_backward_hook
    handle = register(breaking([0], at))
    before: dict[str, torch.Tensor] = {}

    def train_until_it_breaks():
        for step in range(5):
            before.update(copy.deepcopy(model.state_dict()))
            model.train_step(batch(step), wrapper)

    with pytest.raises(BrokenLayerError):
        train_until_it_breaks()
    handle.remove()
    assert_same(model.state_dict(), before)
    assert model.layers[1].track_running_stats
    train(model, wrapper, steps=1)


def momenta_of(wrapper, model) -> list[torch.Tensor]:
    return [wrapper.optimizer.state[p]['momentum_buffer'] for p in model.layers.parameters()]


def gradient_at(model, direction, rho, seed):
    """The gradient of a batch's loss at `w + rho * direction / ||direction||`, without any of our guards."""
    moved = copy.deepcopy(model)
    norm = torch.cat([part.flatten() for part in direction]).norm() + 1e-12
    for parameter, part in zip(moved.layers.parameters(), direction):
        parameter.data.add_(rho * part / norm)
    moved.zero_grad()
    moved(**batch(seed))['loss'].backward()
    return [parameter.grad for parameter in moved.layers.parameters()]


def train_longhand(gradient_of_step, steps=5):
    """SGD with momentum and weight decay, written out; BatchNorm follows the clean pass."""
    model = Network(dropout=0.0)
    momenta = [torch.zeros_like(p) for p in model.layers.parameters()]
    for step in range(steps):
        plain = gradient_at(model, momenta, 0.0, step)
        gradients = gradient_of_step(model, step, plain, momenta)
        for parameter, gradient, momentum in zip(model.layers.parameters(), gradients, momenta):
            momentum.mul_(0.9).add_(gradient + 1e-3 * parameter.data)
            parameter.data.sub_(0.1 * momentum)
    return model


def train_ours(steps=5, **kwargs):
    model = Network(dropout=0.0)
    wrapper = wrapped(model, **kwargs)
    for step in range(steps):
        model.train_step(batch(step), wrapper)
    return model


def assert_close(model, other):
    for ours, theirs in zip(model.layers.parameters(), other.layers.parameters()):
        torch.testing.assert_close(ours, theirs, rtol=1e-5, atol=1e-6)


def test_momentum_sam_longhand():
    """eps = -rho v / ||v||; the first step is plain."""

    def gradient(model, step, plain, momenta):
        return gradient_at(model, [-part for part in momenta], 0.3, step)

    assert_close(train_ours(ascent=MomentumSAM(SAM(rho=0.3))), train_longhand(gradient))


def test_momentum_sam_follows_adam_too():
    """exp_avg is the momentum of Adam and its kin: the first step is plain, the second is not."""
    ends = []
    for ascent in (None, MomentumSAM()):
        model = Network(dropout=0.0)
        optimizer = torch.optim.AdamW(model.parameters(), lr=0.01)
        wrapper = OptimWrapper(optimizer) if ascent is None else SAMOptimWrapper(optimizer, ascent=ascent)
        model.train_step(batch(0), wrapper)
        first = model.layers[0].weight.detach().clone()
        model.train_step(batch(1), wrapper)
        ends.append((first, model.layers[0].weight.detach().clone()))
    assert torch.equal(ends[0][0], ends[1][0])
    assert not torch.equal(ends[0][1], ends[1][1])


def test_periodic_longhand():
    """SAM in steps 0, 2, 4; plain steps between."""

    def gradient(model, step, plain, momenta):
        return plain if step % 2 else gradient_at(model, plain, 0.1, step)

    assert_close(train_ours(ascent=SAM(rho=0.1), policy=Periodic(interval=2)), train_longhand(gradient))


def test_look_sam_longhand():
    """g_v = g_s - <g_s, g> / ||g||^2 g in steps 0 and 3; between, g + alpha ||g|| / ||g_v|| g_v."""
    kept: list[torch.Tensor] = []

    def gradient(model, step, plain, momenta):
        g = torch.cat([part.flatten() for part in plain])
        if step % 3 == 0:
            second = gradient_at(model, plain, 0.1, step)
            g_s = torch.cat([part.flatten() for part in second])
            kept[:] = [g_s - (g_s @ g) / (g @ g) * g]
            return second
        mixed = g + 0.5 * g.norm() / kept[0].norm() * kept[0]
        return [part.view_as(p) for part, p in zip(mixed.split([p.numel() for p in plain]), plain)]

    assert_close(train_ours(ascent=SAM(rho=0.1), policy=LookSAM(interval=3, alpha=0.5)), train_longhand(gradient))


def test_random_layers_longhand():
    """Only the drawn layers move, and the norm runs over them alone."""
    policy = RandomLayers(fraction=0.4, seed=1)
    sizes = set()

    def gradient(model, step, plain, momenta):
        parameters = select_parameters(model, ['layers.*'])
        chosen = {parameter.name for parameter in policy.select(step, parameters)}
        sizes.add(len(chosen))
        direction = [g if p.name in chosen else torch.zeros_like(g) for p, g in zip(parameters, plain)]
        return gradient_at(model, direction, 0.1, step)

    ours = train_ours(ascent=SAM(rho=0.1), policy=policy, parameters=['layers.*'])
    assert_close(ours, train_longhand(gradient))
    assert sizes == {4}  # two of the three layers, weight and bias each


class OnlyUnused(Policy):
    """Chooses layers on which no loss depends."""

    def select(self, step, parameters):
        return [parameter for parameter in parameters if parameter.name.startswith('unused')]


@pytest.mark.parametrize('ascent', [SAM(), ASAM(), AdaSAP()], ids=lambda part: type(part).__name__)
def test_a_policy_that_chooses_unused_layers_has_a_plain_step(ascent):
    """What it does not choose is used: nothing is wrong, and the step is the parent's, bit for bit."""
    plain = Network()
    twin = copy.deepcopy(plain)
    assert_same(train(plain, wrapped(plain)), train(twin, wrapped(twin, ascent, policy=OnlyUnused())))


def test_parameters_on_which_no_loss_depends_are_refused():
    """By the name of the first, with what to change."""
    model = Network()
    with pytest.raises(MmsharpError, match=r'none of the 2 parameters.*unused\.weight.*choose other `parameters`'):
        model.train_step(batch(), wrapped(model, SAM(), parameters=['unused.*']))


@pytest.mark.parametrize(('ascent', 'policy'), PAIRS)
def test_a_resumed_run_ends_bitwise_like_the_uninterrupted_one(ascent, policy):
    """What a policy remembers rides in the wrapper's state, as tensors and plain data."""
    model = Network()
    wrapper = wrapped(model, dict(type=ascent), policy=policy_of(policy))
    train(model, wrapper, steps=3)
    buffer = io.BytesIO()
    torch.save(dict(wrapper=wrapper.state_dict(), model=model.state_dict()), buffer)
    saved = torch.load(io.BytesIO(buffer.getvalue()), weights_only=True)
    other = Network()
    other.load_state_dict(saved['model'])
    resumed = wrapped(other, dict(type=ascent), policy=policy_of(policy))
    resumed.load_state_dict(saved['wrapper'])
    resumed.initialize_count_status(other, 3, -1)
    assert_same(train(model, wrapper), train(other, resumed))


@pytest.mark.parametrize(('ascent', 'policy'), PAIRS)
def test_accumulation_decides_once_per_optimizer_step(ascent, policy):
    """Two micro-batches that are the same batch make the step of that batch alone."""
    ends = []
    for counts in (1, 2):
        model = Network(dropout=0.0)
        wrapper = SAMOptimWrapper(
            torch.optim.SGD(model.parameters(), lr=0.1, momentum=0.9),
            ascent=dict(type=ascent),
            policy=policy_of(policy),
            accumulative_counts=counts,
        )
        for step in range(4):
            for _ in range(counts):
                model.train_step(batch(step), wrapper)
        ends.append(dict(model.layers.named_parameters()))
    for key, value in ends[0].items():
        torch.testing.assert_close(ends[1][key], value, rtol=1e-5, atol=1e-6)


def test_weights_are_displaced_in_the_passes_only():
    """Along the momentum forward and backward run at w + eps; between and after them the weights are w."""
    model = Network(dropout=0.0)
    wrapper = wrapped(model, MomentumSAM())
    model.train_step(batch(0), wrapper)
    before = copy.deepcopy(dict(model.named_parameters()))
    with wrapper.optim_context(model):
        loss = model(**batch(1))['loss']
        assert not torch.equal(model.layers[0].weight, before['layers.0.weight'])
    assert_same(before, dict(model.named_parameters()))  # parse_losses may raise here, and the step be abandoned
    wrapper.backward(loss)
    assert_same(before, dict(model.named_parameters()))
    with pytest.raises(BrokenLayerError), wrapper.optim_context(model):
        raise BrokenLayerError
    assert_same(before, dict(model.named_parameters()))


def test_one_pass_ascents_log_no_loss_gap():
    """There is no loss at w; the norm is the momentum's."""
    hub = MessageHub.get_current_instance()
    for name in list(hub.log_scalars):
        hub.log_scalars.pop(name)
    model = Network()
    train(model, wrapped(model, MomentumSAM()), steps=3)
    assert set(hub.log_scalars) == {'train/sharpness/momentum_norm', 'train/sharpness/radius'}
    assert len(hub.get_scalar('train/sharpness/radius').data[0]) == 2


@pytest.mark.parametrize('ascent', [SAM(), ASAM(), AdaSAP()], ids=lambda part: type(part).__name__)
def test_steps_that_are_not_finite_are_left_out_on_request(ascent):
    """skip_nonfinite: weights and momentum stay, and the next step is an ordinary one."""
    model = Network(dropout=0.0)
    wrapper = wrapped(model, ascent, skip_nonfinite=True)
    model.train_step(batch(0), wrapper)
    before = copy.deepcopy((dict(model.named_parameters()), momenta_of(wrapper, model)))
    model.train_step(dict(inputs=batch(1)['inputs'] * torch.inf), wrapper)
    assert_same(dict(model.named_parameters()), before[0])
    assert all(torch.equal(ours, old) for ours, old in zip(momenta_of(wrapper, model), before[1]))
    model.train_step(batch(2), wrapper)
    assert all(parameter.isfinite().all() for parameter in model.parameters())
    assert not torch.equal(model.layers[0].weight, before[0]['layers.0.weight'])


@pytest.mark.parametrize('reentrant', [True, False])
@pytest.mark.parametrize('ascent', ALL_ASCENTS)
def test_activation_checkpointing_changes_nothing(ascent, reentrant):
    """with_cp and MMEngine's switch reenter autograd, which an ascent cannot see through; here they do not."""

    class Checkpointed(Network):
        def forward(self, inputs, data_samples=None, mode='loss'):
            hidden = checkpoint(self.layers[2:4], self.layers[:2](inputs), use_reentrant=reentrant)
            return dict(loss=checkpoint(self.layers[4:], hidden, use_reentrant=reentrant).square().mean())

    ends = []
    for kind in (Network, Checkpointed):
        model = kind(dropout=0.3)
        wrapper = wrapped(model, dict(type=ascent))
        torch.manual_seed(7)
        for step in range(3):
            model.train_step(batch(step), wrapper)
        ends.append(dict(model.layers.named_parameters()))
    for key, value in ends[0].items():
        torch.testing.assert_close(ends[1][key], value, rtol=1e-5, atol=1e-6)


def test_a_compiled_train_step_is_refused_at_the_first_step():
    """The second pass cannot be repeated out of it; plain training would be a lie."""
    model = Network()
    wrapper = wrapped(model, SAM())
    model.train_step = torch.compile(model.train_step, backend='eager')
    with pytest.raises(MmsharpError, match='compile=False'), wrapper.optim_context(model):
        pass


def test_parameters_that_are_frozen_later_are_followed():
    """A stage frozen during training is left alone; with nothing left to move, it is an error and not plain SGD."""
    model = Network(dropout=0.0)
    wrapper = wrapped(model, SAM(), parameters=['layers.0.*', 'layers.5.*'])
    model.train_step(batch(0), wrapper)
    model.layers[0].requires_grad_(False)
    model.train_step(batch(1), wrapper)
    model.layers[5].requires_grad_(False)
    with pytest.raises(MmsharpError, match='frozen'):
        model.train_step(batch(2), wrapper)


def test_a_step_abandoned_in_the_middle_leaves_nothing_to_look_sam():
    """First gradients of a micro-batch whose step never came do not enter the next one."""
    ends = []
    for abandoned in (False, True):
        model = Network(dropout=0.0)
        wrapper = wrapped(model, SAM(), policy=LookSAM(interval=2))
        if abandoned:
            wrapper._first = {'layers.0.weight': torch.full_like(model.layers[0].weight, 7.0)}
        for step in range(3):
            model.train_step(batch(step), wrapper)
        ends.append(model.layers[0].weight.detach())
    assert torch.equal(*ends)


def test_a_sharded_model_is_refused_at_the_first_step():
    """Norms and masks of pieces are not those of parameters."""

    class FullyShardedDataParallel(Network):
        pass

    model = FullyShardedDataParallel()
    with pytest.raises(MmsharpError, match='MMDistributedDataParallel'), wrapped(model, SAM()).optim_context(model):
        pass


@pytest.mark.parametrize('key', ['loss_scale', 'dtype', 'use_fsdp'])
def test_keys_that_a_config_inherits_from_mixed_precision_are_named(key):
    """Merging our type over an AmpOptimWrapper leaves them behind."""
    with pytest.raises(MmsharpError, match=rf'{key}=.*AmpSAMOptimWrapper'):
        wrapped(Network(), SAM(), **{key: 'dynamic'})


@pytest.mark.usefixtures('cpu_only')
def test_bfloat16_on_the_cpu_follows_the_formula_written_longhand():
    """Both passes run in bfloat16, the ascent in float32; a second pass with cached casts of w would not get here."""
    model = Network(dropout=0.0)
    twin = copy.deepcopy(model)
    seen: list[torch.dtype] = []
    model.layers[0].register_forward_hook(lambda _, inputs, outputs: seen.append(outputs.dtype))
    optimizer = torch.optim.SGD(model.parameters(), lr=0.1)
    wrapper = AmpSAMOptimWrapper(optimizer=optimizer, ascent=SAM(rho=1.0), dtype='bfloat16')
    model.train_step(batch(), wrapper)
    assert seen == [torch.bfloat16] * 2

    def gradients_of(network):
        with torch.autocast('cpu', torch.bfloat16):
            loss = network(**batch())['loss']
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
        AmpSAMOptimWrapper(optimizer=torch.optim.SGD(Network().parameters(), lr=0.1), ascent=SAM(), dtype='float16')


@pytest.mark.parametrize('name', ALL_ASCENTS)
def test_without_a_finite_gradient_the_second_pass_runs_at_the_weights(name):
    """An infinite gradient gives no direction: no module ever sees NaN weights, and the step is the parent's."""
    model = Network()
    twin = copy.deepcopy(model)
    seen: list[torch.Tensor] = []
    for network in (model, twin):
        network.layers[5].weight.register_hook(lambda gradient: gradient * torch.inf)
    model.layers[5].register_forward_pre_hook(lambda *_: seen.append(model.layers[5].weight.detach().clone()))
    for network, wrapper in ((model, wrapped(model, dict(type=name))), (twin, wrapped(twin))):
        torch.manual_seed(7)
        network.train_step(batch(), wrapper)
    assert len(seen) == (2 if ASCENTS.get(name).direction == 'gradient' else 1)
    assert torch.equal(seen[0], seen[-1])
    for ours, theirs in zip(model.parameters(), twin.parameters()):
        torch.testing.assert_close(ours, theirs, rtol=0, atol=0, equal_nan=True)


def test_batch_norm_statistics_are_those_of_the_clean_pass():
    """Running mean, variance and counter after one step equal those of one plain forward pass."""
    model = Network(dropout=0.0)
    twin = copy.deepcopy(model)
    model.train_step(batch(), wrapped(model, SAM(rho=5.0)))
    twin(**batch())
    assert_same(dict(twin.layers[1].named_buffers()), dict(model.layers[1].named_buffers()))


def test_buffers_that_a_graph_has_saved_are_left_alone():
    """A buffer used as an index or a weight, written by this very forward or not: both backward passes find it."""

    class Buffers(Network):
        def __init__(self):
            super().__init__(dropout=0.0)
            self.register_buffer('order', torch.tensor([2, 0, 1]))
            self.register_buffer('project', torch.linspace(0, 1, 3))
            self.register_buffer('calls', torch.zeros(1))

        def forward(self, inputs, data_samples=None, mode='loss'):
            self.calls += 1
            outputs = self.layers(inputs)[:, self.order] * self.project * self.calls
            return dict(loss=nn.functional.linear(outputs, self.project[None]).square().mean())

    model = Buffers()
    model.train_step(batch(), wrapped(model, SAM(rho=0.1)))
    assert model.calls.item() == 1.0


def test_both_passes_draw_the_same_random_numbers():
    """The dropout mask of the second pass is that of the first; the stream goes on as after one pass."""
    model = Network()
    masks: list[torch.Tensor] = []
    model.layers[3].register_forward_hook(lambda _, inputs, outputs: masks.append((outputs == 0) & (inputs[0] != 0)))
    wrapper = wrapped(model, SAM(rho=1e-6))
    torch.manual_seed(3)
    model.train_step(batch(), wrapper)
    after = torch.rand(1)
    assert len(masks) == 2
    assert torch.equal(masks[0], masks[1])
    assert masks[0].any()
    torch.manual_seed(3)
    model(**batch())
    assert torch.equal(after, torch.rand(1))


def test_both_passes_see_the_same_data_samples():
    """A forward that changes its data samples changes a copy in the second pass."""
    model = Network()
    sample = BaseDataElement()
    sample.shift = 2.0
    SEEN_SHIFTS.clear()
    model.train_step(dict(**batch(), data_samples=[sample]), wrapped(model, SAM()))
    assert SEEN_SHIFTS == [2.0, 2.0]


def test_the_perturbation_is_freed_before_the_second_pass():
    """Beyond plain training only one copy of the weights is alive in a pass: the one that restores them."""
    references: list[weakref.ref] = []
    alive: list[int] = []

    class Watched(SAM):
        def perturb_(self, parameters, gradients, keep):
            references.extend(weakref.ref(gradient) for gradient in gradients)
            return super().perturb_(parameters, gradients, keep)

    model = Network()
    model.register_forward_pre_hook(lambda *_: alive.append(sum(reference() is not None for reference in references)))
    model.train_step(batch(), wrapped(model, Watched()))
    assert len(references) == 6
    assert alive == [0, 0]


def test_accumulated_gradients_are_not_touched_by_the_first_pass():
    """Two micro-batches: .grad is the mean of the gradients at each one's own w + eps."""
    model = Network(dropout=0.0)
    twin = copy.deepcopy(model)
    wrapper = SAMOptimWrapper(torch.optim.SGD(model.parameters(), lr=0.1), ascent=SAM(rho=0.1), accumulative_counts=2)
    model.train_step(batch(0), wrapper)
    model.train_step(batch(1), wrapper)

    parameters = [p for p in select_parameters(twin) if not p.name.startswith('unused')]
    total = [torch.zeros_like(parameter.tensor) for parameter in parameters]
    for seed in (0, 1):
        tensors = [parameter.tensor for parameter in parameters]
        gradients = torch.autograd.grad(twin(**batch(seed))['loss'], tensors)
        norm = torch.cat([gradient.flatten() for gradient in gradients]).norm()
        moved = copy.deepcopy(twin)
        for parameter, gradient in zip(parameters, gradients):
            moved.get_parameter(parameter.name).data.add_(0.1 * gradient / norm)
        targets = [moved.get_parameter(parameter.name) for parameter in parameters]
        for sum_, gradient in zip(total, torch.autograd.grad(moved(**batch(seed))['loss'], targets)):
            sum_.add_(gradient / 2)
    for parameter, gradient in zip(parameters, total):
        torch.testing.assert_close(
            model.get_parameter(parameter.name), parameter.tensor - 0.1 * gradient, rtol=1e-6, atol=1e-7
        )


def test_masks_keep_pruned_positions_out_of_the_second_pass():
    """A masked filter sees w, not w + eps, in the second pass."""
    model = Network()
    wrapper = wrapped(model, SAM(rho=1.0))
    weight = model.layers[0].weight
    mask = torch.tensor([1.0, 0.0, 1.0, 1.0]).reshape(4, 1, 1, 1)
    wrapper.set_masks({weight: mask})
    seen: list[torch.Tensor] = []
    model.layers[0].register_forward_pre_hook(lambda *_: seen.append(weight.detach().clone()))
    model.train_step(batch(), wrapper)
    assert torch.equal(seen[0][1], seen[1][1])
    assert not torch.equal(seen[0][0], seen[1][0])


def test_readings_reach_the_message_hub():
    """sharpness/loss_gap is L(w + eps) - L(w) of the whole micro-batch, accumulation or not."""
    for counts in (1, 2):
        model = Network(dropout=0.0)
        twin = copy.deepcopy(model)
        wrapper = wrapped(model, SAM(rho=0.1), accumulative_counts=counts)
        model.train_step(batch(), wrapper)
        parameters = [p for p in twin.parameters() if p is not twin.unused.weight and p is not twin.unused.bias]
        first = twin(**batch())['loss']
        gradients = torch.autograd.grad(first, parameters)
        norm = torch.cat([gradient.flatten() for gradient in gradients]).norm()
        for parameter, gradient in zip(parameters, gradients):
            parameter.data.add_(0.1 * gradient / norm)
        gap = (twin(**batch())['loss'] - first).item()
        hub = MessageHub.get_current_instance()
        assert hub.get_scalar('train/sharpness/loss_gap').current() == pytest.approx(gap, rel=1e-4)
        assert hub.get_scalar('train/sharpness/gradient_norm').current() == pytest.approx(norm.item(), rel=1e-4)
        assert hub.get_scalar('train/sharpness/radius').current() == pytest.approx(0.1)


def test_state_dict_is_the_optimizer_s_alone():
    """Nothing transient enters a checkpoint, and a resumed run goes on bitwise."""
    model = Network()
    wrapper = wrapped(model, SAM(rho=0.1))
    train(model, wrapper, steps=2)
    assert wrapper.state_dict().keys() == wrapped(Network()).state_dict().keys()
    other = copy.deepcopy(model)
    resumed = wrapped(other, SAM(rho=0.1))
    resumed.load_state_dict(copy.deepcopy(wrapper.state_dict()))
    assert_same(train(model, wrapper, steps=2), train(other, resumed, steps=2))


def test_config_is_not_changed_and_can_be_used_twice():
    """The parent pops `type` from clip_grad; ours does not pass that on."""
    config = dict(
        type='mmsharp.SAMOptimWrapper',
        ascent=dict(type='AdaSAP'),
        clip_grad=dict(type='value', clip_value=1.0),
        optimizer=dict(type='SGD', lr=0.1),
    )
    before = copy.deepcopy(config)
    for _ in range(2):
        wrapper = build_optim_wrapper(Network(), config)
        assert wrapper.clip_func is torch.nn.utils.clip_grad_value_
    assert config == before


def test_ascent_is_required():
    """A tool that exchanges the type of the wrapper ends in an error and not in plain training."""
    with pytest.raises(MmsharpError, match=r'ascent.*AdaSAP'):
        SAMOptimWrapper(torch.optim.SGD(Network().parameters(), lr=0.1))


@pytest.mark.parametrize('ascent', [3, 'SAM'])
def test_what_is_no_ascent_is_refused(ascent):
    """Neither a config nor an Ascent."""
    with pytest.raises(MmsharpError, match='ascent'):
        wrapped(Network(), ascent=ascent)


def test_unknown_filters_are_refused_at_construction():
    """Before any data is read."""
    with pytest.raises(MmsharpError, match='norm_only'):
        wrapped(Network(), SAM(), parameters='everything')


def test_a_loss_without_a_captured_forward_is_refused():
    """A custom loop that never enters optim_context gets an error and not plain SGD."""
    model = Network()
    wrapper = wrapped(model, SAM())
    with pytest.raises(MmsharpError, match='optim_context'):
        wrapper.update_params(model(**batch())['loss'])


def test_two_forwards_in_one_context_are_refused():
    """Which of them to repeat cannot be known."""
    model = Network()
    wrapper = wrapped(model, SAM())
    with wrapper.optim_context(model):
        loss = model(**batch(0))['loss'] + model(**batch(1))['loss']
    with pytest.raises(MmsharpError, match='2 forward passes'):
        wrapper.update_params(loss)


def test_inputs_changed_in_place_by_the_forward_are_refused():
    """Images are not copied; a forward that overwrites them cannot be repeated."""
    model = Network()
    wrapper = wrapped(model, SAM())
    model.layers[0].register_forward_pre_hook(lambda _, inputs: (inputs[0].mul_(2),))
    with wrapper.optim_context(model):
        loss = model(**batch())['loss']
    with pytest.raises(MmsharpError, match='in place'):
        wrapper.update_params(loss)


def test_no_hook_stays_on_the_model():
    """The forward pre-hook lives inside the context alone, also after an exception."""
    model = Network()
    wrapper = wrapped(model, SAM())
    with pytest.raises(RuntimeError, match='inside'), wrapper.optim_context(model):
        raise RuntimeError('inside')
    assert not model._forward_pre_hooks


class Aliased(BaseModel):
    """Autograd hands out one gradient for both summands, and an expanded one for the sum over a parameter."""

    def __init__(self) -> None:
        super().__init__()
        generator = torch.Generator().manual_seed(0)
        self.first, self.second, self.idle = (nn.Parameter(torch.randn(3, 4, generator=generator)) for _ in range(3))

    def forward(self, inputs, data_samples=None, mode='loss'):
        return dict(loss=((self.first + self.second) ** 3).sum() + 0.01 * self.idle.sum())


@pytest.mark.parametrize('ascent', [SAM(rho=0.05), ASAM(rho=0.5), AdaSAP(), AdaSAP(norm_scope='global')])
def test_gradients_that_share_memory_are_turned_one_by_one(ascent):
    """What is done to one summand's gradient is not done to the other's as well."""
    model = Aliased()
    start = copy.deepcopy(model)
    model.train_step(batch(), SAMOptimWrapper(torch.optim.SGD(model.parameters(), lr=0.1), ascent=ascent))
    parameters = select_parameters(start, 'all')
    gradients = [g.clone() for g in torch.autograd.grad(start(None)['loss'], [p.tensor for p in parameters])]
    ascent.perturb_(parameters, gradients, [None] * 3)
    moved = copy.deepcopy(start)
    for parameter, eps in zip(moved.parameters(), gradients):
        parameter.data.add_(eps)
    moved(None)['loss'].backward()
    for ours, before, other in zip(model.parameters(), start.parameters(), moved.parameters()):
        torch.testing.assert_close(ours, before - 0.1 * other.grad)


def test_a_sparse_gradient_is_named():
    """Before anything is moved, with what to do."""

    class Embedding(BaseModel):
        def __init__(self):
            super().__init__()
            self.table = nn.Embedding(4, 2, sparse=True)

        def forward(self, inputs, data_samples=None, mode='loss'):
            return dict(loss=self.table(inputs).square().sum())

    model = Embedding()
    with pytest.raises(MmsharpError, match=r"'table\.weight' is sparse.*sparse=False"):
        model.train_step(dict(inputs=torch.tensor([0, 1])), wrapped(model, SAM(), weight_decay=0.0))


class Remembering(BaseModel):
    """A loss that depends on what was seen: buffers written and exchanged, a number, a list, a momentum encoder."""

    def __init__(self) -> None:
        super().__init__()
        torch.manual_seed(0)
        self.layer = nn.Linear(8, 2)
        self.target = ExponentialMovingAverage(self.layer, momentum=0.5)
        self.target.requires_grad_(False)
        self.register_buffer('written', torch.zeros(()))
        self.register_buffer('exchanged', torch.zeros(()))
        self.norm = OwnStatistics(2)
        self.number = 0
        self.history: list[float] = []

    def forward(self, inputs, data_samples=None, mode='loss'):
        self.written += 1
        self.exchanged = self.exchanged + 1
        self.number += 1
        self.history.append(float(self.number))
        self.target.update_parameters(self.layer)
        inputs = inputs.flatten(1)[:, :8]
        with torch.no_grad():
            wanted = self.target(inputs)
        factor = self.written + 0.1 * self.exchanged + 0.01 * self.number + 0.001 * len(self.history)
        return dict(loss=factor * (self.norm(self.layer(inputs)) - wanted).square().mean())


class OwnStatistics(nn.BatchNorm1d):
    """Calls PyTorch's function itself, with the running statistics, whatever ``track_running_stats`` says."""

    def forward(self, inputs):
        return nn.functional.batch_norm(inputs, self.running_mean, self.running_var, self.weight, self.bias, True)


def state_of(model: Remembering) -> dict:
    return dict(model.state_dict(), number=torch.tensor(model.number), history=torch.tensor(model.history))


def test_a_loss_that_remembers_is_evaluated_as_if_it_were_once():
    """The second pass begins where the first began, so that rho = 0 is the base wrapper; and it leaves nothing."""
    plain = Remembering()
    twin = copy.deepcopy(plain)
    for model, ascent in ((plain, None), (twin, SAM(rho=0.0))):
        train(model, wrapped(model, ascent))
    assert_same(state_of(twin), state_of(plain))
    still = Remembering()
    still_plain = copy.deepcopy(still)
    train(still, wrapped(still, SAM(rho=5.0), lr=0.0))
    train(still_plain, wrapped(still_plain, lr=0.0))
    assert_same(state_of(still), state_of(still_plain))


def test_an_exception_leaves_what_a_loss_remembers():
    """Also the objects: whoever holds a buffer or the list still holds the model's."""
    model = Remembering()
    wrapper = wrapped(model, SAM())
    model.train_step(batch(0), wrapper)
    before = copy.deepcopy(state_of(model))
    held = (model.written, model.history)
    handle = model.norm.register_forward_hook(breaking([0], 2))
    with pytest.raises(BrokenLayerError):
        model.train_step(batch(1), wrapper)
    handle.remove()
    assert_same(state_of(model), before)
    assert held[0] is model.written
    assert held[1] is model.history


@pytest.mark.parametrize(('name', 'steps'), [('SGD', 0), ('Adagrad', 0), ('Adadelta', 1)])
def test_an_optimizer_without_momentum_is_refused(name, steps):
    """At once where its settings or its state say so, else after its first step; never silent plain training."""
    model = Network()
    wrapper = SAMOptimWrapper(getattr(torch.optim, name)(model.parameters(), lr=0.1), ascent=MomentumSAM())
    for step in range(steps):
        model.train_step(batch(step), wrapper)
    with pytest.raises(MmsharpError, match=f'{name} keeps none'):
        model.train_step(batch(), wrapper)


def test_a_train_step_that_adds_to_the_loss_is_refused():
    """The second pass would drop the penalty without a word."""

    class Penalised(Network):
        def train_step(self, data, optim_wrapper):
            with optim_wrapper.optim_context(self):
                losses = self(**data)
            loss, log = self.parse_losses(losses)
            optim_wrapper.update_params(loss + self.layers[0].weight.abs().sum())
            return log

    model = Penalised()
    before = copy.deepcopy(dict(model.named_parameters()))
    with pytest.raises(MmsharpError, match=r'Penalised\.train_step adds to the loss'):
        model.train_step(batch(), wrapped(model, SAM()))
    assert_same(before, dict(model.named_parameters()))


def test_two_contexts_before_one_update_are_refused():
    """The first batch would be dropped."""

    class Twice(Network):
        def train_step(self, data, optim_wrapper):
            losses = []
            for _ in range(2):
                with optim_wrapper.optim_context(self):
                    losses.append(self.parse_losses(self(**data))[0])
            optim_wrapper.update_params(sum(losses))

    model = Twice()
    with pytest.raises(MmsharpError, match='several contexts before one update'):
        model.train_step(batch(), wrapped(model, SAM()))


def test_parameters_that_are_unfrozen_later_are_followed():
    """A stage that thaws during training is moved from then on."""
    model = Network(dropout=0.0)
    model.layers[0].requires_grad_(False)
    moved: list[set[str]] = []

    class Watched(SAM):
        def perturb_(self, parameters, gradients, keep):
            moved.append({parameter.name for parameter in parameters})
            return super().perturb_(parameters, gradients, keep)

    wrapper = wrapped(model, Watched())
    model.train_step(batch(0), wrapper)
    model.layers[0].requires_grad_(True)
    model.train_step(batch(1), wrapper)
    assert moved[1] - moved[0] == {'layers.0.weight', 'layers.0.bias'}


@pytest.mark.parametrize('policy', [name for name in ALL_POLICIES if POLICIES.get(name).corrects])
def test_a_policy_that_compares_gradients_needs_two(policy):
    """Along the momentum there is one; exchanging the ascent later is no way around."""
    with pytest.raises(MmsharpError, match=rf'{policy} compares two gradients, and MomentumSAM takes one'):
        wrapped(Network(), MomentumSAM(), policy=policy_of(policy))
    wrapper = wrapped(Network(), SAM(), policy=policy_of(policy))
    with pytest.raises(MmsharpError, match=policy):
        wrapper.set_ascent(MomentumSAM())


def test_a_criterion_scores_under_the_momentum_too():
    """The ascent inside is connected like one of its own."""
    model = Network()
    ascent = dict(type='MomentumSAM', ascent=dict(type='AdaSAP', score=dict(type='Magnitude')))
    train(model, wrapped(model, ascent), steps=3)


def test_a_static_graph_is_refused():
    """By name, where PyTorch would ask for a bug report."""

    class Wrapper(DistributedDataParallel):
        def __init__(self, module, static_graph):
            nn.Module.__init__(self)
            self.module, self.static_graph = module, static_graph

    with pytest.raises(MmsharpError, match='static_graph=True'):
        refuse_static_graph(Wrapper(Network(), True))
    refuse_static_graph(Wrapper(Network(), False))
    refuse_static_graph(Network())


@pytest.mark.parametrize(
    ('arguments', 'words'),
    [
        (dict(ascent=dict(type=3)), 'type 3 is unknown; accepted: .*SAM'),
        (dict(ascent='SAM'), "'SAM' is neither an Ascent.*AdaSAP"),
        (dict(ascent=SAM(), policy='LookSAM'), "'LookSAM' is neither a Policy.*EveryStep"),
        (dict(ascent=dict(type='AdaSAP', score=['l2'])), r"score=\['l2'\] is neither"),
        (dict(ascent=dict(type='SAM', rho=10**400)), 'rho=1000'),
    ],
)
def test_wrong_types_are_named_with_what_is_accepted(arguments, words):
    """At construction."""
    with pytest.raises(MmsharpError, match=words):
        wrapped(Network(), **arguments)
