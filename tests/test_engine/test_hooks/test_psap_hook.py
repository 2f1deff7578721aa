"""Laws of PSAP while training: no pulse gets through, protected filters are what they were, any checkpoint resumes."""

import copy
import json
import shutil
from pathlib import Path

import pytest
import torch
from mmengine.hooks import Hook
from torch import nn

from mmsharp.engine import lowered_loss_scale
from mmsharp.engine.hooks import PSAPHook
from mmsharp.engine.optim_wrappers import AmpOptimWrapper
from mmsharp.errors import MmsharpError
from mmsharp.pruning import count_parameters
from mmsharp.pruning.protection import filter_parts
from mmsharp.registry import ASCENTS, OPTIM_WRAPPERS, PROTECTIONS
from mmsharp.sharpness import ASAM, AdaSAP

ASCENTS.import_from_location()
PRUNER = dict(type='mmsharp.ChannelPruner', round_to=1)
HOOK = dict(type='mmsharp.PSAPHook', budget=dict(params=0.4), pruner=PRUNER, pruning=0.5, interval=3)
SGD = dict(type='SGD', lr=0.05, momentum=0.9, weight_decay=1e-3)
WRAPPERS = {
    'plain': dict(type='OptimWrapper'),
    'clipped': dict(type='OptimWrapper', clip_grad=dict(max_norm=0.1)),
    'adam': dict(type='OptimWrapper', optimizer=dict(type='AdamW', lr=0.01, weight_decay=0.05)),
    'accumulated': dict(type='OptimWrapper', accumulative_counts=2),
    'bfloat16': dict(type='mmsharp.AmpOptimWrapper', dtype='bfloat16'),
    'scaled': dict(type='mmsharp.ScaledOnCPU', dtype='bfloat16'),
    'sam': dict(type='mmsharp.SAMOptimWrapper', ascent=dict(type='SAM', rho=0.5)),
    'adasap': dict(type='mmsharp.SAMOptimWrapper', ascent=dict(type='AdaSAP'), accumulative_counts=2),
}


@OPTIM_WRAPPERS.register_module(force=True)
class ScaledOnCPU(AmpOptimWrapper):
    """With loss scaling, which the wrappers have on an accelerator alone."""

    def __init__(self, **kwargs) -> None:
        super().__init__(**kwargs)
        self.loss_scaler = torch.amp.GradScaler('cpu', growth_interval=5)


every_wrapper = pytest.mark.parametrize('wrapper', WRAPPERS)


def setting(name, **change):
    return dict(optim_wrapper=dict(dict(optimizer=dict(SGD)), **copy.deepcopy(WRAPPERS[name])), **change)


class OfOneKind:
    """A protection as a user would write it."""

    watch, gate, refill = 1, True, False

    def __init__(self, watch: int = 1) -> None:
        self.watch = watch
        self.seen = []

    def __call__(self, pulse, gate, zeroed):
        self.seen.append((pulse, gate, zeroed))
        return self.chosen(zeroed)


@PROTECTIONS.register_module(force=True)
class Everything(OfOneKind):
    """Brings all of them back."""

    def chosen(self, zeroed):
        return zeroed


@PROTECTIONS.register_module(force=True)
class Nothing(OfOneKind):
    """Brings none of them back."""

    def chosen(self, zeroed):
        return torch.zeros_like(zeroed)


class Watch(Hook):
    """Calls functions after and before every training iteration, around all other hooks."""

    def __init__(self, after=None, before=None, priority='LOWEST') -> None:
        self.after, self.before, self.priority = after, before, priority

    def after_train_iter(self, runner, batch_idx, data_batch=None, outputs=None) -> None:
        if self.after is not None:
            self.after(runner)

    def before_train_iter(self, runner, batch_idx, data_batch=None) -> None:
        if self.before is not None:
            self.before(runner, data_batch)


def hook_of(runner) -> PSAPHook:
    return next(hook for hook in runner.hooks if isinstance(hook, PSAPHook))


def filters_of(runner):
    """``{(group, tensor): (values of each channel, channels)}``: weights, biases, momentum, running statistics."""
    pruner, optimizer = hook_of(runner).pruner, runner.optim_wrapper.optimizer
    found = {}
    for group in pruner.groups.groups:
        for part in filter_parts(runner.model, group):
            held = {'': part.tensor, **optimizer.state.get(part.tensor, {})}
            for name, value in held.items():
                if isinstance(value, torch.Tensor) and value.shape == part.tensor.shape:
                    values = value.detach().movedim(part.dim, 0)[part.positions].clone()
                    found[group.name, f'{part.name}/{name}'] = values, part.channels, part.learned
    return found


