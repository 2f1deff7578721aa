"""A resumed run draws the random numbers that the uninterrupted one drew."""

import random

import numpy as np
import pytest
import torch
from mmengine.evaluator import BaseMetric
from mmengine.registry import DATASETS, METRICS, MODELS
from mmengine.runner import set_random_seed

from mmsharp.engine.checkpoints.safe_checkpoint import check_checkpoint
from mmsharp.sharpness import RandomState

from .conftest import FixedImages, TwoBlocks

HOOK = dict(type='mmsharp.RNGStateHook')


@DATASETS.register_module(force=True)
class NoisyImages(FixedImages):
    """Each access draws from all three generators, as random transforms do."""

    def __getitem__(self, index: int) -> dict:
        item = super().__getitem__(index)
        noise = torch.randn(3, 8, 8) * random.random() + float(np.random.rand())
        return dict(item, inputs=item['inputs'] + 0.1 * noise)


@MODELS.register_module(force=True)
class WithDropout(TwoBlocks):
    """Draws in the forward pass too, and predicts something in validation."""

    def forward(self, inputs, data_samples=None, mode='tensor'):
        if mode == 'predict':
            return [torch.rand(1) for _ in range(len(inputs))]

        return super().forward(torch.dropout(inputs, 0.2, True), data_samples, mode)


@METRICS.register_module(force=True)
class Drawing(BaseMetric):
    """A metric that draws as well, and is better each time."""

    validations = 0

    def process(self, data_batch, data_samples):
        self.results.append(np.random.rand())

    def compute_metrics(self, results):
        self.validations += 1
        return dict(mean=float(np.mean(results)), order=float(self.validations))


def settings(by_epoch: bool, validate: bool) -> dict:
    loader = dict(
        batch_size=6,
        num_workers=0,
        dataset=dict(type='NoisyImages'),
        sampler=dict(type='DefaultSampler' if by_epoch else 'InfiniteSampler', shuffle=True),
        collate_fn=dict(type='default_collate'),
    )
    train = dict(by_epoch=True, max_epochs=4) if by_epoch else dict(by_epoch=False, max_iters=14)
    changes = dict(
        model=dict(type='WithDropout'),
        train_dataloader=loader,
        train_cfg=dict(train, val_interval=1 if by_epoch else 3),
        default_hooks=dict(checkpoint=dict(type='CheckpointHook', by_epoch=by_epoch, interval=1), rng_state=HOOK),
    )
    if validate:
        shown = dict(loader, sampler=dict(type='DefaultSampler', shuffle=False))
        changes.update(val_dataloader=shown, val_cfg=dict(), val_evaluator=dict(type='Drawing'))
    return changes


@pytest.mark.parametrize('ascent', [None, dict(type='AdaSAP')], ids=['plain', 'adasap'])
@pytest.mark.parametrize('validate', [False, True])
@pytest.mark.parametrize(('by_epoch', 'name'), [(True, 'epoch_2'), (False, 'iter_5'), (False, 'iter_6')])
def test_a_resumed_run_ends_bitwise_like_the_uninterrupted_one(make_runner, by_epoch, name, validate, ascent):
    """Random transforms, dropout and shuffling: from epoch boundaries and from any iteration, validated or not."""
    whole = make_runner(None, 'whole', ascent, **settings(by_epoch, validate))
    whole.train()
    set_random_seed(99)  # another process has other states
    resumed = make_runner(
        None, 'resumed', ascent, resume=f'{whole.work_dir}/{name}.pth', **settings(by_epoch, validate)
    )
    set_random_seed(99)
    resumed.train()
    expected = whole.model.state_dict()
    assert all(torch.equal(value, expected[key]) for key, value in resumed.model.state_dict().items())


def test_without_the_hook_it_does_not(make_runner):
    """So the law above can fail."""
    changes = settings(True, False)
    changes['default_hooks'].pop('rng_state')
    whole = make_runner(None, 'whole', **changes)
    whole.train()
    resumed = make_runner(None, 'resumed', resume=f'{whole.work_dir}/epoch_2.pth', **changes)
    set_random_seed(99)
    resumed.train()
    assert not torch.equal(whole.model.head.weight, resumed.model.head.weight)


@pytest.mark.parametrize(('by_epoch', 'name'), [(True, 'epoch_2'), (False, 'iter_6')])
def test_a_checkpoint_written_in_validation_holds_the_states_before_it(make_runner, by_epoch, name):
    """MMEngine writes the last checkpoint once more when it is the best one, after validation has drawn."""
    changes = settings(by_epoch, True)
    changes['default_hooks']['checkpoint'].update(save_best='order', rule='greater')
    whole = make_runner(None, 'whole', **changes)
    whole.train()
    resumed = make_runner(None, 'resumed', resume=f'{whole.work_dir}/{name}.pth', **changes)
    set_random_seed(99)
    resumed.train()
    assert torch.equal(whole.model.head.weight, resumed.model.head.weight)


def test_validation_does_not_move_the_training(make_runner):
    """With and without validation, the weights are the same."""
    ends = []
    for validate in (False, True):
        runner = make_runner(None, f'validated_{validate}', **settings(True, validate))
        runner.train()
        ends.append(runner.model.head.weight)
    assert torch.equal(*ends)


def test_states_are_plain_data_and_survive_the_file(make_runner, tmp_path):
    """They load with weights_only=True, and give the same numbers."""
    state = RandomState.capture()
    expected = (random.random(), random.gauss(0, 1), np.random.randn(3), torch.rand(2))
    torch.save(dict(state=state.to_dict()), tmp_path / 'state.pth')
    RandomState.from_dict(check_checkpoint(tmp_path / 'state.pth')['state']).restore()
    found = (random.random(), random.gauss(0, 1), np.random.randn(3), torch.rand(2))
    assert found[:2] == expected[:2]
    assert np.array_equal(found[2], expected[2])
    assert torch.equal(found[3], expected[3])


def test_a_checkpoint_without_or_with_other_states_is_resumed_all_the_same(make_runner, tmp_path):
    """Saved without the hook, or by another number of processes."""
    changes = settings(True, False)
    whole = make_runner(None, 'whole', **changes)
    whole.train()
    checkpoint = check_checkpoint(f'{whole.work_dir}/epoch_2.pth')
    for states in (None, checkpoint['mmsharp_rng_state'] * 2):
        changed = dict(checkpoint)
        changed.pop('mmsharp_rng_state')
        if states is not None:
            changed['mmsharp_rng_state'] = states
        torch.save(changed, tmp_path / 'changed.pth')
        resumed = make_runner(None, f'resumed_{states is None}', resume=tmp_path / 'changed.pth', **changes)
        resumed.train()
        assert resumed.epoch == 4
