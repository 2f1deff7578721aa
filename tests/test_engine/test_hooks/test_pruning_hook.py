"""Laws of pruning while training: masks hold, the slim network goes on, and any checkpoint resumes."""

import copy
from dataclasses import replace

import pytest
import torch
from mmcv.cnn import ConvWS2d
from mmengine.hooks import EMAHook, Hook
from mmengine.model import BaseModel
from mmengine.registry import MODELS
from torch import nn

from mmsharp.engine.hooks import PruningHook
from mmsharp.engine.pruning.pruning_state import PruningState
from mmsharp.errors import MmsharpError
from mmsharp.pruning import count_parameters, find_groups, tensor_forward
from mmsharp.pruning.latency import PyTorchEngine, measure_latency_table
from mmsharp.sharpness import ASAM, AdaSAP

HOOK = dict(type='mmsharp.PruningHook', budget=dict(params=0.4), warmup=1, pruning=2, interval=2)
HOOK['pruner'] = dict(type='mmsharp.ChannelPruner', round_to=1)
ADASAP = dict(HOOK, type='mmsharp.AdaSAPHook')
TAYLOR = dict(HOOK, pruner=dict(HOOK['pruner'], criterion=dict(type='Taylor')))
METHODS = [
    pytest.param(HOOK, None, id='magnitude'),
    pytest.param(TAYLOR, None, id='taylor'),
    pytest.param(ADASAP, dict(type='AdaSAP'), id='adasap'),
    pytest.param(
        ADASAP, dict(type='AdaSAP', coupled=True, score=dict(type='Taylor'), score_interval=3), id='coupled-interval'
    ),
]


class Watch(Hook):
    """Calls a function after every training iteration, after all other hooks."""

    priority = 'LOWEST'

    def __init__(self, look) -> None:
        self.look = look

    def after_train_iter(self, runner, batch_idx, data_batch=None, outputs=None) -> None:
        self.look(runner)


def hook_of(runner) -> PruningHook:
    return next(hook for hook in runner.hooks if isinstance(hook, PruningHook))


@pytest.mark.parametrize(('hook', 'ascent'), METHODS)
def test_the_budget_is_met_and_the_network_is_really_smaller(make_runner, hook, ascent):
    """After pruning, parameters <= 40 % of the dense ones, and not by more than a channel's worth too few."""
    runner = make_runner(hook, ascent=ascent)
    dense = count_parameters(runner.model)
    runner.train()
    assert 0.3 <= count_parameters(runner.model) / dense <= 0.4
    assert hook_of(runner)._state.kind == 'slim'
    assert runner.model.inner[0].weight.shape[0] == runner.model.inner[0].out_channels < 12


@pytest.mark.parametrize(('hook', 'ascent'), METHODS)
@pytest.mark.parametrize(('epoch', 'buffers'), [(1, False), (2, True), (3, False), (3, True), (5, True)])
def test_resuming_from_any_phase_ends_bitwise_like_the_uninterrupted_run(make_runner, hook, ascent, epoch, buffers):
    """Weights and optimizer state: before, during and after pruning, also under EMA of weights, or of buffers too."""
    ema = dict(custom_hooks=[dict(type='EMAHook', momentum=0.1, update_buffers=buffers)])
    whole = make_runner(hook, 'whole', ascent, **ema)
    whole.train()
    path = f'{whole.work_dir}/epoch_{epoch}.pth'
    resumed = make_runner(hook, 'resumed', ascent, resume=path, **copy.deepcopy(ema))
    resumed.train()
    expected = whole.model.state_dict()
    assert all(torch.equal(value, expected[key]) for key, value in resumed.model.state_dict().items())
    first, second = (torch.load(f'{runner.work_dir}/epoch_6.pth', weights_only=False) for runner in (whole, resumed))
    for key in ('state_dict', 'ema_state_dict'):
        assert all(torch.equal(value, second[key][name]) for name, value in first[key].items())
    for index, entry in first['optimizer']['state'].items():
        assert torch.equal(entry['momentum_buffer'], second['optimizer']['state'][index]['momentum_buffer'])
    assert first['mmsharp'] == second['mmsharp']


