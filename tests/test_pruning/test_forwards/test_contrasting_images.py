"""The images of a check differ in what a model may look at."""

import torch

from mmsharp.pruning.forwards.contrasting_images import KINDS, contrasting_images


def test_sizes_and_kinds():
    """Noise in every batch size, then one image of each other kind; the same ones each time."""
    found = list(contrasting_images((3, 16, 12), (2, 1)))
    assert [(kind, tuple(images.shape)) for kind, images in found] == [
        ('noise', (2, 3, 16, 12)),
        ('noise', (1, 3, 16, 12)),
        *((kind, (1, 3, 16, 12)) for kind in KINDS),
    ]
    again = list(contrasting_images((3, 16, 12), (2, 1)))
    assert all(torch.equal(one, other) for (_, one), (_, other) in zip(found, again, strict=True))


def test_they_are_unlike():
    """In their mean, their spread, and from corner to corner."""
    images = dict(contrasting_images((3, 32, 32), (1,)))
    assert images['bright'].mean() > 1.5
    assert images['dark'].mean() < -1.5
    assert images['faint'].std() < 0.1
    assert images['strong'].std() > 3
    corner = images['one bright corner']
    assert corner[..., :8, :8].mean() > 1.5
    assert corner[..., 8:, 8:].mean() < -1.5
