"""What a pruned run meets later is refused at once or gone on with: other lengths, other shapes, later phases."""

import logging

import pytest
import torch
from mmengine.hooks import Hook
from mmengine.model import BaseTTAModel
from mmengine.registry import MODELS, OPTIMIZERS

from mmsharp.engine.hooks import PruningHook
from mmsharp.engine.model_access.inner_model import inner_model
from mmsharp.engine.pruning.held_models import shadows
from mmsharp.errors import MmsharpError
from mmsharp.pruning import count_parameters
from mmsharp.sharpness import ASAM

PRUNER = dict(type='mmsharp.ChannelPruner', round_to=1)
HOOK = dict(type='mmsharp.PruningHook', budget=dict(params=0.4), warmup=1, pruning=2, interval=2, pruner=PRUNER)
TAYLOR = dict(HOOK, pruner=dict(PRUNER, criterion=dict(type='Taylor')))
ADASAP = dict(HOOK, type='mmsharp.AdaSAPHook')
PSAP = dict(type='mmsharp.PSAPHook', budget=dict(params=0.4), pruning=2, pruner=PRUNER)
BY_TAYLOR = dict(type='AdaSAP', score=dict(type='Taylor'), rho_max=0.3)


@MODELS.register_module(force=True)
class FirstView(BaseTTAModel):
    """Test-time augmentation that keeps the first view."""

    def merge_preds(self, data_samples_list):
        return [views[0] for views in data_samples_list]


OPTIMIZERS.register_module('FactoredMoments', module=torch.optim.Adafactor, force=True)


def hook_of(runner) -> PruningHook:
    return next(hook for hook in runner.hooks if isinstance(hook, PruningHook))


@pytest.mark.parametrize(
    'hook',
    [HOOK, dict(type='mmsharp.PSAPHook', budget=dict(params=0.4), pruning=4, pruner=PRUNER)],
    ids=['plain', 'psap'],
)
def test_the_shape_that_channels_were_found_with_goes_on_from_the_dense_phase(make_runner, hook):
    """What a channel costs depends on it, and the first batch after resuming may have another."""
    whole = make_runner(hook, 'whole')
    whole.train()
    checkpoint = torch.load(f'{whole.work_dir}/epoch_1.pth', weights_only=False)
    assert (checkpoint['mmsharp']['state'], checkpoint['mmsharp']['input_shape']) == ('dense', [3, 8, 8])
    resumed = make_runner(hook, 'resumed', resume=f'{whole.work_dir}/epoch_1.pth')
    resumed.call_hook('before_run')
    resumed.call_hook('after_load_checkpoint', checkpoint=checkpoint)
    resumed.optim_wrapper = resumed.build_optim_wrapper(resumed.optim_wrapper)
    hook_of(resumed)._attach(resumed, dict(inputs=torch.zeros(2, 3, 16, 12)))
    assert hook_of(resumed)._state.input_shape == (3, 8, 8)


def warnings_of(runner) -> list[str]:
    """What its logger says from now on."""
    texts: list[str] = []
    handler = logging.Handler(logging.WARNING)
    handler.emit = lambda record: texts.append(record.getMessage())
    runner.logger.addHandler(handler)
    return texts


class Seen(Hook):
    """The kinds of ascents of all iterations."""

    priority = 'LOWEST'

    def __init__(self):
        self.kinds = []

    def after_train_iter(self, runner, batch_idx, data_batch=None, outputs=None):
        self.kinds.append(type(runner.optim_wrapper.ascent))


def test_a_slim_run_that_is_made_longer_stays_in_its_last_phase(make_runner):
    """Shares of a longer run would put it back into pruning, with the ball of that phase; and the change is said."""
    hook = dict(ADASAP, warmup=0.1, pruning=0.4)
    whole = make_runner(hook, 'whole', dict(type='AdaSAP'))
    whole.train()
    longer = make_runner(hook, 'longer', dict(type='AdaSAP'), resume=f'{whole.work_dir}/epoch_4.pth', max_epochs=20)
    seen = Seen()
    longer.register_hook(seen)
    heard = warnings_of(longer)
    longer.train()
    assert seen.kinds == [ASAM] * 64
    assert 'begun with warm_up_end 2 instead of 8, pruning_end 12 instead of 40' in ' '.join(heard)


def test_a_masked_run_that_is_made_longer_stays_in_its_last_phase_too(make_runner):
    """And prunes no further."""
    hook = dict(ADASAP, warmup=0.1, pruning=0.4, slim=False)
    whole = make_runner(hook, 'whole', dict(type='AdaSAP'))
    whole.train()
    longer = make_runner(hook, 'longer', dict(type='AdaSAP'), resume=f'{whole.work_dir}/epoch_6.pth', max_epochs=20)
    seen = Seen()
    longer.register_hook(seen)
    longer.train()
    assert seen.kinds == [ASAM] * 56
    kept = [hook_of(runner).pruner.kept['params'] for runner in (whole, longer)]
    assert kept[0] == kept[1] <= 0.4


def test_a_budget_of_something_else_is_said(make_runner):
    """By both."""
    whole = make_runner(HOOK, 'whole')
    whole.train()
    other = make_runner(dict(HOOK, budget=dict(macs=0.2)), 'other', resume=f'{whole.work_dir}/epoch_5.pth')
    heard = warnings_of(other)
    other.train()
    assert "budget {'params': 0.4} instead of {'macs': 0.2}" in ' '.join(heard)