@pytest.mark.parametrize('epoch', [2, 4])
def test_moments_parameter_groups_and_schedulers_go_through_slimming(make_runner, epoch):
    """AdamW with rates and decays of their own, and two schedulers: as planned, and the same from a checkpoint."""
    settings = dict(
        optim_wrapper=dict(
            optimizer=dict(type='AdamW', lr=0.01, weight_decay=0.05),
            paramwise_cfg=dict(bias_lr_mult=2.0, norm_decay_mult=0.0, custom_keys=dict(head=dict(lr_mult=0.1))),
        ),
        param_scheduler=[
            dict(type='LinearLR', start_factor=0.1, by_epoch=False, begin=0, end=6),
            dict(type='MultiStepLR', milestones=[3, 5], gamma=0.5, by_epoch=True),
        ],
    )
    dense = make_runner(None, 'dense', **copy.deepcopy(settings))
    whole = make_runner(HOOK, 'whole', **copy.deepcopy(settings))
    resumed_from = f'{whole.work_dir}/epoch_{epoch}.pth'
    dense.train()
    whole.train()
    resumed = make_runner(HOOK, 'resumed', resume=resumed_from, **copy.deepcopy(settings))
    resumed.train()
    groups = [runner.optim_wrapper.optimizer.param_groups for runner in (dense, whole, resumed)]
    for planned, *others in zip(*groups):
        for other in others:
            assert (planned['lr'], planned['weight_decay']) == (other['lr'], other['weight_decay'])
    assert len({(group['lr'], group['weight_decay']) for group in groups[0]}) > 2
    assert count_parameters(whole.model) < count_parameters(dense.model)
    for (name, one), other in zip(whole.model.named_parameters(), resumed.model.parameters()):
        assert torch.equal(one, other), name
        states = [runner.optim_wrapper.optimizer.state[p] for runner, p in ((whole, one), (resumed, other))]
        for key in ('exp_avg', 'exp_avg_sq', 'step'):
            assert torch.equal(states[0][key], states[1][key]), (name, key)
        assert states[0]['exp_avg'].shape == one.shape


@pytest.mark.parametrize('lengths', [dict(warmup=4, pruning=8), dict(warmup=0.2, pruning=0.4)])
@pytest.mark.parametrize(('hook', 'ascent'), METHODS)
def test_in_an_iteration_loop_lengths_are_of_iterations(make_runner, hook, ascent, lengths):
    """Counts and shares of 20: dense for 4, masked from there, slim after 12, where AdaSAP's ascent changes."""
    runner = make_runner(dict(hook, **lengths), ascent=ascent, train_cfg=dict(by_epoch=False, max_iters=20))
    seen = []
    runner.register_hook(
        Watch(lambda runner: seen.append((hook_of(runner)._state.kind, getattr(runner.optim_wrapper, 'ascent', None))))
    )
    runner.train()
    assert [kind for kind, _ in seen] == ['dense'] * 4 + ['masked'] * 8 + ['slim'] * 8
    if ascent is not None:
        assert [type(one) for _, one in seen] == [AdaSAP] * 12 + [ASAM] * 8


@pytest.mark.parametrize(('slim', 'max_iters'), [(True, 12), (True, 13), (False, 12)])
def test_pruning_to_the_end_is_warned_of(make_runner, slim, max_iters):
    """Nothing is fine-tuned then, and what was to be removed is masked only."""
    hook = dict(HOOK, warmup=4, pruning=8, slim=slim)
    runner = make_runner(hook, train_cfg=dict(by_epoch=False, max_iters=max_iters))
    told = []
    runner.logger.warning = lambda text, *_: told.append(text)
    runner.train()
    assert any('pruning lasts to the end' in text for text in told) == (slim and max_iters == 12)
    assert hook_of(runner)._state.kind == ('slim' if max_iters == 13 else 'masked')


def test_scores_of_groups_need_somebody_who_knows_them(make_runner):
    """Without a pruning hook nobody does; the error says what to add."""
    with pytest.raises(MmsharpError, match=r'coupled=True.*PruningHook'):
        make_runner(None, ascent=dict(type='AdaSAP', coupled=True)).train()


@pytest.mark.parametrize(('hook', 'ascent'), METHODS)
def test_masks_hold_through_momentum_decay_and_averages(make_runner, hook, ascent):
    """With slim=False every masked position is exactly 0 after every iteration, in the model and in its shadow."""
    runner = make_runner(dict(hook, slim=False), ascent=ascent, custom_hooks=[dict(type='EMAHook', momentum=0.1)])
    checked = []

    def look(runner) -> None:
        pruner = hook_of(runner)
        if pruner._state.kind != 'masked':
            return
        shadow = next(hook for hook in runner.hooks if isinstance(hook, EMAHook)).ema_model.module
        named = dict(shadow.named_parameters())
        masks = pruner.pruner.parameter_masks()
        for name, parameter in runner.model.named_parameters():
            if parameter in masks:
                hidden = (masks[parameter] == 0).expand_as(parameter)
                assert torch.all(parameter[hidden] == 0)
                assert torch.all(named[name][hidden] == 0)
                checked.append(int(hidden.sum()))

    runner.register_hook(Watch(look))
    runner.train()
    assert sum(checked) > 0


