"""A checkpoint either belongs to the model or is refused."""

import pytest
import torch
from torch import nn

from mmsharp.engine.checkpoint_fit import check_fit
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


@pytest.mark.parametrize(
    ('change', 'words'),
    [
        (lambda state: state.update({'0.weight': torch.ones(4, 2)}), r"'0\.weight' is \[4, 2\], expected \[3, 2\]"),
        (lambda state: state.pop('0.bias'), r"'0\.bias' is missing"),
        (lambda state: state.update({f'head.{i}': torch.ones(2) for i in range(9)}), r"'head\.0' is not in the model"),
    ],
)
def test_what_does_not_fit_is_named(change, words):
    """The key, what was found and what was expected."""
    state = network().state_dict()
    change(state)
    with pytest.raises(MmsharpError, match=words):
        check_fit(network(), state, 'other.pth')
