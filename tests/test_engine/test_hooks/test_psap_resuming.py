"""Any checkpoint of a training with PSAP is gone on with as if nothing had happened, also inside a watching window."""

import copy
import shutil
from pathlib import Path

import pytest
import torch
from psap_training import HOOK, WRAPPERS, Watch, setting, steps_of, window_of

from mmsharp.engine.checkpoints.safe_checkpoint import check_checkpoint
from mmsharp.errors import MmsharpError

ITERATIONS = dict(
    train_cfg=dict(by_epoch=False, max_iters=24, val_interval=1000),
    train_dataloader=dict(
        batch_size=6,
        num_workers=0,
        dataset=dict(type='FixedImages'),
        sampler=dict(type='InfiniteSampler', shuffle=False),
        collate_fn=dict(type='default_collate'),
    ),
)
PROTECTION = dict(type='mmsharp.ProtectiveReconstruction', gate=True)
RESUMES = [
    pytest.param('plain', dict(protection=dict(PROTECTION, watch=3)), id='plain'),
    pytest.param('adam', dict(protection=dict(PROTECTION, watch=2, refill=True)), id='adam'),
    pytest.param('accumulated', dict(interval=4, protection=dict(PROTECTION)), id='accumulated'),
    pytest.param('adasap', dict(interval=4, fine_tuning=dict(type='ASAM', rho=0.5)), id='adasap'),
    pytest.param('scaled', dict(protection=dict(PROTECTION, watch=3)), id='scaled'),
    pytest.param('fixed', dict(protection=dict(PROTECTION, watch=2)), id='fixed'),
    pytest.param('scaled_sam', dict(protection=dict(PROTECTION, watch=2)), id='scaled_sam'),
]


@pytest.mark.slow
@pytest.mark.parametrize(('wrapper', 'change'), RESUMES)
def test_resuming_is_bitwise_exact_also_inside_the_window(make_runner, wrapper, change):
    """From inside and between windows, before the masks, and from the hard phase: weights, momentum, masks and log."""
    hook = dict(HOOK, hard=0.2, **change)

    def settings():
        checkpoints = dict(type='CheckpointHook', interval=1, by_epoch=False)
        hooks = dict(pruning=dict(hook), checkpoint=checkpoints, logger=dict(type='LoggerHook', interval=1000))
        ema = [dict(type='EMAHook', momentum=0.1)]
        return setting(wrapper, default_hooks=hooks, custom_hooks=ema, **copy.deepcopy(ITERATIONS))

    whole = make_runner(None, 'whole', **settings())
    inside = []
    whole.register_hook(Watch(lambda runner: inside.append(window_of(runner) is not None)))
    whole.train()
    accumulates = 'accumulative_counts' in WRAPPERS[wrapper] and wrapper != 'adasap'
    begun = {iteration for iteration in range(24) if iteration % 2} if accumulates else set()
    for iteration in (1, 3, 4, 5, 11, 12, 13, 18):
        if iteration in begun and not inside[iteration - 1]:
            continue  # MMEngine's own wrapper forgets the gradients of a step that has begun
        path = f'{whole.work_dir}/iter_{iteration}.pth'
        resumed = make_runner(None, f'from_{iteration}', resume=path, **settings())
        shutil.copy(f'{whole.work_dir}/psap.jsonl', resumed.work_dir)
        resumed.train()
        first, second = (torch.load(f'{r.work_dir}/iter_24.pth', weights_only=False) for r in (whole, resumed))
        for key in ('state_dict', 'ema_state_dict'):
            assert all(torch.equal(value, second[key][name]) for name, value in first[key].items()), (iteration, key)
        for index, entry in first['optimizer']['state'].items():
            for name, value in entry.items():
                assert torch.equal(value, second['optimizer']['state'][index][name]), (iteration, name)
        assert first['mmsharp'] == second['mmsharp']
        assert steps_of(resumed) == steps_of(whole)
        scales = [checkpoint['optimizer'].get('loss_scaler') for checkpoint in (first, second)]
        assert scales[0] == scales[1]
        assert (scales[0] is not None) == hasattr(whole.optim_wrapper, 'loss_scaler')
    assert any(inside)


def test_a_checkpoint_inside_the_window_is_plain_data(make_runner):
    """It loads with weights_only=True, and says that the network is dense."""
    protection = dict(type='mmsharp.ProtectiveReconstruction', watch=3)
    checkpoints = dict(checkpoint=dict(type='CheckpointHook', interval=1, by_epoch=False))
    runner = make_runner(
        None, **setting('plain', default_hooks=dict(pruning=dict(HOOK, protection=protection), **checkpoints))
    )
    runner.train()
    checkpoint = check_checkpoint(f'{runner.work_dir}/iter_4.pth')
    assert checkpoint['mmsharp_psap']['window'] is not None
    assert checkpoint['mmsharp']['state'] == 'dense'
    assert 'mmsharp_psap' not in check_checkpoint(f'{runner.work_dir}/iter_24.pth')


def test_what_a_window_has_zeroed_is_not_lost_silently(make_runner):
    """A new run does not start from a checkpoint inside a window; resumed without a protection, the step is closed."""
    protection = dict(type='mmsharp.ProtectiveReconstruction', watch=3)
    hooks = dict(checkpoint=dict(type='CheckpointHook', interval=1, by_epoch=False))
    hooks['pruning'] = dict(HOOK, protection=protection)
    first = make_runner(None, 'first', **setting('plain', default_hooks=hooks))
    first.train()
    for iteration, inside in ((4, True), (2, False)):
        runner = make_runner(HOOK, f'from {iteration}', load_from=f'{first.work_dir}/iter_{iteration}.pth')
        if inside:
            with pytest.raises(MmsharpError, match=r'iter_4.pth.* was saved while filters .* resume=True'):
                runner.train()
        else:
            runner.train()
    path = f'{first.work_dir}/iter_4.pth'
    resumed = make_runner(dict(HOOK, protection=False), 'resumed', resume=path)
    resumed.train()
    steps = [step for step in steps_of(resumed) if step['iteration'] == 3]
    assert sum(step['zeroed'] for step in steps) > 0
    assert not any(step['protected'] for step in steps)
    assert 'none of them comes back' in next(Path(resumed.log_dir).glob('*.log')).read_text()


def test_a_run_begun_anew_in_a_folder_begins_its_list_anew(make_runner):
    """Lines of the earlier run are gone."""
    make_runner(HOOK).train()
    runner = make_runner(HOOK)
    runner.train()
    iterations = [step['iteration'] for step in steps_of(runner)]
    assert iterations == sorted(iterations)