def test_masks_reach_the_sharpness_aware_wrapper(make_runner):
    """While masked, the ascent knows what not to move; once slim, there is nothing to know."""
    runner = make_runner(ADASAP, ascent=dict(type='AdaSAP'))
    sizes = []
    runner.register_hook(Watch(lambda runner: sizes.append(len(runner.optim_wrapper._masks))))
    runner.train()
    assert sizes[0] == 0
    assert sizes[5] > 0
    assert sizes[-1] == 0


def test_phases_exchange_the_ascent(make_runner):
    """AdaSAP's per-channel ball until pruning ends, the uniform one afterwards, also after resuming there."""
    runner = make_runner(ADASAP, 'whole', ascent=dict(type='AdaSAP'))
    kinds = []
    runner.register_hook(Watch(lambda runner: kinds.append(type(runner.optim_wrapper.ascent))))
    runner.train()
    assert kinds == [AdaSAP] * 12 + [ASAM] * 12
    resumed = make_runner(ADASAP, 'resumed', ascent=dict(type='AdaSAP'), resume=f'{runner.work_dir}/epoch_4.pth')
    kinds.clear()
    resumed.register_hook(Watch(lambda runner: kinds.append(type(runner.optim_wrapper.ascent))))
    resumed.train()
    assert kinds == [ASAM] * 8


def test_the_schedule_is_followed_step_by_step(make_runner):
    """Kept parameters never rise, and the target is reached by the last pruning step."""
    runner = make_runner(dict(HOOK, slim=False))
    kept = []
    runner.register_hook(Watch(lambda r: kept.append(hook_of(r).pruner.kept['params'])))
    runner.train()
    assert kept == sorted(kept, reverse=True)
    assert kept[3] == 1.0
    assert len(set(kept)) >= 4
    assert kept[11] <= 0.4


def test_one_shot_pruning(make_runner):
    """pruning=0 prunes and slims in one step after the warm-up."""
    runner = make_runner(dict(HOOK, warmup=2, pruning=0))
    sizes = []
    runner.register_hook(Watch(lambda runner: sizes.append(count_parameters(runner.model))))
    runner.train()
    assert len(set(sizes[:8])) == 1
    assert len(set(sizes[8:])) == 1
    assert sizes[8] <= 0.4 * sizes[7]


def test_a_checkpoint_carries_plain_data(make_runner):
    """Phase and recipe load with weights_only=True under MMEngine's allow-list, and say what they are."""
    from mmsharp.engine.checkpoints.safe_checkpoint import check_checkpoint

    runner = make_runner(HOOK)
    runner.train()
    kinds = [
        PruningState.from_checkpoint(check_checkpoint(f'{runner.work_dir}/epoch_{epoch}.pth')).kind
        for epoch in range(1, 7)
    ]
    assert kinds == ['dense', 'masked', 'masked', 'slim', 'slim', 'slim']


def test_a_slim_checkpoint_loads_into_the_ordinary_config(make_runner):
    """load_from and test tools: the hook gives the model its shapes before the weights are copied."""
    runner = make_runner(HOOK, 'whole')
    runner.train()
    other = make_runner(HOOK, 'other', load_from=f'{runner.work_dir}/epoch_6.pth')
    other.call_hook('before_run')
    other.load_or_resume()
    expected = runner.model.state_dict()
    assert all(torch.equal(value, expected[key]) for key, value in other.model.state_dict().items())
    with pytest.raises(MmsharpError, match=r'epoch_6\.pth.*slim already'):
        make_runner(HOOK, 'again', load_from=f'{runner.work_dir}/epoch_6.pth').train()


def test_adasap_refuses_to_run_without_the_second_pass(make_runner):
    """The toolboxes' --amp overwrites the wrapper's type; training plainly under this name would be a lie."""
    with pytest.raises(MmsharpError, match='sharpness-aware optimizer wrapper'):
        make_runner(ADASAP).train()


