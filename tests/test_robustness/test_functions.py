"""A corrupted image depends on image, corruption, severity and seed alone."""

import hashlib
import subprocess
import sys

import imagecorruptions
import numba
import numpy as np
import pytest

from mmsharp.errors import MmsharpError
from mmsharp.robustness import BACKENDS, NAMES, SEVERITIES, corrupt, prepare

CELLS = [(name, severity) for name in NAMES for severity in SEVERITIES]
RANDOM = {
    *('gaussian_noise', 'shot_noise', 'impulse_noise', 'speckle_noise', 'glass_blur', 'motion_blur'),
    *('snow', 'frost', 'fog', 'elastic_transform', 'spatter'),
}

DIGEST_SCRIPT = """
import hashlib
import sys
import numpy as np
from mmsharp.robustness import BACKENDS, NAMES, SEVERITIES, corrupt, prepare
image = np.random.RandomState(3).randint(0, 256, (41, 57, 3), dtype=np.uint8)
np.random.seed(99)
digest = hashlib.sha256()
for name in NAMES:
    for severity in SEVERITIES:
        digest.update(corrupt(image, name, severity, 2**90 + 17, sys.argv[1]).tobytes())
print(digest.hexdigest(), *({'imagecorruptions', 'skimage'} & set(sys.modules)))
"""


@pytest.fixture(scope='module')
def image():
    """A noisy image whose sides differ and are no multiple of anything."""
    return np.random.RandomState(3).randint(0, 256, (41, 57, 3), dtype=np.uint8)


@numba.njit
def _draw_from_numba():
    return np.random.rand()


@numba.njit
def _seed_numba(seed):
    np.random.seed(seed)


@pytest.mark.parametrize('backend', BACKENDS)
def test_same_pixels_in_any_order_and_in_another_process(image, backend):
    """All 19 x 5 cells are bitwise equal on repeat, in reverse order, and in a process of its own."""
    seed = 2**90 + 17
    forward = {cell: corrupt(image, *cell, seed, backend) for cell in CELLS}
    np.random.seed(5)
    for cell in reversed(CELLS):
        assert np.array_equal(corrupt(image, *cell, seed, backend), forward[cell]), cell
    digest = hashlib.sha256(b''.join(forward[cell].tobytes() for cell in CELLS)).hexdigest()
    command = [sys.executable, '-c', DIGEST_SCRIPT, backend]
    found, *modules = subprocess.run(command, capture_output=True, text=True, check=True).stdout.split()
    assert found == digest
    assert bool(modules) == (backend == 'imagecorruptions'), 'ours loads nothing that is slow to import'


@pytest.mark.parametrize('backend', BACKENDS)
@pytest.mark.parametrize('name', NAMES)
def test_callers_generators_and_image_are_untouched(name, backend, image):
    """NumPy's and numba's global generators continue as if nothing had happened, and the image keeps its pixels."""
    before = image.copy()
    np.random.seed(11)
    _seed_numba(11)
    expected = np.random.rand(), np.random.randn(), _draw_from_numba()
    np.random.seed(11)
    _seed_numba(11)
    first = np.random.rand()
    for severity in (1, 3, 5):
        result = corrupt(image, name, severity, 1, backend)
        assert not np.shares_memory(result, image)
    assert (first, np.random.randn(), _draw_from_numba()) == expected
    assert np.array_equal(image, before)


@pytest.mark.parametrize('backend', BACKENDS)
@pytest.mark.parametrize('name', NAMES)
def test_seed_matters_exactly_where_the_function_is_random(name, backend, image):
    """Another seed gives other pixels for random functions, and the same pixels for the others."""
    # Frost chooses one of six pictures and a crop, and an empty spatter layer is possible: try several seeds.
    results = {corrupt(image, name, 3, seed, backend).tobytes() for seed in range(6)}
    assert (len(results) > 1) == (name in RANDOM)


@pytest.mark.parametrize(('name', 'severity'), [('contrast', 1), ('pixelate', 3), ('zoom_blur', 2), ('saturate', 5)])
def test_the_reference_backend_is_the_reference_library(name, severity, image):
    """Functions without random numbers return what the reference library returns."""
    expected = imagecorruptions.corrupt(image, severity=severity, corruption_name=name)
    assert np.array_equal(corrupt(image, name, severity, 0, 'imagecorruptions'), expected)


