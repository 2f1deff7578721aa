"""What every registered transform promises, and what each of them does."""

import math

import numpy as np
import pytest
import torch
import torchvision.transforms.v2.functional as reference

from mmsharp.errors import MmsharpError
from mmsharp.registry import IMAGE_TRANSFORMS, build_part
from mmsharp.robustness.certification import draw_parameters, parse_transform, parse_transforms, transform_names

AMOUNTS = dict(rotation=10, translation=0.2, scale=0.3, brightness=0.4, contrast=0.4, gamma=2, blur=1.5)
COMPOSED = ['rotation:10+brightness:0.4', 'brightness:0.4+contrast:0.4', 'scale:0.3+translation:0.2+blur:1']
TEXTS = [f'{name}:{AMOUNTS.get(name, 1)}' for name in transform_names()] + COMPOSED


def pictures(count=6, height=9, width=12):
    return torch.rand(count, 3, height, width, generator=torch.Generator().manual_seed(0))


@pytest.mark.parametrize('text', TEXTS)
def test_the_identity_gives_back_every_bit(text):
    """Exactly, also in a batch with images that are transformed."""
    transform, images = parse_transform(text), pictures()
    parameters = draw_parameters(transform, 'a', len(images))
    parameters[::2] = torch.tensor(transform.identity, dtype=torch.float64)
    found = transform(images, parameters)
    assert torch.equal(found[::2], images[::2])
    assert not torch.allclose(found[1::2], images[1::2])


@pytest.mark.parametrize('text', TEXTS)
def test_near_the_identity_little_changes(text):
    """What the identity's exactness hides: the transform itself goes over into it."""
    transform, images = parse_transform(text), pictures()
    near = torch.tensor(transform.identity, dtype=torch.float64) + 1e-4
    assert (transform(images, near.expand(len(images), -1)) - images).abs().max() < 5e-3


@pytest.mark.parametrize('text', TEXTS)
def test_each_image_is_worked_on_by_itself(text):
    """In a batch and alone, the same bits; the images themselves are not written to; all stays in [0, 1]."""
    transform, images = parse_transform(text), pictures()
    before = images.clone()
    parameters = draw_parameters(transform, 'a', len(images))
    found = transform(images, parameters)
    for index in range(len(images)):
        assert torch.equal(transform(images[index : index + 1], parameters[index : index + 1])[0], found[index])
    assert torch.equal(images, before)
    assert found.shape == images.shape
    assert found.dtype == images.dtype
    assert 0 <= found.min() <= found.max() <= 1
    twice = transform(images.double(), parameters)
    assert twice.dtype == torch.float64
    torch.testing.assert_close(twice.float(), found, atol=1e-4, rtol=0)


@pytest.mark.parametrize('text', TEXTS)
def test_the_grid_spans_the_range(text):
    """Every parameter from end to end in equal steps, every combination once; the identity lies inside."""
    transform = parse_transform(text)
    grid = transform.grid(3)
    assert grid.shape == (3**transform.dimensions, transform.dimensions)
    assert len(torch.unique(grid, dim=0)) == len(grid)
    low, high = torch.tensor(transform.low), torch.tensor(transform.high)
    torch.testing.assert_close(grid.amin(dim=0).float(), low)
    torch.testing.assert_close(grid.amax(dim=0).float(), high)
    assert transform.grid(1).shape == (1, transform.dimensions)
    assert all(a <= i <= b for a, i, b in zip(transform.low, transform.identity, transform.high, strict=True))


@pytest.mark.parametrize('text', TEXTS)
def test_text_and_transform_name_each_other(text):
    """What a transform is called builds it again."""
    transform = parse_transform(text)
    again = parse_transform(str(transform))
    assert str(again) == str(transform) == text
    assert (again.low, again.high) == (transform.low, transform.high)


@pytest.mark.parametrize('text', TEXTS)
def test_other_shapes_are_refused(text):
    """Images are (N, C, H, W) of floats, and every image has its parameters."""
    transform, images = parse_transform(text), pictures()
    parameters = draw_parameters(transform, 'a', len(images))
    for wrong in ((images[0], parameters), (images.byte(), parameters), (images, parameters[1:])):
        with pytest.raises(MmsharpError, match=r'expected|takes'):
            transform(*wrong)


def smooth(height=33, width=33):
    """A soft blob off the centre, so that interpolation hardly matters."""
    y, x = torch.meshgrid(torch.arange(height) - 12.0, torch.arange(width) - 19.0, indexing='ij')
    return torch.exp(-(x**2 + 2 * y**2) / 12)[None, None]


