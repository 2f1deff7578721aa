"""Real models in two processes: one ball each or one for both, and blocks that not every process runs."""

import random

import numpy as np
import pytest
import torch
from mmengine.model import MMDistributedDataParallel
from real_models import REAL, displaced, gradients_of, wrap
from two_processes import in_two_processes

from mmsharp.registry import ASCENTS, build_part
from mmsharp.sharpness import RandomState, select_parameters

pytestmark = pytest.mark.filterwarnings('ignore')  # the toolboxes warn of what is deprecated

RANKS = range(2)
STEPS = 2
SAM = dict(type='SAM', rho=0.1)
CASES = {
    'a ball for each': dict(ascent=dict(type='AdaSAP')),
    'one ball': dict(ascent=SAM, synchronise=True),
    'unused': dict(ascent=SAM, unused=True),
    'one ball, unused': dict(ascent=SAM, synchronise=True, unused=True),
}


def seed_all(step, rank):
    """What a step draws depends on the step and the process."""
    for seed in (random.seed, np.random.seed, torch.manual_seed):
        seed(10 * step + rank)


def skip_block(model, real, wanted):
    """Layers may be dropped at random in training; the parameters of this one are then unused."""
    block = model.get_submodule(real.block)
    vars(block).pop('forward', None)
    if wanted:
        block.forward = lambda features: features


def is_skipped(step, rank, unused):
    """By the second process, then by both."""
    return unused and (rank == 1, True)[step]


def train_all(rank, name):
    """The weights at the end, case by case."""
    real = REAL[name]
    ends = []
    for case in CASES.values():
        options = dict(case)
        unused = options.pop('unused', False)
        model = real.make()
        wrapper = wrap(model, **options)
        distributed = MMDistributedDataParallel(model, find_unused_parameters=unused, broadcast_buffers=False)
        for step in range(STEPS):
            skip_block(model, real, is_skipped(step, rank, unused))
            seed_all(step, rank)
            distributed.train_step(real.batch(2 * step + rank), wrapper)
        ends.append({name: value.detach() for name, value in model.named_parameters()})
    return ends


def train_longhand(real, ascent, synchronise=False, unused=False):
    """``w <- SGD(mean over ranks of grad L_rank(w + eps_rank))``, without any of our guards."""
    model, ascent = real.make(), build_part(ASCENTS, ascent)
    optimizer = torch.optim.SGD(model.parameters(), lr=0.01, momentum=0.9, weight_decay=1e-3)

    def gradients(network, step, rank):
        skip_block(network, real, is_skipped(step, rank, unused))
        seed_all(step, rank)
        return gradients_of(network, real.batch(2 * step + rank), RandomState.capture())

    for step in range(STEPS):
        directions = [gradients(model, step, rank) for rank in RANKS]
        if synchronise:
            names = set().union(*directions)
            mean = {name: sum(part[name] for part in directions if name in part) / len(RANKS) for name in names}
            directions = [mean] * len(RANKS)
        for rank, direction in zip(RANKS, directions):
            chosen = select_parameters(model, ascent.default_parameters)
            for name, gradient in gradients(displaced(model, ascent, chosen, direction), step, rank).items():
                parameter = model.get_parameter(name)
                share = gradient / len(RANKS)
                parameter.grad = share if parameter.grad is None else parameter.grad + share
        optimizer.step()
        optimizer.zero_grad()
    return {name: value.detach() for name, value in model.named_parameters()}


@pytest.mark.parametrize('name', ['detector', 'classifier'])
def test_each_process_climbs_by_itself_and_they_descend_together(tmp_path, name):
    """Weights are bitwise equal on both ranks, and those of the longhand; the cases differ."""
    real = REAL[name]
    pytest.importorskip(real.toolbox)
    torch.manual_seed(0)
    ends = []
    for case, first, second in zip(CASES, *in_two_processes(train_all, tmp_path, name)):
        expected = train_longhand(real, **CASES[case])
        for key, value in first.items():
            assert torch.equal(value, second[key]), (case, key)
            torch.testing.assert_close(
                value, expected[key], rtol=1e-4, atol=1e-6, msg=lambda text, at=(case, key): f'{at}: {text}'
            )
        ends.append(first[real.last])
    assert not any(torch.equal(one, other) for index, one in enumerate(ends) for other in ends[:index])