@pytest.mark.parametrize('name', NAMES)
def test_how_the_image_lies_in_memory_does_not_matter(name, image):
    """Mirrored, cut out, in Fortran's order, and not to be written to."""
    frozen = image[:, ::-1].copy()
    frozen.setflags(write=False)
    wide = np.zeros((50, 70, 3), dtype=np.uint8)
    wide[3 : 3 + image.shape[0], 5 : 5 + image.shape[1]] = image[:, ::-1]
    cut = wide[3 : 3 + image.shape[0], 5 : 5 + image.shape[1]]
    expected = corrupt(np.ascontiguousarray(image[:, ::-1]), name, 4, 9)
    for same in (image[:, ::-1], frozen, cut, np.asfortranarray(frozen)):
        assert np.array_equal(corrupt(same, name, 4, 9), expected)


def test_loops_are_compiled_before_workers_are_forked():
    """What prepare has done, a worker need not do: no import, nothing to compile."""
    program = (
        'import sys; from mmsharp.robustness import NAMES, prepare; before = set(sys.modules); prepare(NAMES); '
        'assert "mmsharp.robustness.pixels.zoom" not in before; after = set(sys.modules); prepare(NAMES); '
        'assert set(sys.modules) == after; assert "mmsharp.robustness.pixels.zoom" in after'
    )
    subprocess.run([sys.executable, '-c', program], check=True)
    prepare(NAMES, 'imagecorruptions')


def test_severity_zero_is_the_image_itself(image):
    """Severity 0 is a bitwise equal copy."""
    for name in NAMES:
        result = corrupt(image, name, 0, seed=0)
        assert np.array_equal(result, image)
        assert result is not image


@pytest.mark.parametrize('size', [(32, 32), (32, 200), (33, 47)])
def test_every_cell_keeps_shape_and_dtype(size):
    """Small and elongated images come back in their own shape as uint8."""
    image = np.random.RandomState(0).randint(0, 256, (*size, 3), dtype=np.uint8)
    for name, severity in CELLS:
        result = corrupt(image, name, severity, seed=4)
        assert (result.shape, result.dtype) == (image.shape, np.uint8), (name, severity)


@pytest.mark.parametrize(
    ('bad', 'message'),
    [
        (np.zeros((31, 64, 3), np.uint8), '64x31 pixels.*32 pixels a side'),
        (np.zeros((64, 64), np.uint8), r'shape \(64, 64\)'),
        (np.zeros((64, 64, 1), np.uint8), r'shape \(64, 64, 1\)'),
        (np.zeros((64, 64, 3), np.float32), 'float32'),
        ([[1]], 'list'),
    ],
)
def test_unfit_images_are_refused_with_what_was_found(bad, message):
    """Too small, grey, float and foreign images are refused, also where the clean cell would not need the pixels."""
    for severity in (0, 3):
        with pytest.raises(MmsharpError, match=message):
            corrupt(bad, 'fog', severity, seed=0)


@pytest.mark.parametrize(('name', 'severity', 'seed'), [('frog', 1, 0), ('fog', 6, 0), ('fog', 1.5, 0), ('fog', 1, -1)])
def test_unknown_names_severities_and_seeds_are_refused(name, severity, seed, image):
    """Each argument is checked."""
    with pytest.raises(MmsharpError):
        corrupt(image, name, severity, seed)


@pytest.mark.parametrize(
    ('arguments', 'message'),
    [
        ({'backend': 'imgaug'}, "backend 'imgaug' is none of 'mmsharp', 'imagecorruptions'"),
        ({'constants': 'coco'}, "constants 'coco' is none of"),
        ({'backend': 'imagecorruptions', 'constants': 'cifar'}, "'imagecorruptions' has no constants 'cifar'"),
    ],
)
def test_unknown_backends_and_constants_are_refused(arguments, message, image):
    """Also where the clean cell would not need them."""
    for severity in (0, 1):
        with pytest.raises(MmsharpError, match=message):
            corrupt(image, 'fog', severity, 0, **arguments)


def test_the_reference_has_imagenets_constants_at_every_size():
    """Which is what 'auto' means there."""
    image = np.random.RandomState(0).randint(0, 256, (32, 32, 3), dtype=np.uint8)
    expected = corrupt(image, 'contrast', 2, 0, 'imagecorruptions', 'imagenet')
    assert np.array_equal(corrupt(image, 'contrast', 2, 0, 'imagecorruptions'), expected)
    assert not np.array_equal(corrupt(image, 'contrast', 2, 0), expected)
