"""The contract of the sharpness-aware wrapper in two processes, against longhand in one."""

import copy
import itertools

import pytest
import torch
from mmengine.model import BaseModel, MMDistributedDataParallel
from mmengine.optim import OptimWrapper
from small_network import PAIRS, policy_of
from torch import nn
from torch.distributed.algorithms.ddp_comm_hooks.default_hooks import allreduce_hook
from two_processes import in_two_processes

from mmsharp.engine.optim_wrappers import SAMOptimWrapper
from mmsharp.registry import ASCENTS, build_part
from mmsharp.sharpness import select_parameters

RANKS = range(2)
STEPS = 6

SAM = dict(type='SAM', rho=0.3)
CASES = {
    'sam': dict(ascent=SAM),
    'asam': dict(ascent=dict(type='ASAM', rho=0.5)),
    'adasap': dict(ascent=dict(type='AdaSAP', rho_max=0.5)),
    'masks': dict(ascent=dict(type='AdaSAP', rho_max=0.5), masked=True),
    'accumulation': dict(ascent=SAM, counts=2),
    'unused': dict(ascent=SAM, unused=True),
    'unused and accumulation': dict(ascent=SAM, unused=True, counts=2),
    'unused alone': dict(ascent=SAM, unused=True, parameters=['branch.*']),
    'one ball': dict(ascent=SAM, synchronise=True),
    'one ball, unused and accumulation': dict(ascent=SAM, synchronise=True, unused=True, counts=2),
    'one ball, unused alone': dict(ascent=SAM, synchronise=True, unused=True, parameters=['branch.*']),
}


class Network(BaseModel):
    """Convolution, BatchNorm, a classifier, and a branch that not every batch takes."""

    def __init__(self) -> None:
        super().__init__()
        torch.manual_seed(0)
        self.stem = nn.Sequential(nn.Conv2d(2, 4, 3), nn.BatchNorm2d(4), nn.ReLU(), nn.Flatten())
        self.branch = nn.Linear(16, 3)
        self.head = nn.Linear(16, 3)

    def forward(self, inputs, branch=True, mode='loss'):
        features = self.stem(inputs)
        scores = self.head(features)
        if branch:
            scores = scores + self.branch(features)
        return dict(loss=scores.square().mean())


def batch(step, rank, unused=False):
    """The shard of a process; where parameters may be unused, the branch is taken by both, one or none of them."""
    generator = torch.Generator().manual_seed(2 * step + rank)
    taken = (rank < 1, True, False, rank > 0, True, False)[step] if unused else True
    return dict(inputs=torch.randn(5, 2, 4, 4, generator=generator), branch=taken)


def optimizer_of(model):
    return torch.optim.SGD(model.parameters(), lr=0.1, momentum=0.9, weight_decay=1e-3)


def masks_of(model, masked):
    return {model.stem[0].weight: torch.tensor([1.0, 0.0, 1.0, 1.0]).reshape(4, 1, 1, 1)} if masked else {}


def train(rank, kind, network=Network, unused=False, masked=False, counts=1, broadcast_buffers=False, **options):
    """Weights, buffers, and how many numbers were exchanged in each iteration, bucket by bucket."""
    model = network()
    exchanged = []

    def count(state, bucket):
        exchanged[-1].append(bucket.buffer().numel())
        return allreduce_hook(state, bucket)

    wrapper = kind(optimizer=optimizer_of(model), accumulative_counts=counts, **options)
    if kind is SAMOptimWrapper:
        wrapper.set_masks(masks_of(model, masked))
    distributed = MMDistributedDataParallel(
        model, find_unused_parameters=unused, broadcast_buffers=broadcast_buffers, bucket_cap_mb=1e-4
    )
    distributed.register_comm_hook(None, count)
    for step in range(STEPS):
        exchanged.append([])
        distributed.train_step(batch(step, rank, unused), wrapper)
    return dict(
        weights={name: value.detach() for name, value in model.named_parameters()},
        buffers=dict(model.named_buffers()),
        exchanged=exchanged,
    )


def train_both(rank, case):
    plain = {key: value for key, value in case.items() if key in ('unused', 'counts')}
    return train(rank, SAMOptimWrapper, **case), train(rank, OptimWrapper, **plain)