@pytest.mark.parametrize(
    ('change', 'words'),
    [
        (dict(budget=dict(params=1.4)), 'params'),
        (dict(budget=dict(weights=0.4)), 'weights'),
        (dict(interval=0), 'interval'),
        (dict(warmup=1.5), 'warmup'),
        (dict(slim='yes'), 'slim'),
        (dict(pruner=dict(type='mmsharp.Unknown')), 'Unknown'),
        (dict(pruner=dict(type='mmsharp.ChannelPruner', budget=dict(params=0.5))), 'budget'),
    ],
)
def test_bad_arguments_are_refused_at_construction(change, words):
    """Named, with what is accepted."""
    arguments = {key: value for key, value in {**HOOK, **change}.items() if key != 'type'}
    with pytest.raises(MmsharpError, match=words):
        PruningHook(**arguments)


def test_an_unreachable_budget_names_the_reachable_minimum(make_runner):
    """At the first iteration, before anything has been changed."""
    with pytest.raises(MmsharpError, match=r'params.*(smallest|minimum|reach)'):
        make_runner(dict(HOOK, budget=dict(params=0.001))).train()


class Freeze(Hook):
    """Freezes the residual block's first layers, in some iterations of each eight or in all."""

    def __init__(self, share=8) -> None:
        self.share = share

    def before_train_iter(self, runner, batch_idx, data_batch=None) -> None:
        runner.model.inner.requires_grad_(runner.iter % 8 >= self.share)

    def before_train(self, runner) -> None:
        self.before_train_iter(runner, 0)


@pytest.mark.parametrize('share', [3, 8])
def test_layers_that_are_frozen_are_judged_by_their_own_steps_or_left_whole(make_runner, share):
    """By Taylor scores; resuming is bitwise the uninterrupted run, whatever was frozen when the checkpoint was made."""
    hook = dict(TAYLOR, budget=dict(params=0.7), interval=4)
    whole = make_runner(hook, 'whole')
    whole.register_hook(Freeze(share))
    whole.train()
    width = whole.model.inner[0].out_channels
    assert width == 12 if share == 8 else width < 12
    for epoch in (1, 2):
        resumed = make_runner(hook, f'resumed_{epoch}', resume=f'{whole.work_dir}/epoch_{epoch}.pth')
        resumed.register_hook(Freeze(share))
        resumed.train()
        expected = whole.model.state_dict()
        assert all(torch.equal(value, expected[key]) for key, value in resumed.model.state_dict().items())


def test_scores_of_a_checkpoint_that_are_not_ours_are_refused(make_runner, tmp_path):
    """By the name of the checkpoint's entry, not by a KeyError."""
    make_runner(TAYLOR, max_epochs=3).train()
    checkpoint = torch.load(tmp_path / 'run' / 'epoch_1.pth', weights_only=False)
    checkpoint['mmsharp_criterion'] = dict(sums=dict())
    torch.save(checkpoint, tmp_path / 'broken.pth')
    with pytest.raises(MmsharpError, match=r"entry 'mmsharp_criterion': the state of Taylor: .* found 'sums'"):
        make_runner(TAYLOR, 'resumed', resume=tmp_path / 'broken.pth', max_epochs=3).train()


def test_phases_that_do_not_fit_the_run_are_refused(make_runner):
    """Before the first iteration."""
    with pytest.raises(MmsharpError, match='iterations'):
        make_runner(dict(HOOK, warmup=5, pruning=5)).train()


def test_two_pruning_hooks_are_refused_at_the_start(make_runner):
    """Each would prune what the other leaves."""
    runner = make_runner(HOOK, custom_hooks=[dict(HOOK)])
    with pytest.raises(MmsharpError, match='more than one'):
        runner.train()


def test_a_budget_of_latency_by_config(make_runner, tmp_path):
    """A table measured for this network, named in the config by its path, is met and logged like other budgets."""
    model = make_runner(None, 'table').model
    forward = tensor_forward(torch.zeros(1, 3, 8, 8))
    table = measure_latency_table(model, forward, find_groups(model, forward), PyTorchEngine(), points=3, repeats=3)
    table = replace(table, scale=1.0, per_element=1e-6, constant=0.0)  # so that the budget can be reached for certain
    table.save(tmp_path / 'table.json')
    pruner = dict(type='mmsharp.ChannelPruner', latency_table=str(tmp_path / 'table.json'), round_to=1)
    pruner['allocation'] = dict(type='mmsharp.Knapsack')
    runner = make_runner(dict(HOOK, budget=dict(latency=0.8), pruner=pruner), 'run')
    dense = count_parameters(runner.model)
    runner.train()
    assert count_parameters(runner.model) < dense
    assert 0 < runner.message_hub.get_scalar('train/pruning/latency_kept').current() <= 0.8


