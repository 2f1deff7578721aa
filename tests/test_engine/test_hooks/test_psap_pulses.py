"""Laws of the watching window: no pulse gets through, and protected filters are what they were."""

import copy

import pytest
import torch
from psap_training import HOOK, WRAPPERS, Watch, filters_of, hook_of, setting, steps_of, window_of
from torch import nn

from mmsharp.engine.pruning.soft_pruning import lowered_loss_scale
from mmsharp.pruning import gate_gradients

every_wrapper = pytest.mark.parametrize('wrapper', WRAPPERS)


@every_wrapper
@pytest.mark.parametrize('watch', [1, 2])
def test_a_restored_filter_is_bitwise_what_it_was(make_runner, wrapper, watch):
    """Weights, biases, momentum and running statistics, after the window in which all were zero."""
    watch = 1 if wrapper in ('accumulated', 'adasap') else watch
    runner = make_runner(dict(HOOK, protection=dict(type='Everything', watch=watch)), **setting(wrapper))
    before, checked = {}, []

    def ahead(runner, _):
        hook = hook_of(runner)
        if hook._forward is not None and window_of(runner) is None and hook._state.kind == 'dense':
            before.update(filters_of(runner))

    def behind(runner):
        hook = hook_of(runner)
        if window_of(runner) is not None or len(hook.protection.seen) == len(checked):
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
    assert len(largest) >= 6


def test_all_other_weights_step_as_if_there_were_no_pulse(make_runner):
    """Written out: zero filters, zero gradients for them, the norm for clipping of all others, SGD."""
    runner = make_runner(dict(HOOK, protection=dict(type='Nothing')), **setting('clipped'))
    twins = []

    def ahead(runner, data):
        if runner.iter != 3:
            return
        soft = window_of(runner).soft
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


@pytest.mark.parametrize('limited', [True, False])
@pytest.mark.parametrize('fixed', [True, False])
def test_a_pulse_does_not_make_the_loss_scaler_skip(make_runner, monkeypatch, fixed, limited):
    """At a scale at which pulses overflow and nothing else does, no step is left out, and they are read all the same.

    The scale is low until the masks are held, for filters that stay zero answer after the window, too; then it is what
    it was. Without room for them, the same pulses overflow.
    """

    def run(name, scale, room):
        monkeypatch.setattr(lowered_loss_scale, 'PULSE', room)
        hook = dict(HOOK, protection=dict(type='Nothing'), limit_regrowth=limited)
        runner, scales = make_runner(hook, name, **setting('bfloat16')), []

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
    assert scales == [scale] * 3 + [scale / 512] * 9 + [scale] * 12
    for one, other in zip(pulses, plain):
        torch.testing.assert_close(one, other, rtol=0.1, atol=1e-2)
    _, overflowing = run('without room', scale, 1.0)
    assert not all(pulse.isfinite().all() for pulse in overflowing)


@pytest.mark.parametrize('fused', [True, False])
@pytest.mark.parametrize(
    ('overflows', 'open_after'),
    [
        pytest.param([3], [3], id='one step'),
        pytest.param([3, 4, 5], [3, 4, 5], id='all steps before the next soft step'),
        pytest.param([9, 10, 11], [9, 10, 11], id='all steps before the masks'),
    ],
)
def test_a_step_that_the_scaler_skips_is_not_watched(make_runner, fused, overflows, open_after):
    """The window waits for one that is taken, and has ended when the next soft step or the masks are due."""
    change = setting('scaled')
    change['optim_wrapper']['optimizer']['fused'] = fused
    runner, opened = make_runner(dict(HOOK, protection=dict(type='Nothing')), **change), []
    runner.model.head.weight.register_hook(lambda gradient: gradient * (torch.inf if runner.iter in overflows else 1))
    runner.register_hook(Watch(lambda runner: opened.extend([runner.iter] * (window_of(runner) is not None))))
    runner.train()
    assert opened == open_after
    seen, groups = hook_of(runner).protection.seen, len(hook_of(runner).pruner.groups.groups)
    pulses = [max(float(pulse.max()) for pulse, _, _ in seen[i : i + groups]) for i in range(0, len(seen), groups)]
    assert [pulse > 0 for pulse in pulses] == [len(overflows) < 3 or step not in overflows for step in (3, 6, 9)]
    assert all(pulse.isfinite().all() for pulse, _, _ in seen)
    assert hook_of(runner)._state.kind == 'slim'
    assert sorted({step['iteration'] for step in steps_of(runner)}) == [3, 6, 9, 12]


