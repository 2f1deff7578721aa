"""A checkpoint either belongs to the model or is refused."""

import pytest
import torch
from torch import nn

from mmsharp.engine.checkpoints.checkpoint_fit import check_fit, check_resumable, check_some_fit, weights_of
from mmsharp.engine.pruning.pruning_state import PruningState
from mmsharp.errors import MmsharpError


def network() -> nn.Module:
    return nn.Sequential(nn.Linear(2, 3), nn.BatchNorm1d(3))


def test_the_model_s_own_weights_fit():
    """Also with the prefix of a distributed wrapper, and without counters, as old files have them."""
    state = network().state_dict()
    check_fit(network(), state, 'own.pth')
    check_fit(network(), {f'module.{key}': value for key, value in state.items()}, 'ddp.pth')
    del state['1.num_batches_tracked']
    check_fit(network(), state, 'old.pth')


class Renamed(nn.Module):
    """As classifiers that wrap a library's network: its keys in a file are without the wrapper's name."""

    def __init__(self) -> None:
        super().__init__()
        self.model = nn.Linear(2, 3)
        self._register_state_dict_hook(
            lambda module, state, prefix, meta: {key.removeprefix('model.'): value for key, value in state.items()}
        )


def test_a_model_that_renames_what_it_saves_is_asked_by_those_names():
    """Its own file fits; one without a weight, or with another shape, is refused by the key that the file has."""
    state = dict(Renamed().state_dict())
    assert set(state) == {'weight', 'bias'}
    check_fit(Renamed(), state, 'own.pth')
    check_some_fit(Renamed(), {'weight': state['weight']}, 'part.pth')
    with pytest.raises(MmsharpError, match=r"'bias' is missing, expected \[3\]"):
        check_fit(Renamed(), {'weight': state['weight']}, 'part.pth')
    assert PruningState().fits(Renamed(), state)
    assert not PruningState().fits(Renamed(), dict(state, weight=torch.ones(2, 2)))


@pytest.mark.parametrize(
    ('change', 'words'),
    [
        (lambda state: state.update({'0.weight': torch.ones(4, 2)}), r"'0\.weight' is \[4, 2\], expected \[3, 2\]"),
        (lambda state: state.pop('0.bias'), r"'0\.bias' is missing"),
        (lambda state: state.update({f'head.{i}': torch.ones(2) for i in range(9)}), r"'head\.0' is not in the model"),
        (
            lambda state: state.update({'0.bias': torch.ones(3, dtype=torch.complex64)}),
            r"'0\.bias' is torch\.complex64",
        ),
        (lambda state: state['0.bias'].fill_(torch.inf), r"'0\.bias' holds values that are not finite"),
        (lambda state: state['1.running_var'].fill_(torch.nan), r"'1\.running_var' holds values that are not finite"),
    ],
)
def test_what_does_not_fit_is_named(change, words):
    """The key, what was found and what was expected."""
    state = network().state_dict()
    change(state)
    with pytest.raises(MmsharpError, match=words):
        check_fit(network(), state, 'other.pth')


@pytest.mark.parametrize(
    'checkpoint',
    [
        dict(model=network().state_dict()),
        dict(epoch=3),
        dict(state_dict=dict(weight=[1.0])),
        dict(state_dict=[torch.ones(2)]),
        dict(state_dict={0: torch.ones(2)}),
    ],
)
def test_a_checkpoint_without_weights_is_refused(checkpoint):
    """Files of other frameworks, and arbitrary data, are named with what they hold."""
    for check in (weights_of, check_resumable, lambda *arguments: check_fit(network(), *arguments)):
        with pytest.raises(MmsharpError, match=r"'other\.pth' has no `state_dict` of tensors") as caught:
            check(checkpoint, 'other.pth')
        assert repr(next(iter(checkpoint))) in str(caught.value)


def test_weights_are_found_where_mmengine_looks():
    """Under ``state_dict`` or alone; what a module stores beside its tensors is none of them."""
    state = network().state_dict()
    for checkpoint in (state, dict(state_dict=state), dict(state_dict={**state, '1._extra_state': {'scale': 1}})):
        assert list(weights_of(checkpoint, 'own.pth')) == list(state)


def test_only_a_training_checkpoint_can_be_resumed():
    """Weights alone do not say at which iteration to go on."""
    state = network().state_dict()
    check_resumable(dict(state_dict=state, meta=dict(epoch=1, iter=10)), 'epoch_1.pth')
    for meta in ({}, dict(meta=None), dict(meta=dict(epoch=1)), dict(meta=[1])):
        with pytest.raises(MmsharpError, match=r"'dense\.pth' does not say how far"):
            check_resumable(dict(state_dict=state, **meta), 'dense.pth')


def test_a_sparse_tensor_is_no_weight():
    """MMEngine would log that it cannot copy it, and evaluate noise."""
    with pytest.raises(MmsharpError, match='no `state_dict` of tensors'):
        weights_of(dict(state_dict=dict(weight=torch.eye(3).to_sparse())), 'odd.pth')
