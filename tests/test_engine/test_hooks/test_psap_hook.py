"""Laws of PSAP as a whole: budgets, phases, combinations, the log, and what is refused."""

from pathlib import Path

import pytest
import torch
from psap_training import HOOK, PRUNER, WRAPPERS, Watch, hook_of, setting, steps_of

from mmsharp.engine.hooks import PSAPHook
from mmsharp.errors import MmsharpError
from mmsharp.pruning import count_parameters, sparsity_ratios
from mmsharp.pruning.protection import filter_parts
from mmsharp.pruning.slimming.slim_difference import slim_difference
from mmsharp.registry import ASCENTS
from mmsharp.sharpness import ASAM, AdaSAP

ASCENTS.import_from_location()
every_wrapper = pytest.mark.parametrize('wrapper', WRAPPERS)


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
        'accumulated': {4, 6, 10}, 'adasap': {4, 6, 10}
    }.get(wrapper, {3, 6, 9})  # fmt: skip


@pytest.mark.parametrize(('epochs', 'iterations'), [(6, range(2, 12, 2)), (17, range(5, 34, 5)), (20, range(4, 40, 4))])
def test_an_interval_is_about_an_epoch_or_an_eighth_of_the_soft_phase(make_runner, epochs, iterations):
    """Whichever is shorter, so that short trainings have soft steps, too; there are four iterations to an epoch.

    The soft phase has equal parts, so that the masks are held an interval after the last step, but for rounding.
    """
    runner = make_runner(dict(HOOK, interval=None), max_epochs=epochs)
    runner.train()
    assert sorted({s['iteration'] for s in steps_of(runner) if s['phase'] == 'soft'}) == list(iterations)


@pytest.mark.parametrize(
    ('whole', 'protection'),
    [
        (True, False),
        (True, dict(type='Everything')),
        (True, dict(type='mmsharp.ProtectiveReconstruction', refill=True)),
        (False, False),
    ],
)
def test_what_pruning_makes_itself_is_no_sparsity_of_a_layer(make_runner, whole, protection):
    """Where training changes nothing, layers look at every step as at the first one, unless zeros are to count."""
    still = dict(optimizer=dict(type='SGD', lr=0.0))
    runner = make_runner(dict(HOOK, protection=protection, measure_whole=whole), optim_wrapper=still)
    runner.train()
    by_step = {}
    for line in steps_of(runner):
        by_step.setdefault(line['iteration'], []).append(line['sparsity_ratio'])
    first, *others = by_step.values()
    assert len(others) >= 3
    assert all(step == first for step in others) == whole


@pytest.mark.parametrize('shrink', [1.0, 0.3])
def test_what_came_back_is_measured_as_it_is(make_runner, shrink):
    """Training goes on with it, and may make it shorter: the layers of every step are those of the weights then."""
    runner, expected = make_runner(dict(HOOK, protection=dict(type='Everything'))), {}

    def look(runner):
        if hook_of(runner)._state.kind != 'dense':
            return
        groups = hook_of(runner).pruner.groups.groups
        for group, (_, _, back) in zip(groups, hook_of(runner).protection.seen[-len(groups) :]):
            for part in filter_parts(runner.model, group):
                positions = part.positions[back[part.channels]]
                part.tensor.data[(slice(None),) * part.dim + (positions,)] *= shrink
        everything = [torch.ones(group.channels, dtype=torch.bool) for group in groups]
        expected[runner.iter + 1] = sparsity_ratios(runner.model, groups, everything)

    runner.register_hook(Watch(after=look))
    runner.train()
    found = {}
    for line in steps_of(runner):
        found.setdefault(line['iteration'], []).append(line['sparsity_ratio'])
    assert len(found) >= 4
    assert found == {iteration: pytest.approx(expected[iteration], abs=1e-6) for iteration in found}
    assert len(set(map(tuple, found.values()))) > 1