@pytest.mark.parametrize('wrapper', ['plain', 'bfloat16', 'adam'])
def test_filters_grow_back_by_steps_of_the_usual_length(make_runner, wrapper):
    """The first step from zero: no longer than the others' of its layer, which the whole pulse would make it."""
    grown = {True: [], False: []}
    for limited in grown:
        hook = dict(HOOK, protection=dict(type='Nothing'), limit_regrowth=limited, warmup=2, ramp=0.0)
        runner, before = make_runner(hook, f'{limited}', **setting(wrapper)), {}

        def look(runner, before=before, ratios=grown[limited]):
            if runner.iter == 11:
                before.update(filters_of(runner))
            if runner.iter == 12:  # zeroed before iteration 11, watched in it
                groups = hook_of(runner).pruner.groups.groups
                for group, (_, _, zeroed) in zip(groups, hook_of(runner).protection.seen[-len(groups) :]):
                    for (name, tensor), (values, channels, _) in filters_of(runner).items():
                        if name == group.name and tensor.endswith('.weight/'):
                            steps = (values - before[name, tensor][0]).flatten(1).norm(dim=1)
                            gone = zeroed[channels]
                            ratios.extend((steps[gone] / steps[~gone].mean()).tolist())

        runner.register_hook(Watch(look))
        runner.train()
    assert 0 < max(grown[True]) < 1.001 < max(grown[False])


@pytest.mark.parametrize('wrapper', ['plain', 'accumulated', 'sam'])
def test_gates_are_means_over_the_steps_before_the_filters_are_zeroed(make_runner, wrapper):
    """Written out: of every step of the optimizer since the last soft step, or since the beginning."""
    runner = make_runner(dict(HOOK, protection=dict(type='Nothing')), **setting(wrapper))
    read = {}

    def ahead(runner, _):
        if runner.iter == 0:
            groups = hook_of(runner).pruner.groups.groups

            def look(*_):
                if hook_of(runner)._state.kind == 'dense':
                    read[runner.iter] = [gate_gradients(runner.model, group) for group in groups]

            runner.optim_wrapper.optimizer.register_step_pre_hook(look)

    runner.register_hook(Watch(before=ahead))
    runner.train()
    iterations = sorted({step['iteration'] for step in steps_of(runner) if step['phase'] == 'soft'})
    seen, groups = hook_of(runner).protection.seen, len(hook_of(runner).pruner.groups.groups)
    for number, (begin, end) in enumerate(zip([0, *iterations], iterations)):
        between = [gates for iteration, gates in read.items() if begin <= iteration < end]
        for place in range(groups):
            _, gate, _ = seen[number * groups + place]
            torch.testing.assert_close(gate, torch.stack([gates[place] for gates in between]).mean(dim=0))
            assert gate.any()


def test_an_ascent_leaves_watched_filters_where_they_are(make_runner):
    """Also one along the momentum, which they have kept: every forward of the window sees zeros."""
    hook = dict(HOOK, protection=dict(type='Nothing'), clear_momentum=False)
    runner = make_runner(hook, ascent=dict(type='MomentumSAM', ascent=dict(type='SAM', rho=0.5)))
    seen = []

    def look(layer, _):
        if window_of(runner) is not None:
            masks = window_of(runner).soft.parameter_masks()
            seen.append(bool((layer.weight * (1 - masks.get(layer.weight, torch.ones(())))).any()))

    for layer in (runner.model.stem[0], runner.model.inner[0], runner.model.outer[0]):
        layer.register_forward_pre_hook(look)
    runner.train()
    assert len(seen) >= 9
    assert not any(seen)


@pytest.mark.parametrize('cleared', [True, False])
def test_momentum_moves_filters_that_keep_it(make_runner, cleared):
    """Away from zero at the first step, where a watched filter without momentum stays."""
    hook = dict(HOOK, protection=False, limit_regrowth=False, clear_momentum=cleared)
    runner = make_runner(hook, **setting('plain'))
    moved = []

    def ahead(runner, _):
        if runner.iter == 3:
            momentum = runner.optim_wrapper.optimizer.state[runner.model.inner[0].weight]['momentum_buffer']
            gone = runner.model.inner[0].weight.detach().flatten(1).abs().sum(dim=1) == 0
            moved.append((int(gone.sum()), bool(momentum[gone].any())))

    runner.register_hook(Watch(before=ahead))
    runner.train()
    assert moved[0][0] > 0
    assert moved[0][1] != cleared