def test_geometry_is_torchvisions():
    """Rotation, translation and scale against torchvision's affine, of images that are not square too."""
    for image in (smooth(), smooth(29, 41)):
        height, width = image.shape[-2:]
        rotated = parse_transform('rotation:30')(image, torch.tensor([[17.0]]))
        torch.testing.assert_close(rotated, reference.rotate(image, 17.0, reference.InterpolationMode.BILINEAR))
        moved = parse_transform('translation:0.5')(image, torch.tensor([[3 / width, -4 / height]]))
        torch.testing.assert_close(moved, torch.roll(image, (-4, 3), dims=(2, 3)), atol=1e-4, rtol=0)
        options = dict(angle=0.0, translate=[0, 0], scale=1.2, shear=[0.0, 0.0])
        scaled = parse_transform('scale:0.3')(image, torch.tensor([[1.2, 1.2]]))
        expected = reference.affine(image, interpolation=reference.InterpolationMode.BILINEAR, **options)
        torch.testing.assert_close(scaled, expected, atol=1e-5, rtol=1e-4)


def test_photometry_longhand():
    """x + b, c x and x ** g, clipped."""
    images = pictures(1)
    one = torch.tensor([[0.3]])
    assert torch.equal(parse_transform('brightness:0.4')(images, one), (images + 0.3).clamp(0, 1))
    assert torch.equal(parse_transform('contrast:0.9')(images, one * 5), (images * 1.5).clamp(0, 1))
    torch.testing.assert_close(parse_transform('gamma:4')(images, one), images**0.3)
    assert parse_transform('gamma:4').low == (0.25,)


@pytest.mark.parametrize('dtype', [torch.float16, torch.float32, torch.float64])
def test_the_largest_gamma_leaves_black_and_white(dtype):
    """At both ends of its range, whatever the precision of the images."""
    image = torch.tensor([[[[0.0, 1.0]]]], dtype=dtype)
    largest = parse_transform('gamma:100')
    for end in (largest.low, largest.high):
        assert torch.equal(largest(image, torch.tensor([end], dtype=torch.float64)), image)


@pytest.mark.parametrize('sigma', [0.5, 1.0, 1.7])
def test_blur_is_torchvisions(sigma):
    """A kernel of the same reach gives the same picture; as it is mirrored at the edges too."""
    image = pictures(1, 31, 24)
    blurred = parse_transform('blur:2')(image, torch.tensor([[sigma]]))
    size = 2 * math.ceil(3 * 2) + 1
    expected = reference.gaussian_blur(image, [size, size], [sigma, sigma])
    torch.testing.assert_close(blurred, expected, atol=1e-6, rtol=1e-5)


def test_blur_of_images_smaller_than_the_kernel():
    """The kernel ends where the image does; a constant stays constant."""
    for shape in ((1, 3, 4, 1), (1, 1, 2, 3)):
        found = parse_transform('blur:5')(torch.full(shape, 0.5), torch.tensor([[4.0]]))
        torch.testing.assert_close(found, torch.full(shape, 0.5))


def test_a_composition_goes_from_left_to_right():
    """Each part takes its own parameters, and clips before the next begins."""
    images = pictures()
    both = parse_transform('brightness:0.4+contrast:0.4')
    parameters = draw_parameters(both, 'a', len(images))
    bright = parse_transform('brightness:0.4')(images, parameters[:, :1])
    assert torch.equal(both(images, parameters), parse_transform('contrast:0.4')(bright, parameters[:, 1:]))
    assert not torch.allclose(
        both(images, parameters), parse_transform('contrast:0.4+brightness:0.4')(images, parameters.flip(1))
    )


def test_parts_can_be_built_from_configs():
    """As the other registered parts."""
    assert str(build_part(IMAGE_TRANSFORMS, dict(type='mmsharp.Rotation', degrees=5))) == 'rotation:5'


@pytest.mark.parametrize(
    ('text', 'message'),
    [
        ('fog:1', "'fog' is unknown"),
        ('rotation', 'it has no amount'),
        ('rotation:far', 'is no number'),
        ('rotation:0', 'out of range'),
        ('rotation:181', 'up to 180'),
        ('rotation:nan', 'out of range'),
        ('scale:1', 'up to 0.99'),
        ('gamma:1', 'above 1'),
        ('gamma:inf', 'up to 100'),
        ('gamma:1e300', 'up to 100'),
        ('blur:nan', 'out of range'),
        ('brightness:-0.1', 'out of range'),
        ('rotation:10+', "'' is unknown"),
        ('rotation:10-brightness:0.4', 'is no number'),
    ],
)
def test_what_is_no_transform_is_refused(text, message):
    """Saying what is accepted."""
    with pytest.raises(MmsharpError, match=message):
        parse_transforms([text])


def test_no_transform_at_all_is_refused():
    """With the names of those that exist."""
    with pytest.raises(MmsharpError, match='rotation'):
        parse_transforms([])


def test_amounts_keep_their_digits():
    """Two amounts that differ do not share draws or files."""
    texts = ['blur:0.1234567', 'blur:0.12345678901234', 'blur:0.12345678901235', f'blur:{0.1 + 0.2!r}']
    assert [str(transform) for transform in parse_transforms(texts)] == texts
    drawn = [draw_parameters(parse_transform(text), 'a', 1).item() for text in texts[1:3]]
    assert drawn[0] != pytest.approx(drawn[1], rel=1e-6)
    assert np.isclose(parse_transform('rotation:1e1').high[0], 10)