def test_a_budget_that_changes_in_between_is_said(make_runner):
    """A slim network stays what it is; and who resumes without changes hears nothing."""
    whole = make_runner(HOOK, 'whole')
    whole.train()
    for name, budget, said in (('other', 0.2, True), ('same', 0.4, False)):
        resumed = make_runner(dict(HOOK, budget=dict(params=budget)), name, resume=f'{whole.work_dir}/epoch_5.pth')
        heard = warnings_of(resumed)
        resumed.train()
        assert any("begun with budget {'params': 0.4} instead of {'params': 0.2}" in text for text in heard) == said
        assert any('begun with' in text for text in heard) == said
        assert count_parameters(resumed.model) == count_parameters(whole.model)


@pytest.mark.parametrize('average', [False, True])
def test_a_slim_checkpoint_goes_into_a_model_of_test_time_augmentation(make_runner, average):
    """The layer around the model stays, and a shadow of it shrinks, too."""
    whole = make_runner(HOOK, 'whole')
    whole.train()
    hooks = [dict(type='EMAHook', momentum=0.1)] if average else []
    tested = make_runner(
        HOOK, 'tested', model=dict(type='FirstView', module=dict(type='TwoBlocks')), custom_hooks=hooks
    )
    checkpoint = torch.load(f'{whole.work_dir}/epoch_6.pth', weights_only=False)
    tested.call_hook('before_run')
    hook_of(tested).after_load_checkpoint(tested, checkpoint)
    assert isinstance(tested.model, BaseTTAModel)
    inner_model(tested.model).load_state_dict(checkpoint['state_dict'])
    for shadow in shadows(tested):
        shadow.load_state_dict(checkpoint['state_dict'])
    assert len(list(shadows(tested))) == average


@pytest.mark.parametrize('slim', [True, False])
def test_ascents_that_score_by_gradients_resume_where_phases_change(make_runner, slim):
    """Bitwise, though the checkpoint has the scores of the ascent before, and of the dense network's channels."""
    hook = dict(ADASAP, fine_tuning=BY_TAYLOR, slim=slim)
    whole = make_runner(hook, 'whole', BY_TAYLOR)
    whole.train()
    for epoch in (2, 3, 5):
        resumed = make_runner(hook, f'from{epoch}', BY_TAYLOR, resume=f'{whole.work_dir}/epoch_{epoch}.pth')
        resumed.train()
        expected = whole.model.state_dict()
        assert all(torch.equal(value, expected[key]) for key, value in resumed.model.state_dict().items()), epoch


def test_pruning_steps_without_new_gradients_go_by_the_last_ones(make_runner):
    """More batches are accumulated than lie between two of them."""
    wrapper = dict(type='OptimWrapper', optimizer=dict(type='SGD', lr=0.05), accumulative_counts=8)
    hook = dict(TAYLOR, warmup=2, interval=1)
    runner = make_runner(hook, 'whole', optim_wrapper=wrapper)
    dense = count_parameters(runner.model)
    runner.train()
    assert count_parameters(runner.model) <= 0.4 * dense
    path = f'{runner.work_dir}/epoch_3.pth'
    assert torch.load(path, weights_only=False)['mmsharp_criterion_begins_anew'] is True
    resumed = make_runner(hook, 'resumed', resume=path, optim_wrapper=wrapper)
    resumed.train()
    for (name, one), other in zip(runner.model.named_parameters(), resumed.model.parameters()):
        assert one.shape == other.shape, name


def test_an_optimizer_whose_state_cannot_shrink_is_refused_as_soon_as_it_has_one(make_runner):
    """Not where channels are removed, much later."""
    wrapper = dict(type='OptimWrapper', optimizer=dict(type='FactoredMoments', lr=0.01))
    for hook in (HOOK, PSAP):
        runner = make_runner(hook, hook['type'], optim_wrapper=wrapper)
        with pytest.raises(MmsharpError, match=r"Adafactor: state 'row_var' .* prune with slim=False"):
            runner.train()
        assert runner.iter == 1
    make_runner(dict(HOOK, slim=False), 'masked', optim_wrapper=wrapper).train()


@pytest.mark.parametrize('hook', [ADASAP, PSAP])
def test_an_ascent_of_a_later_phase_is_refused_before_the_first_step(make_runner, hook):
    """By what it does not go with: the policy, or an optimizer without momentum."""
    along = dict(type='MomentumSAM')
    for policy, momentum, words in (('LookSAM', 0.9, 'compares two gradients'), ('EveryStep', 0, 'keeps none')):
        wrapper = dict(
            type='mmsharp.SAMOptimWrapper',
            optimizer=dict(type='SGD', lr=0.05, momentum=momentum),
            ascent=dict(type='SAM'),
            policy=dict(type=policy),
        )
        runner = make_runner(dict(hook, fine_tuning=along), policy, optim_wrapper=wrapper)
        with pytest.raises(MmsharpError, match=words):
            runner.train()
        assert runner.iter == 0


@pytest.mark.parametrize('hook', [PSAP, ADASAP], ids=['psap', 'adasap'])
def test_several_that_look_at_the_gradients_get_along(make_runner, hook):
    """Scores of the pruner, gates of the protection and scores of the ascent, to the end of the training."""
    runner = make_runner(dict(hook, pruner=TAYLOR['pruner']), ascent=BY_TAYLOR)
    dense = count_parameters(runner.model)
    runner.train()
    assert runner.iter == 24
    assert count_parameters(runner.model) <= 0.4 * dense