def steps_of(runner):
    """The lines of the run's folder."""
    return [json.loads(line) for line in (Path(runner.work_dir) / 'psap.jsonl').read_text().splitlines()]


@every_wrapper
def test_the_budget_is_met_and_the_network_is_really_smaller(make_runner, wrapper):
    """With the default parts of the method: at most 40 % of the parameters remain, and not by a channel too few."""
    runner = make_runner(HOOK, **setting(wrapper))
    dense = count_parameters(runner.model)
    runner.train()
    assert 0.3 <= count_parameters(runner.model) / dense <= 0.4
    assert hook_of(runner)._state.kind == 'slim'
    steps = steps_of(runner)
    assert {step['phase'] for step in steps} == {'soft', 'hard'}
    assert {step['iteration'] for step in steps if step['phase'] == 'hard'} == {12}
    assert {step['iteration'] for step in steps if step['phase'] == 'soft'} == {
        'accumulated': {0, 4, 6, 10}, 'adasap': {0, 4, 6, 10}
    }.get(wrapper, {0, 3, 6, 9})  # fmt: skip


@pytest.mark.parametrize('ascent', sorted(ASCENTS.module_dict))
def test_sharpness_aware_by_config_alone(make_runner, ascent):
    """Under any ascent the method goes through; what it removes is what it says."""
    runner = make_runner(HOOK, ascent=dict(type=ascent))
    runner.train()
    assert hook_of(runner)._state.kind == 'slim'
    assert all(parameter.isfinite().all() for parameter in runner.model.parameters())


@every_wrapper
@pytest.mark.parametrize('watch', [1, 2])
def test_a_restored_filter_is_bitwise_what_it_was(make_runner, wrapper, watch):
    """Weights, biases, momentum and running statistics, after the window in which all were zero."""
    watch = 1 if wrapper in ('accumulated', 'adasap') else watch
    runner = make_runner(dict(HOOK, protection=dict(type='Everything', watch=watch)), **setting(wrapper))
    before, checked = {}, []

    def ahead(runner, _):
        hook = hook_of(runner)
        if hook._forward is not None and hook._window is None and hook._state.kind == 'dense':
            before.update(filters_of(runner))

    def behind(runner):
        hook = hook_of(runner)
        if hook._window is not None or len(hook.protection.seen) == len(checked):
            return
        groups = hook.pruner.groups.groups
        new = hook.protection.seen[len(checked) :]
        for group, (_, _, zeroed) in zip(groups, new):
            for (name, tensor), (values, channels, _) in filters_of(runner).items():
                if name == group.name and before and (name, tensor) in before:
                    gone = zeroed[channels]
                    assert torch.equal(values[gone], before[name, tensor][0][gone]), tensor
        checked.extend(new)

    runner.register_hook(Watch(before=ahead, priority='HIGHEST'))
    runner.register_hook(Watch(behind))
    runner.train()
    assert sum(int(zeroed.sum()) for _, _, zeroed in checked) > 10


@every_wrapper
def test_the_pulse_never_reaches_the_weights(make_runner, wrapper):
    """While it is watched, and with nobody coming back, filters and momentum are zero; and there was a pulse."""
    runner = make_runner(dict(HOOK, protection=dict(type='Nothing')), **setting(wrapper))
    largest = []

    def look(runner):
        hook = hook_of(runner)
        if len(hook.protection.seen) == len(largest):
            return
        groups = hook.pruner.groups.groups
        for group, (pulse, _, zeroed) in zip(groups, hook.protection.seen[len(largest) :]):
            largest.append(float(pulse.max()))
            for (name, tensor), (values, channels, learned) in filters_of(runner).items():
                if name == group.name and learned:
                    assert not values[zeroed[channels]].any(), tensor

    runner.register_hook(Watch(look))
    runner.train()
    assert max(largest) > 0
    assert len(largest) >= 8


