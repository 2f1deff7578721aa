"""Laws of what hooks read of gradients: a loss scale that the optimizer itself takes off is in no score."""

import pytest
import torch
from psap_training import PRUNER, Watch, hook_of

PHASES = dict(budget=dict(params=0.5), warmup=1, interval=2)
NEVER, EVERY_STEP = 1000, 1


@pytest.fixture
def train(make_runner):
    """A function from a hook and the steps until the scale doubles to a runner that a fused optimizer has trained."""

    def trained(hook, doubled_after):
        optimizer = dict(type='SGD', lr=0.05, momentum=0.9, fused=True)
        wrapper = dict(type='mmsharp.AmpOptimWrapper', dtype='bfloat16', optimizer=optimizer)
        runner = make_runner(dict(PHASES, **hook), f'{doubled_after}', optim_wrapper=wrapper)

        def ahead(runner, _):
            if runner.iter == 0:
                scaler = torch.amp.GradScaler('cpu', init_scale=1.0, growth_interval=doubled_after)
                runner.optim_wrapper.loss_scaler = scaler

        runner.register_hook(Watch(before=ahead, priority='HIGHEST'))
        runner.train()
        return runner

    return trained


def test_taylor_scores(train):
    """Training, pruning and fine-tuning are bitwise those with a scale of 1 that never doubles."""
    hook = dict(type='mmsharp.PruningHook', pruning=2, pruner=dict(PRUNER, criterion=dict(type='Taylor')))
    plain, scaled = (train(hook, interval).model.state_dict() for interval in (NEVER, EVERY_STEP))
    assert plain.keys() == scaled.keys()
    assert all(torch.equal(plain[name], scaled[name]) for name in plain)


def test_gate_gradients(train):
    """What a protection is offered is bitwise that with a scale of 1 that never doubles."""
    hook = dict(type='mmsharp.PSAPHook', pruning=3, pruner=PRUNER, protection=dict(type='Nothing'))
    plain, scaled = (hook_of(train(hook, interval)).protection.seen for interval in (NEVER, EVERY_STEP))
    assert len(plain) == len(scaled) > 0
    for (_, one, _), (_, other, _) in zip(plain, scaled):
        assert one.any()
        assert torch.equal(one, other)
