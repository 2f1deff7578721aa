"""Laws of augmentation by the transforms that networks are certified against."""

import numpy as np
import pytest
import torch

from mmsharp.datasets.transforms import RandomImageTransforms
from mmsharp.errors import MmsharpError
from mmsharp.pruning.mask_search.drawn_transforms import DrawnTransforms
from mmsharp.registry import IMAGE_TRANSFORMS, TRANSFORMS
from mmsharp.robustness.certification.transforms import parse_transform

IMAGE = np.random.default_rng(0).integers(0, 256, (10, 14, 3), dtype=np.uint8)
AMOUNTS = dict(rotation=10, translation=0.2, brightness=0.4, contrast=0.4, gamma=1.5, scale=0.3, blur=1)


def test_images_are_those_that_the_search_of_masks_sees():
    """Bitwise, after rounding to 8 bits, with the same random numbers."""
    torch.manual_seed(5)
    found = RandomImageTransforms()(dict(img=IMAGE.copy()))['img']
    torch.manual_seed(5)
    pixels = torch.from_numpy(IMAGE).permute(2, 0, 1)[None].float() / 255
    expected = (DrawnTransforms()(pixels, 0.0, 1.0)[0] * 255).round().byte().permute(1, 2, 0).numpy()
    assert np.array_equal(found, expected)
    assert not np.array_equal(found, IMAGE)


@pytest.mark.parametrize('name', sorted(AMOUNTS))
def test_every_transform_augments(name):
    """Size and type stay; two draws differ; the order of colours does not matter."""
    step = RandomImageTransforms([parse_transform(f'{name}:{AMOUNTS[name]}')])
    torch.manual_seed(1)
    first, second = (step(dict(img=IMAGE.copy()))['img'] for _ in range(2))
    torch.manual_seed(1)
    reversed_colours = step(dict(img=IMAGE[..., ::-1]))['img']
    assert (first.shape, first.dtype) == (IMAGE.shape, IMAGE.dtype)
    assert not np.array_equal(first, second)
    assert np.array_equal(first[..., ::-1], reversed_colours)


def test_all_registered_transforms_are_in_the_table():
    """So that a new one is tried here; compositions are lists."""
    assert {name.lower() for name in IMAGE_TRANSFORMS.module_dict} - {'composition'} == set(AMOUNTS)


def test_it_can_be_named_in_a_pipeline():
    """By its registered name; what is no transform is refused with those that are."""
    TRANSFORMS.build(dict(type='mmsharp.RandomImageTransforms', transforms=[dict(type='Blur', sigma=1.0)]))
    with pytest.raises(MmsharpError, match='transforms is empty'):
        TRANSFORMS.build(dict(type='mmsharp.RandomImageTransforms', transforms=[]))


def test_grey_images_stay_grey():
    """As their three equal channels would be."""
    step = RandomImageTransforms()
    torch.manual_seed(2)
    grey = step(dict(img=IMAGE[..., 0]))['img']
    torch.manual_seed(2)
    assert np.array_equal(grey, step(dict(img=np.repeat(IMAGE[..., :1], 3, axis=2)))['img'][..., 0])


def test_images_that_are_not_of_8_bits_are_refused():
    """By their path and type."""
    with pytest.raises(MmsharpError, match=r"image 'a\.jpg' has type float32, expected uint8"):
        RandomImageTransforms()(dict(img=IMAGE.astype(np.float32), img_path='a.jpg'))