def test_all_other_weights_step_as_if_there_were_no_pulse(make_runner):
    """Written out: zero filters, zero gradients for them, the norm for clipping of all others, SGD."""
    runner = make_runner(dict(HOOK, protection=dict(type='Nothing')), **setting('clipped'))
    twins = []

    def ahead(runner, data):
        if runner.iter != 3:
            return
        soft = hook_of(runner)._window.soft
        model = copy.deepcopy(runner.model)
        loss = model(torch.as_tensor(data['inputs']), data['data_samples'], mode='loss')['loss']
        loss.backward()
        masks = {
            name: soft.parameter_masks().get(parameter, torch.ones(()))
            for name, parameter in runner.model.named_parameters()
        }
        pulse = sum(float((p.grad * (1 - masks[name])).norm()) for name, p in model.named_parameters())
        for name, parameter in model.named_parameters():
            parameter.grad.mul_(masks[name])
        nn.utils.clip_grad_norm_(model.parameters(), 0.1)
        state = runner.optim_wrapper.optimizer.state
        for parameter, own in zip(model.parameters(), runner.model.parameters()):
            momentum = state[own]['momentum_buffer'] * 0.9 + parameter.grad + 1e-3 * parameter.detach()
            parameter.data.sub_(0.05 * momentum)
        twins.append((pulse, {name: value.detach() for name, value in model.named_parameters()}))

    def behind(runner):
        if runner.iter == 3:
            for name, parameter in runner.model.named_parameters():
                torch.testing.assert_close(parameter.detach(), twins[0][1][name], rtol=1e-5, atol=1e-7)

    runner.register_hook(Watch(behind, ahead))
    runner.train()
    assert twins[0][0] > 0


@pytest.mark.parametrize('fixed', [True, False])
def test_a_pulse_does_not_make_the_loss_scaler_skip(make_runner, monkeypatch, fixed):
    """At a scale at which pulses overflow and nothing else does, no step is left out, and they are read all the same.

    Afterwards the scale is what it was. Without room for them, the same pulses overflow.
    """

    def run(name, scale, room):
        monkeypatch.setattr(lowered_loss_scale, 'PULSE', room)
        runner, scales = make_runner(dict(HOOK, protection=dict(type='Nothing')), name, **setting('bfloat16')), []

        def ahead(runner, _):
            if runner.iter == 0 and scale:
                runner.optim_wrapper.loss_scaler = torch.amp.GradScaler('cpu', init_scale=scale, growth_interval=1000)
                runner.optim_wrapper._scale_update_param = scale if fixed else None

        runner.register_hook(Watch(before=ahead, priority='HIGHEST'))
        runner.register_hook(Watch(lambda runner: scales.append(runner.optim_wrapper.loss_scaler.get_scale())))
        runner.train()
        return scales, [pulse for pulse, _, _ in hook_of(runner).protection.seen]

    scale = 2.0**124
    scales, pulses = run('scaled', scale, 512.0)
    _, plain = run('plain', None, 512.0)
    assert set(scales) == {scale / 512, scale}
    assert scales[-1] == scale
    for one, other in zip(pulses, plain):
        torch.testing.assert_close(one, other, rtol=0.1, atol=1e-2)
    _, overflowing = run('without room', scale, 1.0)
    assert not all(pulse.isfinite().all() for pulse in overflowing)


@pytest.mark.parametrize('wrapper', ['plain', 'bfloat16'])
def test_filters_grow_back_by_steps_of_the_usual_length(make_runner, wrapper):
    """The first step from zero, which the whole pulse would make many times longer."""
    grown = {True: [], False: []}
    for limited in grown:
        hook = dict(HOOK, protection=dict(type='Nothing'), limit_regrowth=limited, warmup=2, ramp=0.0)
        runner = make_runner(hook, f'{limited}', **setting(wrapper))

        def look(runner, lengths=grown[limited]):
            if runner.iter == 9:  # zeroed before iteration 8, watched in it
                groups = hook_of(runner).pruner.groups.groups
                for group, (_, _, zeroed) in zip(groups, hook_of(runner).protection.seen[-len(groups) :]):
                    for (name, tensor), (values, channels, _) in filters_of(runner).items():
                        if name == group.name and tensor.endswith('.weight/'):
                            lengths.extend(values[zeroed[channels]].flatten(1).norm(dim=1).tolist())

        runner.register_hook(Watch(look))
        runner.train()
    assert 0 < max(grown[True]) < 0.5 * max(grown[False])


@pytest.mark.parametrize('watch', [1, 3])
def test_gates_are_read_before_the_filters_are_zeroed(make_runner, watch):
    """Before each soft step but the first of the run, which nothing comes before, also where one follows another."""
    runner = make_runner(dict(HOOK, protection=dict(type='Nothing', watch=watch)))
    runner.train()
    seen = [gate for _, gate, _ in hook_of(runner).protection.seen]
    groups = len(hook_of(runner).pruner.groups.groups)
    assert all(gate is None for gate in seen[:groups])
    assert all(gate is not None and gate.any() for gate in seen[groups:])


