"""The contract of the sharpness-aware wrapper, clause by clause, over every registered ascent where it matters."""

import copy
import io
import weakref

import pytest
import torch
from mmengine.logging import MessageHub
from mmengine.model import ExponentialMovingAverage
from mmengine.optim import ExponentialLR
from small_network import (
    ALL_ASCENTS,
    PAIRS,
    Network,
    assert_close,
    assert_same,
    batch,
    gradient_at,
    policy_of,
    train,
    train_longhand,
    train_ours,
    wrapped,
)

from mmsharp.engine.optim_wrappers import SAMOptimWrapper
from mmsharp.errors import MmsharpError
from mmsharp.registry import ASCENTS, build_part
from mmsharp.sharpness import SAM, select_parameters


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


def test_clipping_longhand():
    """Only the final gradient is clipped: the ball keeps its radius, and its direction that of the whole gradient."""

    def gradient(model, step, plain, momenta):
        final = gradient_at(model, plain, 0.3, step)
        norm = torch.cat([part.flatten() for part in final]).norm()
        assert norm > 0.05
        return [part * 0.05 / (norm + 1e-6) for part in final]

    ours = train_ours(ascent=SAM(rho=0.3), clip_grad=dict(max_norm=0.05))
    assert_close(ours, train_longhand(gradient))


def test_schedules_parameter_groups_and_averages_longhand():
    """A learning rate that changes, one of its own for a layer without weight decay, and an average of the weights."""
    model, twin = Network(dropout=0.0), Network(dropout=0.0)
    groups = [
        dict(params=model.layers[:5].parameters()),
        dict(params=model.layers[5:].parameters(), lr=0.4, weight_decay=0),
    ]
    optimizer = torch.optim.SGD(groups, lr=0.1, weight_decay=1e-2)
    wrapper = SAMOptimWrapper(optimizer, ascent=SAM(rho=0.3))
    schedule = ExponentialLR(wrapper, gamma=0.5)
    average = ExponentialMovingAverage(model.layers, momentum=0.2)
    means = [parameter.detach().clone() for parameter in twin.layers.parameters()]
    for step in range(4):
        model.train_step(batch(step), wrapper)
        schedule.step()
        average.update_parameters(model.layers)
        gradients = gradient_at(twin, gradient_at(twin, means, 0.0, step), 0.3, step)
        last = len(gradients) - 2
        for index, (parameter, gradient) in enumerate(zip(twin.layers.parameters(), gradients)):
            lr, decay = (0.1, 1e-2) if index < last else (0.4, 0.0)
            parameter.data -= lr * 0.5**step * (gradient + decay * parameter.data)
            means[index] = parameter.detach().clone() if step == 0 else 0.8 * means[index] + 0.2 * parameter.detach()
    assert_close(model, twin)
    for ours, theirs in zip(average.module.parameters(), means):
        torch.testing.assert_close(ours, theirs, rtol=1e-5, atol=1e-6)


@pytest.mark.parametrize(('ascent', 'policy'), PAIRS)
def test_weights_are_bitwise_back_before_the_optimizer_steps(ascent, policy):
    """With a learning rate of 0 nothing moves, although gradients were taken elsewhere."""
    model = Network()
    before = {key: value.clone() for key, value in model.named_parameters()}
    train(model, wrapped(model, dict(type=ascent), lr=0.0, policy=policy_of(policy)), steps=4)
    assert_same(before, dict(model.named_parameters()))


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


def test_the_perturbation_is_freed_before_the_second_pass():
    """Beyond plain training only one copy of the weights is alive in a pass: the one that restores them."""
    references: list[weakref.ref] = []
    alive: list[int] = []

    class Watched(SAM):
        def direct_(self, parameters, gradients, keep):
            references.extend(weakref.ref(gradient) for gradient in gradients)
            return super().direct_(parameters, gradients, keep)

    model = Network()
    model.register_forward_pre_hook(lambda *_: alive.append(sum(reference() is not None for reference in references)))
    model.train_step(batch(), wrapped(model, Watched()))
    assert len(references) == 6
    assert alive == [0, 0]


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


def test_ascent_is_required():
    """A tool that exchanges the type of the wrapper ends in an error and not in plain training."""
    with pytest.raises(MmsharpError, match=r'ascent.*AdaSAP'):
        SAMOptimWrapper(torch.optim.SGD(Network().parameters(), lr=0.1))
