"""The tables of constants are the reference's and complete, and 32 pixels get the milder ones."""

import ast
import inspect
import textwrap

import imagecorruptions
import numpy as np
import pytest
from reference_pixels import picture

from mmsharp.errors import MmsharpError
from mmsharp.robustness import NAMES, SEVERITIES, corrupt
from mmsharp.robustness.constants import CIFAR, IMAGENET, TABLES, check_constants, constants_for
from mmsharp.robustness.pixels import FUNCTIONS

GENERATOR = {
    'gaussian_noise': (0.04, 0.06, 0.08, 0.09, 0.10),
    'shot_noise': (500, 250, 100, 75, 50),
    'impulse_noise': (0.01, 0.02, 0.03, 0.05, 0.07),
    'speckle_noise': (0.06, 0.1, 0.12, 0.16, 0.2),
    'gaussian_blur': (0.4, 0.6, 0.7, 0.8, 1),
    'glass_blur': ((0.05, 1, 1), (0.25, 1, 1), (0.4, 1, 1), (0.25, 1, 2), (0.4, 1, 2)),
    'defocus_blur': ((0.3, 0.4), (0.4, 0.5), (0.5, 0.6), (1, 0.2), (1.5, 0.1)),
    'motion_blur': ((6, 1), (6, 1.5), (6, 2), (8, 2), (9, 2.5)),
    'zoom_blur': ((1.06, 0.01), (1.11, 0.01), (1.16, 0.01), (1.21, 0.01), (1.26, 0.01)),
    'fog': ((0.2, 3), (0.5, 3), (0.75, 2.5), (1, 2), (1.5, 1.75)),
    'frost': ((1, 0.2), (1, 0.3), (0.9, 0.4), (0.85, 0.4), (0.75, 0.45)),
    'snow': (
        *((0.1, 0.2, 1, 0.6, 8, 3, 0.95), (0.1, 0.2, 1, 0.5, 10, 4, 0.9), (0.15, 0.3, 1.75, 0.55, 10, 4, 0.9)),
        *((0.25, 0.3, 2.25, 0.6, 12, 6, 0.85), (0.3, 0.3, 1.25, 0.65, 14, 12, 0.8)),
    ),
    'spatter': (
        *((0.62, 0.1, 0.7, 0.7, 0.5, 0), (0.65, 0.1, 0.8, 0.7, 0.5, 0), (0.65, 0.3, 1, 0.69, 0.5, 0)),
        *((0.65, 0.1, 0.7, 0.69, 0.6, 1), (0.65, 0.1, 0.5, 0.68, 0.6, 1)),
    ),
    'contrast': (0.75, 0.5, 0.4, 0.3, 0.15),
    'brightness': (0.05, 0.1, 0.15, 0.2, 0.3),
    'saturate': ((0.3, 0), (0.1, 0), (1.5, 0), (2, 0.1), (2.5, 0.2)),
    'jpeg_compression': (80, 65, 58, 50, 40),
    'pixelate': (0.95, 0.9, 0.85, 0.75, 0.65),
    'elastic_transform': ((0, 0, 0.08), (0.05, 0.2, 0.07), (0.08, 0.06, 0.06), (0.1, 0.04, 0.05), (0.1, 0.03, 0.03)),
}
"""The numbers in the generator script of CIFAR-10-C, written down a second time, because there is nothing to import."""


def constants_of(name):
    """The first list that a reference function picks from by severity."""
    tree = ast.parse(textwrap.dedent(inspect.getsource(imagecorruptions.corruption_dict[name])))
    lists = [
        node.value for node in ast.walk(tree) if isinstance(node, ast.Subscript) and isinstance(node.value, ast.List)
    ]
    return [eval(compile(ast.Expression(item), name, 'eval'), {'np': np}) for item in lists[0].elts]


@pytest.mark.parametrize('name', NAMES)
def test_imagenets_are_those_of_the_reference(name):
    """Number by number, read out of its source."""
    theirs, row = constants_of(name), IMAGENET[name]
    assert len(theirs) == len(row) == len(SEVERITIES)
    for expected, values in zip(theirs, row, strict=True):
        if name == 'zoom_blur':
            assert np.array_equal(np.arange(1, *values), expected)
        elif name == 'elastic_transform':
            assert values == (pytest.approx(expected * 0.005), 0.01, 0)
        elif name == 'frost':
            assert values == (*expected, None)
        elif name == 'pixelate':
            assert values == (expected, 'nearest')
        else:
            assert values == (expected if isinstance(expected, tuple) else (expected,))


@pytest.mark.parametrize('name', NAMES)
def test_cifars_are_those_of_its_generator(name):
    """Number by number; a slip of the pen would have to be made twice."""
    more = {'frost': (0.2,), 'pixelate': ('box',)}.get(name, ())
    written = [value if isinstance(value, tuple) else (value,) for value in GENERATOR[name]]
    assert [(*values, *more) for values in written] == list(CIFAR[name])


@pytest.mark.parametrize('table', TABLES)
def test_every_function_has_its_constants(table):
    """Five severities of every corruption, each with as many numbers as its function takes."""
    assert set(TABLES[table]) == set(NAMES) == set(FUNCTIONS)
    for name, row in TABLES[table].items():
        assert len(row) == len(SEVERITIES)
        for values in row:
            inspect.signature(FUNCTIONS[name]).bind('image', 'draws', *values)


@pytest.mark.parametrize('name', sorted(set(NAMES) - {'spatter', 'saturate'}))
def test_cifars_are_milder(name):
    """On 32 pixels they change less than ImageNet's do: the mean change over severities and seeds."""
    image = picture('china.jpg', 32, 32)

    def change(constants):
        pictures = [
            corrupt(image, name, severity, seed, 'mmsharp', constants) for severity in SEVERITIES for seed in range(3)
        ]
        return np.mean([np.abs(spoilt.astype(float) - image).mean() for spoilt in pictures])

    assert change('cifar') < 0.95 * change('imagenet')


def test_auto_means_cifar_at_32_pixels_and_imagenet_elsewhere():
    """Both sides have to be 32."""
    for shape, table in (((32, 32), 'cifar'), ((32, 33), 'imagenet'), ((64, 32), 'imagenet'), ((224, 224), 'imagenet')):
        assert constants_for('auto', shape) == table
        image = picture('china.jpg', *shape)
        for name in ('gaussian_noise', 'jpeg_compression'):
            expected = corrupt(image, name, 2, 5, constants=table)
            assert np.array_equal(corrupt(image, name, 2, 5), expected)
            assert not np.array_equal(
                corrupt(image, name, 2, 5, constants=({'cifar', 'imagenet'} - {table}).pop()), expected
            )


@pytest.mark.parametrize('name', NAMES)
def test_cifars_work_at_any_size(name):
    """What a user asks for by name is not bound to 32 pixels."""
    for shape in ((33, 80), (375, 500)):
        image = picture('random', *shape)
        assert corrupt(image, name, 4, 1, constants='cifar').shape == image.shape


def test_unknown_constants_are_refused():
    """With what there is."""
    with pytest.raises(MmsharpError, match=r"constants 'coco' is none of 'auto', 'imagenet', 'cifar'"):
        check_constants('coco')
    assert CIFAR is not IMAGENET