@pytest.mark.parametrize(('allocation', 'copied'), [('SparsityRatio', True), ('Uniform', False)])
def test_copies_of_zeroed_filters_are_for_who_looks_at_weights(make_runner, allocation, copied):
    """And only while there are further steps to look at them."""
    hook = dict(HOOK, protection=False, pruner=dict(type='ChannelPruner', allocation=dict(type=allocation), round_to=1))
    runner, found = make_runner(hook), {}

    def look(runner):
        whole = hook_of(runner)._steps.state_dict()['whole'] or dict(copies=[])
        found[hook_of(runner)._state.kind] = any(copy is not None for copy in whole['copies'])

    runner.register_hook(Watch(after=look))
    runner.train()
    assert found == {'dense': copied, 'slim': False}


def test_another_measure_than_that_of_the_checkpoint_is_said(make_runner, tmp_path, monkeypatch):
    """Both ways, where a soft phase is gone on with."""
    said = []
    monkeypatch.setattr('mmsharp.engine.pruning.soft_pruning.soft_steps.print_log', lambda text, *_: said.append(text))
    for whole in (True, False):
        make_runner(dict(HOOK, measure_whole=whole), name=f'first_{whole}').train()
        again = make_runner(
            dict(HOOK, measure_whole=not whole), name=f'again_{whole}', resume=tmp_path / f'first_{whole}/epoch_1.pth'
        )
        said.clear()
        again.train()
        assert any('measure_whole' in text for text in said)


@pytest.mark.parametrize('ascent', sorted(ASCENTS.module_dict))
def test_sharpness_aware_by_config_alone(make_runner, ascent):
    """Under any ascent the method goes through; what it removes is what it says."""
    runner = make_runner(HOOK, ascent=dict(type=ascent))
    runner.train()
    assert hook_of(runner)._state.kind == 'slim'
    assert all(parameter.isfinite().all() for parameter in runner.model.parameters())


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


def test_soft_steps_leave_frozen_groups_whole(make_runner):
    """Bitwise, and named in the log; the masks that are held take from them, and meet the budget exactly."""
    runner = make_runner(dict(HOOK, hard=0.25, slim=False))
    runner.model.inner[0].requires_grad_(False)
    before, same = runner.model.inner[0].weight.clone(), []
    runner.register_hook(Watch(lambda runner: same.append(torch.equal(runner.model.inner[0].weight, before))))
    runner.train()
    assert same == [True] * 12 + [False] * 12
    zeroed = {name: [s['zeroed'] for s in steps_of(runner) if s['group'] == name] for name in ('inner.0', 'stem.0')}
    assert zeroed['inner.0'][:-1] == [0] * 3
    assert zeroed['inner.0'][-1] > 0
    assert max(zeroed['stem.0'][:-1]) > 0
    pruner = hook_of(runner).pruner
    assert 0.3 <= pruner.cost.fraction('params', pruner.masks.keep) <= 0.4
    log = next(Path(runner.log_dir).glob('*.log')).read_text()
    assert log.count("soft steps leave 'inner.0' whole") == 1


def test_a_group_with_one_frozen_filter_is_left_whole(make_runner):
    """It could not grow back, whatever the others of its channels do."""
    runner = make_runner(HOOK)
    runner.model.outer[0].weight.requires_grad_(False)  # added to what the stem makes
    runner.train()
    soft = [step for step in steps_of(runner) if step['phase'] == 'soft']
    assert {step['zeroed'] for step in soft if step['group'] == 'stem.0'} == {0}
    assert max(step['zeroed'] for step in soft) > 0


def test_a_figure_that_cannot_be_drawn_costs_no_training(make_runner, monkeypatch):
    """Nor a checkpoint; the log has the reason."""

    def fail(*_):
        raise OSError('no space left')

    monkeypatch.setattr('mmsharp.engine.hooks.psap_hook.draw_pruning_ratios', fail)
    runner = make_runner(HOOK)
    runner.train()
    assert hook_of(runner)._state.kind == 'slim'
    assert Path(runner.work_dir, 'last_checkpoint').is_file()
    assert 'psap.png could not be drawn: no space left' in next(Path(runner.log_dir).glob('*.log')).read_text()


