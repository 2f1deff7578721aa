"""Transforms are drawn for each image, on pixels, whatever the normalisation."""

import pytest
import torch

from mmsharp.errors import MmsharpError
from mmsharp.pruning.mask_search import DrawnTransforms
from mmsharp.registry import IMAGE_TRANSFORMS, build_part

MEAN, STD = (0.5, 0.4, 0.3), (0.2, 0.25, 0.3)


def pixels_of(images: torch.Tensor) -> torch.Tensor:
    return images * torch.tensor(STD).reshape(3, 1, 1) + torch.tensor(MEAN).reshape(3, 1, 1)


def normalised(images: int = 6) -> torch.Tensor:
    pixels = torch.rand(images, 3, 9, 12, generator=torch.Generator().manual_seed(0))
    return (pixels - torch.tensor(MEAN).reshape(3, 1, 1)) / torch.tensor(STD).reshape(3, 1, 1)


def test_every_image_has_a_draw_of_its_own_and_pixels_keep_their_range():
    """With the defaults; the same image four times is four images."""
    torch.manual_seed(0)
    images = normalised(1).repeat(4, 1, 1, 1)
    moved = DrawnTransforms()(images, MEAN, STD)
    assert pixels_of(moved).min() >= -1e-5
    assert pixels_of(moved).max() <= 1 + 1e-5
    assert all((moved[i] - moved[j]).abs().max() > 1e-3 for i in range(4) for j in range(i))


def test_it_is_the_registered_transforms_one_after_the_other():
    """Longhand, with the same random numbers."""
    configs = [dict(type='Rotation', degrees=20.0), dict(type='Brightness', change=0.3)]
    images = normalised()
    torch.manual_seed(1)
    moved = DrawnTransforms(configs)(images, MEAN, STD)
    torch.manual_seed(1)
    pixels = pixels_of(images)
    for config in configs:
        part = build_part(IMAGE_TRANSFORMS, config)
        pixels = part(pixels, part.parameters(torch.rand(len(images), part.dimensions)))
    torch.testing.assert_close(pixels_of(moved), pixels, rtol=0, atol=1e-5)


def test_half_precision_stays():
    """And the given images are not changed."""
    images = normalised().to(torch.bfloat16)
    before = images.clone()
    assert DrawnTransforms()(images, MEAN, STD).dtype == torch.bfloat16
    assert torch.equal(images, before)


@pytest.mark.parametrize(
    ('transforms', 'words'),
    [([], 'is empty'), ([torch.nn.ReLU()], 'no transform of images'), (dict(type='Fog', change=1), 'Fog')],
    ids=str,
)
def test_what_is_no_transform_is_refused(transforms, words):
    """By name."""
    with pytest.raises((MmsharpError, KeyError), match=words):
        DrawnTransforms(transforms)
