"""What a certification holds at a time: the tensors that live are counted at every operation."""

import pytest
import torch
from torch.multiprocessing.reductions import StorageWeakRef
from torch.utils._python_dispatch import TorchDispatchMode
from torch.utils._pytree import tree_leaves

from mmsharp.robustness import certify
from mmsharp.robustness.certification import chernoff_bound

PIXELS = 3 * 48 * 48
OTHERS = 49
"""Classes beside the first."""
OF_A_DRAW = 64
"""Bytes that may be kept of a draw: its parameters, its discrepancy, and whether its class is another."""


class LiveTensors(TorchDispatchMode):
    """The bytes of all tensors that were made within and live still, and the most of them."""

    def __init__(self):
        super().__init__()
        self.alive, self.most = {}, 0

    def __torch_dispatch__(self, function, types, args=(), kwargs=None):
        given = {key for key, _ in _storages((args, kwargs))} - self.alive.keys()
        made = function(*args, **(kwargs or {}))
        for key, storage in _storages(made):
            if key not in given:  # a view of what was there before is not new
                self.alive[key] = (StorageWeakRef(storage), storage.nbytes())
        self.most = max(self.most, self.now())
        return made

    def now(self):
        """Bytes that live."""
        self.alive = {key: kept for key, kept in self.alive.items() if not kept[0].expired()}
        return sum(size for _, size in self.alive.values())


def _storages(tree):
    found = [leaf.untyped_storage() for leaf in tree_leaves(tree) if isinstance(leaf, torch.Tensor)]
    return [(storage._cdata, storage) for storage in found]


def bytes_of(draws, chunk, images=1, transform='brightness:0.4', compat=None):
    """The most bytes at a call of the model, in whole, and the largest batch."""
    live, at_the_model, batches = LiveTensors(), [], []

    def by_light(batch):
        at_the_model.append(live.now())
        batches.append(len(batch))
        light = batch.mean(dim=(1, 2, 3)).clamp(0.01, 0.99)[:, None]
        return torch.cat([light, ((1 - light) / OTHERS).expand(-1, OTHERS)], dim=1)

    pictures = torch.rand(images, 3, 48, 48, generator=torch.Generator().manual_seed(0))
    with live:
        options = dict(draws=draws, groups=2, grid=3, chunk=chunk, compat=compat)
        certify(by_light, pictures, [0] * images, transform, **options)
    return max(at_the_model), live.most, max(batches)


@pytest.mark.parametrize('transform', ['rotation:10', 'blur:1', 'translation:0.2+gamma:2'])
def test_the_model_gets_one_chunk_and_nothing_else_is_kept_but_numbers_of_draws(transform):
    """Ten times the draws: no image, and no score of the model, is kept of those that went before."""
    few, _, _ = bytes_of(draws=20, chunk=8, transform=transform)
    many, _, largest = bytes_of(draws=200, chunk=8, transform=transform)
    assert largest == 8
    assert many - few <= 360 * OF_A_DRAW
    assert few <= 2 * 8 * PIXELS * 4


def test_images_do_not_add_up():
    """A data set takes what one of its images takes."""
    one, most_of_one, _ = bytes_of(draws=20, chunk=8)
    five, most_of_five, largest = bytes_of(draws=20, chunk=8, images=5)
    assert largest == 8
    assert five <= one + OF_A_DRAW
    assert most_of_five <= most_of_one + OF_A_DRAW


def test_memory_follows_the_chunk():
    """Which is what it is for."""
    small, large = bytes_of(draws=100, chunk=4)[0], bytes_of(draws=100, chunk=64)[0]
    assert large > 8 * small


@pytest.mark.parametrize('compat', [None, 'official'])
def test_the_bound_holds_a_few_arrays_of_a_chunk(compat):
    """Beside its arguments, whatever the number of draws and images."""
    chunk, width = 20_000, 4 if compat else 8
    for images, draws in ((1, 1000), (1, 10_000), (20, 1000)):
        generator = torch.Generator().manual_seed(0)
        Z = 0.2 * torch.rand(images, 2, draws // 2, generator=generator, dtype=torch.float64)
        d = torch.full((images,), 0.3, dtype=torch.float64)
        live = LiveTensors()
        with live:
            chernoff_bound(Z, d, compat=compat, chunk=chunk)
        assert live.most <= 6 * chunk * width + Z.numel() * width