def test_masked_equals_slim_after_the_hard_phase(make_runner):
    """The hard phase holds the masks for its length; then channels go, and the output stays."""
    runner = make_runner(dict(HOOK, hard=0.25))
    kinds, differences = [], []

    def look(runner):
        hook = hook_of(runner)
        kinds.append(hook._state.kind)
        if kinds[-1] == 'masked':
            # Not by verify(), which masks the model first.
            differences.append(slim_difference(hook.pruner.model, hook.pruner.recipe(), hook._forward))

    runner.register_hook(Watch(look))
    runner.train()
    assert kinds == ['dense'] * 12 + ['masked'] * 6 + ['slim'] * 6
    assert max(differences) <= 1e-5


def test_soft_filter_pruning_is_the_method_without_its_parts(make_runner):
    """No protection, no limit, a uniform allocation: nobody comes back, everybody loses the same share."""
    pruner = dict(PRUNER, allocation=dict(type='Uniform'))
    runner = make_runner(dict(HOOK, pruner=pruner, protection=False, limit_regrowth=False, clear_momentum=False))
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
            # Some may be zero from earlier steps, with a ReLU closed for them.
            assert dead[step['iteration']] >= step['zeroed'] - step['protected'] + step['refilled']


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
    assert [step['group'] for step in steps] == groups * 4
    last = steps[-len(groups) :]
    for step in last:
        for name in ('sparsity_ratio', 'pruning_ratio', 'protected'):
            assert runner.message_hub.get_scalar(f'psap/{step["group"]}/{name}').current() == step[name]
        assert step['pruning_ratio'] == pytest.approx(step['zeroed'] / step['channels'], abs=1e-6)
    total = sum(step['zeroed'] for step in last) / sum(step['channels'] for step in last)
    assert runner.message_hub.get_scalar('train/pruning/pruning_ratio').current() == pytest.approx(total)
    assert [sum(s['zeroed'] for s in steps if s['iteration'] == i) for i in (3, 6)] == sorted(
        sum(s['zeroed'] for s in steps if s['iteration'] == i) for i in (3, 6)
    )


@pytest.mark.parametrize(('last', 'drawn'), [(2, False), (6, True), (14, True)])
def test_a_run_that_is_killed_has_its_figure(make_runner, last, drawn):
    """It is drawn with every checkpoint of the soft phase that has steps to show, and when the masks are held."""
    runner = make_runner(HOOK)

    def kill(runner):
        if runner.iter == last:
            raise KeyboardInterrupt

    runner.register_hook(Watch(kill))
    with pytest.raises(KeyboardInterrupt):
        runner.train()
    figure = Path(runner.work_dir) / 'psap.png'
    assert figure.exists() == drawn
    assert not drawn or figure.stat().st_size > 1000


@pytest.mark.parametrize(
    ('change', 'words'),
    [
        (dict(ramp=1.5), 'ramp'),
        (dict(hard=-1), 'hard'),
        (dict(protection=dict(type='Unknown')), 'Unknown'),
        (dict(protection=True), 'protection=True'),
        (dict(protection=0), 'protection=0'),
        (dict(protection={}), 'no `type`'),
        (dict(protection=lambda pulse, gate, zeroed: zeroed), 'watch is missing'),
        (dict(protection=dict(type='Nothing', watch=0)), 'Nothing: watch is 0'),
        (dict(pruner=dict(round_to=1)), "pruner={'round_to': 1} has no `type`"),
        (dict(protection=dict(type='ProtectiveReconstruction', kappa='big')), 'kappa'),
        (dict(limit_regrowth=1), 'limit_regrowth'),
        (dict(clear_momentum=0), 'clear_momentum'),
        (dict(measure_whole=0), 'measure_whole'),
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
