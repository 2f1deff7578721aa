"""Which BatchNorms take the very output of a layer: no other tensor, none that was changed, and all of them."""

import gc

import torch
from torch import nn

from mmsharp.engine.optim_wrappers.following_norms import FollowingNorms


class Shared(nn.Module):
    """One convolution behind which two BatchNorms stand, a sum in place, and a skipped layer."""

    def __init__(self):
        super().__init__()
        self.shared, self.summed, self.last = (nn.Conv2d(2, 2, 1) for _ in range(3))
        self.first, self.second, self.third = (nn.BatchNorm2d(2) for _ in range(3))

    def forward(self, x):
        x = self.first(self.shared(x)) + self.second(self.shared(2 * x))
        y = self.summed(x)
        y += x
        return self.last(self.third(y))


def test_all_norms_of_a_shared_layer_and_none_behind_a_sum():
    """A sum in place is the same tensor, and another value."""
    model = Shared()
    norms = FollowingNorms(model)
    model(torch.randn(2, 2, 4, 4))
    assert norms.paths_of == {'shared': ['first', 'second']}
    before = dict(norms.paths_of)
    model(torch.randn(2, 2, 4, 4))
    assert norms.paths_of == before
    assert not any(module._forward_hooks or module._forward_pre_hooks for module in model.modules())


def test_nothing_is_kept_alive():
    """Activation checkpoints free what a layer gave before the pass has ended."""
    model = nn.Sequential(nn.Conv2d(1, 3, 1), nn.BatchNorm2d(3), nn.Conv2d(3, 1, 1))
    norms, held = FollowingNorms(model), []
    model[2].register_forward_hook(lambda *_: held.append(_alive((2, 3, 5, 7))))
    model.append(nn.Identity())
    model[3].register_forward_hook(lambda *_: held.append(_alive((2, 3, 5, 7))))
    with torch.no_grad():
        model(torch.zeros(2, 1, 5, 7))
    assert held == [1, 0]  # the input of the second convolution, and then nothing of that shape
    assert norms.paths_of == {'0': ['1']}


def _alive(shape):
    return sum(type(thing) is torch.Tensor and thing.shape == shape for thing in gc.get_objects())