@pytest.mark.parametrize('limited', [True, False])
def test_zeroed_filters_grow_back_until_the_masks_are_held(make_runner, limited):
    """Soft means that a channel that was zeroed is not zero for ever; hard means that it is."""
    runner = make_runner(dict(HOOK, protection=False, hard=0.25, slim=False, limit_regrowth=limited))
    dead = []

    def look(runner):
        weight = runner.model.inner[0].weight.detach().flatten(1)
        dead.append(int((weight == 0).all(dim=1).sum()))

    runner.register_hook(Watch(look))
    runner.train()
    assert max(dead[:12]) > 0
    assert min(dead[9:12]) < max(dead[9:12]) or dead[11] < dead[12]
    assert len(set(dead[12:])) == 1
    assert dead[12] > 0


def test_masked_equals_slim_after_the_hard_phase(make_runner):
    """The hard phase holds the masks for its length; then channels go, and the output stays."""
    runner = make_runner(dict(HOOK, hard=0.25))
    kinds, differences = [], []

    def look(runner):
        hook = hook_of(runner)
        kinds.append(hook._state.kind)
        if kinds[-1] == 'masked':
            differences.append(hook.pruner.verify(hook._forward))

    runner.register_hook(Watch(look))
    runner.train()
    assert kinds == ['dense'] * 12 + ['masked'] * 6 + ['slim'] * 6
    assert max(differences) <= 1e-5


def test_soft_filter_pruning_is_the_method_without_its_parts(make_runner):
    """No protection, no limit, a uniform allocation: nobody comes back, everybody loses the same share."""
    pruner = dict(PRUNER, allocation=dict(type='Uniform'))
    runner = make_runner(dict(HOOK, pruner=pruner, protection=False, limit_regrowth=False))
    runner.train()
    steps = steps_of(runner)
    assert not any(step['protected'] for step in steps)
    for iteration in {step['iteration'] for step in steps}:
        here = [step for step in steps if step['iteration'] == iteration]
        shares = [step['pruning_ratio'] for step in here]
        assert max(shares) - min(shares) <= max(1 / step['channels'] for step in here) + 1e-6
        assert all(0 < step['sparsity_ratio'] < 1 for step in here)


def test_refilling_meets_the_ratio_in_spite_of_protection(make_runner):
    """As many further channels are zeroed as came back, where there are any to take."""
    protection = dict(type='ProtectiveReconstruction', kappa=0.0, refill=True)
    runner = make_runner(dict(HOOK, budget=dict(params=0.6), protection=protection))
    dead = {}

    def look(runner):
        weight = runner.model.inner[0].weight.detach().flatten(1)
        dead[runner.iter] = int((weight == 0).all(dim=1).sum())

    runner.register_hook(Watch(look))
    runner.train()
    steps = [step for step in steps_of(runner) if step['phase'] == 'soft']
    assert sum(step['refilled'] for step in steps) > 0
    for step in steps:
        assert step['refilled'] == min(step['protected'], step['channels'] - step['zeroed'] - 1)
        if step['group'] == 'inner.0':
            assert dead[step['iteration']] == step['zeroed'] - step['protected'] + step['refilled']


def test_the_ascent_of_the_last_phase(make_runner):
    """PSAP's pruning under AdaSAP's training, exchange of the ascent included."""
    runner = make_runner(dict(HOOK, fine_tuning=dict(type='ASAM', rho=0.5)), ascent=dict(type='AdaSAP'))
    kinds = []
    runner.register_hook(Watch(lambda r: kinds.append(type(r.optim_wrapper.ascent))))
    runner.train()
    assert kinds == [AdaSAP] * 12 + [ASAM] * 12