def test_dense_layers_are_logged_by_their_reason(make_runner, monkeypatch):
    """So that a user sees what holds them."""
    pruner = dict(HOOK['pruner'], ignore=['inner'])
    runner = make_runner(dict(HOOK, pruner=pruner, budget=dict(params=0.9)), max_epochs=4)
    lines = []
    monkeypatch.setattr(runner.logger, 'info', lambda text, *_: lines.append(str(text)))
    runner.train()
    assert "mmsharp: dense, because reaches the model's outputs: head" in lines
    assert "mmsharp: dense, because ignored by the pattern 'inner': inner.0" in lines


@MODELS.register_module(force=True)
class Turning(BaseModel):
    """Adds channels the other way round where pixels are bright."""

    def __init__(self, data_preprocessor=None) -> None:
        super().__init__(data_preprocessor)
        self.stem, self.one, self.other = nn.Conv2d(3, 8, 3), nn.Conv2d(3, 8, 3), nn.Conv2d(8, 2, 3)

    def forward(self, inputs, data_samples=None, mode='tensor'):
        inputs = inputs if isinstance(inputs, torch.Tensor) else torch.stack(list(inputs))
        one = self.one(inputs)
        scores = self.other(self.stem(inputs) + (one.flip(1) if inputs.mean() > self.limit else one)).mean(dim=(2, 3))
        if mode == 'tensor':
            return scores
        return dict(loss=nn.functional.cross_entropy(scores, torch.as_tensor(data_samples)))


@pytest.mark.parametrize(
    ('preprocessor', 'limit'), [({}, 60.0), (dict(mean=[100.0] * 3, std=[1.0] * 3), 10.0)], ids=['pixels', 'caffe']
)
def test_channels_are_followed_on_the_scale_that_the_preprocessor_leaves(make_runner, preprocessor, limit):
    """The channels are followed on the branch that images take in training, not on that of noise around zero."""
    Turning.limit = limit
    model = dict(type='Turning', data_preprocessor=dict(type='ImgDataPreprocessor', **preprocessor))
    with pytest.raises(MmsharpError, match=r'no prunable channel group: .*`flip` along channels'):
        make_runner(HOOK, model=model).train()


@MODELS.register_module(force=True)
class StandardisedBlocks(BaseModel):
    """Convolutions that standardise their weights, as the toolboxes' GN+WS configs have."""

    def __init__(self) -> None:
        super().__init__()
        self.first = nn.Sequential(ConvWS2d(3, 12, 3, padding=1), nn.GroupNorm(2, 12), nn.ReLU())
        self.second = nn.Sequential(ConvWS2d(12, 8, 3, padding=1), nn.GroupNorm(2, 8), nn.ReLU())
        self.head = nn.Linear(8, 2)

    def forward(self, inputs, data_samples=None, mode='tensor'):
        inputs = inputs if isinstance(inputs, torch.Tensor) else torch.stack(list(inputs))
        scores = self.head(self.second(self.first(inputs)).mean(dim=(2, 3)))
        if mode == 'tensor':
            return scores
        return dict(loss=nn.functional.cross_entropy(scores, torch.as_tensor(data_samples)))


@pytest.mark.parametrize(('hook', 'ascent'), METHODS)
def test_masked_filters_that_are_standardised_do_not_spoil_the_others(make_runner, hook, ascent):
    """Their deviation is zero; were their gradient 0 / 0, clipping by the norm of all would carry it everywhere."""
    wrapper = dict(type='OptimWrapper') if ascent is None else dict(type='mmsharp.SAMOptimWrapper', ascent=ascent)
    wrapper.update(optimizer=dict(type='SGD', lr=0.05, momentum=0.9), clip_grad=dict(max_norm=1.0))
    runner = make_runner(dict(hook, interval=1), model=dict(type='StandardisedBlocks'), optim_wrapper=wrapper)
    phases = []

    def look(runner):
        phases.append(hook_of(runner)._state.kind)
        assert all(parameter.isfinite().all() for parameter in runner.model.parameters())
        state = runner.optim_wrapper.optimizer.state.values()
        assert all(
            held['momentum_buffer'].isfinite().all() for held in state if held.get('momentum_buffer') is not None
        )

    runner.register_hook(Watch(look))
    runner.train()
    assert {'masked', 'slim'} <= set(phases)
    assert runner.model.first[0].out_channels < 12
