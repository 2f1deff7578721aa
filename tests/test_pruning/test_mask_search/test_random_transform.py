"""Transforms stay in the range of pixels, differ between images, and do nothing at zero."""

import pytest
import torch

from mmsharp.errors import MmsharpError
from mmsharp.pruning.mask_search import RandomTransform

MEAN, STD = (0.5, 0.4, 0.3), (0.2, 0.25, 0.3)
OFF = dict(rotation=0, translation=0, scale=0, contrast=0, brightness=0, gamma=1)


def normalised(images: int = 6) -> torch.Tensor:
    pixels = torch.rand(images, 3, 9, 12, generator=torch.Generator().manual_seed(0))
    return (pixels - torch.tensor(MEAN).reshape(3, 1, 1)) / torch.tensor(STD).reshape(3, 1, 1)


@pytest.mark.parametrize('setting', ['rotation', 'translation', 'scale', 'contrast', 'brightness', 'gamma'])
def test_each_transform_changes_images_and_keeps_their_range(setting):
    """Alone, each image otherwise, pixels in [0, 1]."""
    torch.manual_seed(0)
    strength = dict(rotation=30, gamma=2.0).get(setting, 0.3)
    images = normalised(1).repeat(4, 1, 1, 1)
    moved = RandomTransform(**{**OFF, setting: strength})(images, MEAN, STD)
    pixels = moved * torch.tensor(STD).reshape(3, 1, 1) + torch.tensor(MEAN).reshape(3, 1, 1)
    assert pixels.min() >= -1e-5
    assert pixels.max() <= 1 + 1e-5
    assert all((moved[i] - moved[j]).abs().max() > 1e-3 for i in range(4) for j in range(i))
    assert (moved - images).abs().max() > 1e-3


def test_nothing_is_nothing():
    """Bitwise, and in a tensor of its own."""
    images = normalised()
    moved = RandomTransform(**OFF)(images, MEAN, STD)
    assert torch.equal(moved, images)
    assert moved.data_ptr() != images.data_ptr()


def test_a_rotation_turns_the_picture():
    """By 180 degrees, the picture upside down and mirrored."""
    transform = RandomTransform(**{**OFF, 'rotation': 180})
    transform._draw = staticmethod(lambda count, width, device: torch.full((count, 1, 1, 1), float(width)))
    images = normalised()
    turned = transform(images, MEAN, STD)
    torch.testing.assert_close(turned, images.flip(2, 3), rtol=0, atol=2e-5)


@pytest.mark.parametrize('setting', [dict(rotation=200), dict(brightness=-1), dict(gamma=0.5), dict(scale='big')])
def test_other_settings_are_refused(setting):
    """By name and value."""
    with pytest.raises(MmsharpError, match=f'{next(iter(setting))} is'):
        RandomTransform(**setting)