def test_what_was_done_is_in_the_log_of_the_run(make_runner):
    """One line per step and group, the same numbers in the message hub, totals among the training's scalars."""
    runner = make_runner(HOOK)
    runner.train()
    steps = steps_of(runner)
    assert (Path(runner.work_dir) / 'psap.png').stat().st_size > 1000
    groups = [group.name for group in hook_of(runner).pruner.groups.groups]
    assert [step['group'] for step in steps] == groups * 5
    last = steps[-len(groups) :]
    for step in last:
        for name in ('sparsity_ratio', 'pruning_ratio', 'protected'):
            assert runner.message_hub.get_scalar(f'psap/{step["group"]}/{name}').current() == step[name]
        assert step['pruning_ratio'] == pytest.approx(step['zeroed'] / step['channels'], abs=1e-6)
    total = sum(step['zeroed'] for step in last) / sum(step['channels'] for step in last)
    assert runner.message_hub.get_scalar('train/pruning/pruning_ratio').current() == pytest.approx(total)
    assert [sum(s['zeroed'] for s in steps if s['iteration'] == i) for i in (0, 3, 6)] == sorted(
        sum(s['zeroed'] for s in steps if s['iteration'] == i) for i in (0, 3, 6)
    )


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
RESUMES = [
    pytest.param('plain', dict(protection=dict(type='mmsharp.ProtectiveReconstruction', watch=3)), id='plain'),
    pytest.param(
        'adam', dict(protection=dict(type='mmsharp.ProtectiveReconstruction', watch=2, refill=True)), id='adam'
    ),
    pytest.param('accumulated', dict(interval=4), id='accumulated'),
    pytest.param('adasap', dict(interval=4, fine_tuning=dict(type='ASAM', rho=0.5)), id='adasap'),
]


@pytest.mark.slow
@pytest.mark.parametrize(('wrapper', 'change'), RESUMES)
def test_resuming_is_bitwise_exact_also_inside_the_window(make_runner, wrapper, change):
    """From after every iteration of two soft steps, and from the hard phase: weights, momentum, masks and log."""
    hook = dict(HOOK, hard=0.2, **change)

    def settings():
        checkpoints = dict(type='CheckpointHook', interval=1, by_epoch=False)
        hooks = dict(pruning=dict(hook), checkpoint=checkpoints, logger=dict(type='LoggerHook', interval=1000))
        ema = [dict(type='EMAHook', momentum=0.1)]
        return setting(wrapper, default_hooks=hooks, custom_hooks=ema, **copy.deepcopy(ITERATIONS))

    whole = make_runner(None, 'whole', **settings())
    inside = []
    whole.register_hook(Watch(lambda runner: inside.append(hook_of(runner)._window is not None)))
    whole.train()
    accumulates = 'accumulative_counts' in WRAPPERS[wrapper] and wrapper != 'adasap'
    begun = {iteration for iteration in range(24) if iteration % 2} if accumulates else set()
    for iteration in (1, 3, 4, 5, 13, 18):
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
        assert first['optimizer'].get('loss_scaler') == second['optimizer'].get('loss_scaler')
    assert any(inside) or wrapper == 'scaled'


def test_a_checkpoint_inside_the_window_is_plain_data(make_runner):
    """It loads with weights_only=True, and says that the network is dense."""
    from mmsharp.engine.safe_checkpoint import check_checkpoint

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


def test_a_run_begun_anew_in_a_folder_begins_its_list_anew(make_runner):
    """Lines of the earlier run are gone."""
    make_runner(HOOK).train()
    runner = make_runner(HOOK)
    runner.train()
    iterations = [step['iteration'] for step in steps_of(runner)]
    assert iterations == sorted(iterations)


@pytest.mark.parametrize(
    ('change', 'words'),
    [
        (dict(ramp=1.5), 'ramp'),
        (dict(hard=-1), 'hard'),
        (dict(protection=dict(type='Unknown')), 'Unknown'),
        (dict(protection=True), 'protection'),
        (dict(protection=dict(type='ProtectiveReconstruction', kappa='big')), 'kappa'),
        (dict(limit_regrowth=1), 'limit_regrowth'),
        (dict(fine_tuning=3), 'fine_tuning'),
        (dict(pruner=dict(type='mmsharp.ChannelPruner', budget=dict(params=0.5))), 'budget'),
    ],
)
def test_bad_arguments_are_refused_at_construction(change, words):
    """Named, with what is accepted."""
    arguments = {key: value for key, value in {**HOOK, **change}.items() if key != 'type'}
    with pytest.raises(MmsharpError, match=words):
        PSAPHook(**arguments)


@pytest.mark.parametrize(
    ('change', 'words'),
    [
        (dict(pruning=5, hard=2), 'only 24 iterations'),
        (dict(protection=dict(type='ProtectiveReconstruction', watch=4)), 'interval=3'),
        (dict(fine_tuning=dict(type='ASAM', rho=0.5)), 'OptimWrapper'),
    ],
)
def test_what_does_not_fit_the_run_is_refused_at_the_start(make_runner, change, words):
    """Before the first iteration."""
    with pytest.raises(MmsharpError, match=words):
        make_runner(dict(HOOK, **change)).train()