def train_longhand(ascent, counts=1, unused=False, masked=False, synchronise=False, parameters=None):
    """``w <- SGD(mean over ranks and micro-batches of grad L_rank(w + eps_rank))``, without any of our guards."""
    model = Network()
    ascent = build_part(ASCENTS, ascent)
    optimizer = optimizer_of(model)
    for first in range(0, STEPS, counts):
        for step in range(first, first + counts):
            shards = [batch(step, rank, unused) for rank in RANKS]
            directions = [gradients_at(model, shard) for shard in shards]
            if synchronise:
                names = {name for direction in directions for name in direction}
                mean = {name: sum(d[name] for d in directions if name in d) / len(RANKS) for name in names}
                directions = [mean, copy.deepcopy(mean)]
            for shard, direction in zip(shards, directions):
                which = select_parameters(model, parameters or ascent.default_parameters)
                moved = displaced(model, ascent, which, direction, masks_of(model, masked))
                for name, gradient in gradients_at(moved, shard).items():
                    parameter = model.get_parameter(name)
                    share = gradient / len(RANKS) / counts
                    parameter.grad = share if parameter.grad is None else parameter.grad + share
        optimizer.step()
        optimizer.zero_grad()
    return {name: value.detach() for name, value in model.named_parameters()}


def gradients_at(model, shard):
    twin = copy.deepcopy(model)
    twin.zero_grad()
    twin(**shard)['loss'].backward()
    return {name: value.grad for name, value in twin.named_parameters() if value.grad is not None}


def displaced(model, ascent, which, direction, masks):
    parameters = [p for p in which if p.name in direction]
    eps = [direction[p.name] for p in parameters]
    with torch.no_grad():
        if eps:
            ascent.perturb_(parameters, eps, [masks.get(p.tensor) for p in parameters])
    moved = copy.deepcopy(model)
    for parameter, move in zip(parameters, eps):
        moved.get_parameter(parameter.name).data.add_(move)
    return moved


@pytest.mark.parametrize('name', CASES)
def test_each_process_climbs_by_itself_and_they_descend_together(tmp_path, name):
    """Weights are bitwise equal on both ranks and those of the longhand; the first pass exchanges no gradients."""
    case = CASES[name]
    (first, plain), (second, _) = in_two_processes(train_both, tmp_path, case)
    expected = train_longhand(**case)
    start = Network()
    assert not torch.equal(expected['head.weight'], start.head.weight)
    for key, value in first['weights'].items():
        assert torch.equal(value, second['weights'][key]), key
        torch.testing.assert_close(value, expected[key], rtol=1e-5, atol=1e-6)
    assert first['exchanged'] == second['exchanged'] == plain['exchanged']
    assert max(map(len, plain['exchanged'])) > 1


def train_with_radius_zero(rank):
    """A pair of results per setting, ours and the parent's."""
    pairs = []
    for counts, buffers in itertools.product((1, 2), (False, True)):
        ours = train(rank, SAMOptimWrapper, ascent=dict(type='SAM', rho=0.0), counts=counts, broadcast_buffers=buffers)
        pairs.append((ours, train(rank, OptimWrapper, counts=counts, broadcast_buffers=buffers)))
    return pairs


def test_radius_zero_trains_bitwise_like_the_parent(tmp_path):
    """Weights and BatchNorm statistics, whether or not DDP spreads those of the first process before each step."""
    for ours, plain in itertools.chain(*in_two_processes(train_with_radius_zero, tmp_path)):
        for part in ('weights', 'buffers'):
            assert all(torch.equal(value, plain[part][name]) for name, value in ours[part].items())


def train_all_pairs(rank):
    return [
        train(rank, SAMOptimWrapper, ascent=dict(type=ascent), policy=policy_of(policy), unused=unused, counts=counts)
        for ascent, policy in PAIRS
        for unused, counts in ((False, 1), (True, 1), (True, 2))
    ]


def test_every_ascent_under_every_policy_keeps_the_processes_together(tmp_path):
    """Bitwise equal weights, also where a process lacks gradients that the other has."""
    for first, second in zip(*in_two_processes(train_all_pairs, tmp_path)):
        for name, value in first['weights'].items():
            assert value.isfinite().all()
            assert torch.equal(value, second['weights'][name])


def train_with_overflow(rank):
    """The gradient of the second process is infinite in its second step."""
    results = []
    for policy, skip, synchronise in itertools.product(('EveryStep', 'LookSAM'), (False, True), (False, True)):
        steps = itertools.count()

        class Overflowing(Network):
            def forward(self, inputs, branch=True, mode='loss', steps=steps):
                losses = super().forward(inputs, branch, mode)
                # Forward passes 0 and 1 are those of the first step.
                return losses if rank == 0 or next(steps) not in (2, 3) else dict(loss=losses['loss'] * torch.inf)

        options = dict(ascent=SAM, policy=policy_of(policy), skip_nonfinite=skip, synchronise=synchronise)
        results.append((skip, train(rank, SAMOptimWrapper, network=Overflowing, **options)['weights']))
    return results


def test_an_overflow_in_one_process_does_not_part_them(tmp_path):
    """Both go through the same exchanges: they end with equal weights, finite ones where such steps are left out."""
    for (skip, first), (_, second) in zip(*in_two_processes(train_with_overflow, tmp_path)):
        for name, value in first.items():
            torch.testing.assert_close(value, second[name], rtol=0, atol=0, equal_nan=True)
            assert bool(value.isfinite().all()) == skip
