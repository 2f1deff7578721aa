"""Real models in MMEngine's runner, with everything that a config may switch on beside the wrapper."""

import copy
import random

import numpy as np
import pytest
import torch
from mmengine.config import Config
from mmengine.hooks import Hook
from mmengine.registry import DATASETS
from mmengine.runner import Runner, set_random_seed
from real_models import REAL
from torch.utils.data import Dataset

from mmsharp.errors import MmsharpError

pytestmark = pytest.mark.filterwarnings('ignore')  # the toolboxes warn of what is deprecated

EVERYTHING = dict(
    param_scheduler=[
        dict(type='LinearLR', start_factor=0.1, by_epoch=False, begin=0, end=2),
        dict(type='MultiStepLR', milestones=[3], by_epoch=False),
    ],
    custom_hooks=[dict(type='EMAHook', momentum=0.1)],
    auto_scale_lr=dict(enable=True, base_batch_size=8),
)
ITERATIONS = 6
SAM = dict(type='mmsharp.SAMOptimWrapper', ascent=dict(type='SAM', rho=0.1))
ADASAP = dict(type='mmsharp.SAMOptimWrapper', ascent=dict(type='AdaSAP'), policy=dict(type='LookSAM', interval=3))


@DATASETS.register_module(force=True)
class NoisyBatches(Dataset):
    """The images of a few batches; each access draws from all generators, as random transforms do."""

    def __init__(self, name):
        self.items = []
        for seed in range(4):
            batch = REAL[name].batch(seed)
            self.items += [dict(inputs=image, data_samples=sample) for image, sample in zip(*batch.values())]

    def __len__(self):
        return len(self.items)

    def __getitem__(self, index):
        item = copy.deepcopy(self.items[index])
        noise = random.random() * torch.rand(item['inputs'].shape) + float(np.random.rand())
        item['inputs'] = (0.9 * item['inputs'] + 20 * noise).clamp(0, 255).to(torch.uint8)
        return item


class KilledError(Exception):
    """What ends a run in the middle."""


class Kill(Hook):
    """Ends the run after an iteration that saved nothing."""

    priority = 'LOWEST'

    def after_train_iter(self, runner, batch_idx, data_batch=None, outputs=None):
        if runner.iter + 1 == 5:
            raise KilledError


def make_runner(tmp_path, name, wrapper, real='detector', label=None, **changes):
    optimizer = dict(
        optimizer=dict(type='SGD', lr=0.02, momentum=0.9, weight_decay=0.1),
        paramwise_cfg=dict(bias_decay_mult=0.0, norm_decay_mult=0.0, custom_keys=dict(backbone=dict(lr_mult=0.5))),
        clip_grad=dict(max_norm=1.0),
        accumulative_counts=2,
    )
    config = dict(
        default_scope=REAL[real].toolbox,
        model=REAL[real].config(),
        work_dir=str(tmp_path / name),
        experiment_name=f'{tmp_path.name}_{label or name}',
        train_dataloader=dict(
            batch_size=2,
            num_workers=0,
            dataset=dict(type='NoisyBatches', name=real),
            sampler=dict(type='InfiniteSampler', shuffle=True),
            collate_fn=dict(type='pseudo_collate'),
        ),
        train_cfg=dict(by_epoch=False, max_iters=ITERATIONS),
        optim_wrapper=dict(optimizer, **copy.deepcopy(wrapper)),
        default_hooks=dict(
            checkpoint=dict(type='CheckpointHook', by_epoch=False, interval=2),
            rng_state=dict(type='mmsharp.RNGStateHook'),
        ),
        randomness=dict(seed=0),
        log_level='ERROR',
    )
    config.update(copy.deepcopy(changes.pop('cfg', {})))
    config.update(copy.deepcopy(changes))
    return Runner.from_cfg(Config(config))


def trained(*arguments, **changes):
    runner = make_runner(*arguments, **changes)
    runner.train()
    return runner


def assert_same_run(first, second):
    """Weights, statistics, averages, what the optimizer remembers, and the learning rates."""
    parts = [(first.model, second.model)]
    for ours, theirs in zip(first.hooks, second.hooks):
        if hasattr(ours, 'ema_model'):
            parts.append((ours.ema_model, theirs.ema_model))
    assert len(parts) == 2
    for ours, theirs in parts:
        other = theirs.state_dict()
        assert all(torch.equal(value, other[key]) for key, value in ours.state_dict().items())
    ours, theirs = (runner.optim_wrapper.optimizer.state_dict()['state'] for runner in (first, second))
    assert ours.keys() == theirs.keys()
    assert all(torch.equal(value['momentum_buffer'], theirs[key]['momentum_buffer']) for key, value in ours.items())
    assert first.optim_wrapper.get_lr() == second.optim_wrapper.get_lr()


@pytest.fixture(params=['detector', 'classifier'])
def name(request):
    """A model of :mod:`real_models`."""
    pytest.importorskip(REAL[request.param].toolbox)
    return request.param


def test_radius_zero_is_the_base_wrapper_with_everything_switched_on(tmp_path, name):
    """Schedulers, per-parameter options, EMA, scaled learning rate, accumulation, clipping: bitwise."""
    zero = dict(SAM, ascent=dict(type='SAM', rho=0.0))
    plain = trained(tmp_path, 'plain', dict(type='OptimWrapper'), name, **EVERYTHING)
    assert_same_run(plain, trained(tmp_path, 'ours', zero, name, **EVERYTHING))
    sharp = trained(tmp_path, 'sharp', SAM, name, **EVERYTHING)
    last = REAL[name].last
    assert not torch.equal(sharp.model.get_parameter(last), plain.model.get_parameter(last))


def test_a_run_that_is_killed_and_resumed_ends_bitwise_like_the_uninterrupted_one(tmp_path, name):
    """With all of that, random transforms, dropout and samplers: it goes on from the last checkpoint."""
    whole = trained(tmp_path, 'whole', ADASAP, name, **EVERYTHING)
    runner = make_runner(tmp_path, 'killed', ADASAP, name, **EVERYTHING)
    runner.register_hook(Kill())
    with pytest.raises(KilledError):
        runner.train()
    set_random_seed(99)  # another process has other states
    resumed = make_runner(tmp_path, 'killed', ADASAP, name, label='resumed', resume=True, **EVERYTHING)
    set_random_seed(99)
    resumed.train()
    assert_same_run(whole, resumed)


def test_the_switch_for_activation_checkpointing(tmp_path, name):
    """MMEngine's activation_checkpointing, which reenters autograd, changes nothing but the memory."""
    block = REAL[name].block
    ends = []
    for label, asked in (('stored', {}), ('recomputed', dict(cfg=dict(activation_checkpointing=[block])))):
        ends.append(trained(tmp_path, label, SAM, name, **EVERYTHING, **asked))
    assert 'forward' in vars(ends[1].model.get_submodule(block))  # the switch has wrapped it
    for key, value in ends[0].model.named_parameters():
        torch.testing.assert_close(ends[1].model.get_parameter(key), value, rtol=1e-4, atol=1e-6)


def test_compile_is_refused_at_the_start(tmp_path, name):
    """With the reason, before the first step."""
    runner = make_runner(tmp_path, 'compiled', SAM, name, cfg=dict(compile=dict(backend='eager')))
    with pytest.raises(MmsharpError, match='compile=False'):
        runner.train()
    assert runner.iter == 0
    assert not runner.optim_wrapper.optimizer.state
