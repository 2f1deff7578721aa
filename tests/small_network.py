"""A small network with everything that a second pass may get wrong, and sharpness-aware training written out for it."""

import copy

import torch
from mmengine.model import BaseModel
from mmengine.optim import OptimWrapper
from torch import nn

from mmsharp.engine.optim_wrappers import SAMOptimWrapper
from mmsharp.registry import ASCENTS, POLICIES

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


def policy_of(name: str) -> dict:
    return dict(type=name, **SMALL.get(name, {}))


class BrokenLayerError(RuntimeError):
    """What the forward or backward of a layer raises on demand."""


def breaking(count: list[int], at: int):
    def hook(*_):
        count[0] += 1
        if count[0] == at:
            raise BrokenLayerError

    return hook


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
