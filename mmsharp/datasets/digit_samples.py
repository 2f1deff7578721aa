"""Real handwritten digits and real photographs, as scikit-learn and scikit-image bundle them; nothing is downloaded."""

from __future__ import annotations

import numpy as np
from numpy.typing import NDArray

from mmsharp.errors import MmsharpError

SPLITS = ('train', 'val', 'test')
DIGIT_SHARES = (0.6, 0.15, 0.25)
PHOTOGRAPH_SHARES = (0.5, 0.25, 0.25)
PHOTOGRAPHS = ('astronaut', 'brick', 'camera', 'chelsea', 'coffee', 'coins', 'grass', 'gravel', 'rocket')

Image = NDArray[np.uint8]
Floats = NDArray[np.float32]


def load_digit_samples() -> tuple[Floats, NDArray[np.int64]]:
    """The 1,797 digits of scikit-learn: ink in [0, 1] of shape ``(n, 8, 8)``, and labels of shape ``(n,)``.

    Source: E. Alpaydin and C. Kaynak (1998), Optical Recognition of Handwritten Digits, UCI repository (test part).

    Raises:
        MmsharpError: scikit-learn is not installed.

    Example:
        >>> ink, labels = load_digit_samples()
        >>> ink.shape, float(ink.max()), sorted(set(labels.tolist())) == list(range(10))
        ((1797, 8, 8), 1.0, True)
    """
    try:
        from sklearn.datasets import load_digits
    except ImportError as error:
        raise MmsharpError(
            "the digits come with scikit-learn, which is missing; pip install '.[demo]' in mmsharp's clone"
        ) from error
    bunch = load_digits()
    return (bunch.images / 16.0).astype(np.float32), bunch.target.astype(np.int64)


def split_digits(labels: NDArray[np.int64], seed: int) -> dict[str, NDArray[np.int64]]:
    """Indices of the samples of each split, disjoint, class by class in the shares 60, 15 and 25 per cent.

    Example:
        >>> parts = split_digits(np.repeat(np.arange(10), 20), seed=0)
        >>> [len(parts[name]) for name in SPLITS]
        [120, 30, 50]
    """
    generator = np.random.default_rng([seed, 1])
    parts: dict[str, list[NDArray[np.int64]]] = {name: [] for name in SPLITS}
    for digit in np.unique(labels):
        indices = generator.permutation(np.flatnonzero(labels == digit))
        ends = np.round(np.cumsum(DIGIT_SHARES) * len(indices)).astype(int)
        for name, begin, end in zip(SPLITS, [0, *ends[:-1]], ends):
            parts[name].append(indices[begin:end])
    return {name: np.sort(np.concatenate(indices)) for name, indices in parts.items()}


def load_photographs() -> dict[str, Image]:
    """The photographs that scikit-image ships inside its wheel, RGB uint8 of shape ``(height, width, 3)``.

    Raises:
        MmsharpError: scikit-image is not installed.

    Example:
        >>> photographs = load_photographs()
        >>> photographs['coffee'].shape
        (400, 600, 3)
    """
    try:
        from skimage import data
    except ImportError as error:
        raise MmsharpError(
            "the photographs come with scikit-image, which is missing; pip install '.[demo]' in mmsharp's clone"
        ) from error
    photographs = {}
    for name in PHOTOGRAPHS:
        picture = np.asarray(getattr(data, name)())
        photographs[name] = np.stack([picture] * 3, axis=-1) if picture.ndim == 2 else picture[..., :3]
    return photographs


def split_photograph(photograph: Image, split: str) -> Image:
    """The vertical band of a photograph that a split may crop from; bands of different splits share no pixel.

    Example:
        >>> bands = [split_photograph(np.zeros((4, 100, 3), np.uint8), name).shape[1] for name in SPLITS]
        >>> bands
        [50, 25, 25]
    """
    ends = np.round(np.cumsum(PHOTOGRAPH_SHARES) * photograph.shape[1]).astype(int)
    position = SPLITS.index(split)
    begin = 0 if position == 0 else ends[position - 1]
    return photograph[:, begin : ends[position]]


def random_crop(photographs: dict[str, Image], split: str, side: int, generator: np.random.Generator) -> Image:
    """A random square of a random photograph's band, resized to ``side`` pixels, sometimes mirrored.

    Example:
        >>> random_crop(load_photographs(), 'test', 32, np.random.default_rng(0)).shape
        (32, 32, 3)
    """
    import cv2

    names = sorted(photographs)
    band = split_photograph(photographs[names[generator.integers(len(names))]], split)
    shortest = min(band.shape[:2])
    length = int(generator.integers(int(0.7 * shortest), shortest + 1))
    top = int(generator.integers(band.shape[0] - length + 1))
    left = int(generator.integers(band.shape[1] - length + 1))
    crop = band[top : top + length, left : left + length]
    if generator.random() < 0.5:
        crop = crop[:, ::-1]
    interpolation = cv2.INTER_AREA if length > side else cv2.INTER_CUBIC
    return np.asarray(cv2.resize(np.ascontiguousarray(crop), (side, side), interpolation=interpolation), np.uint8)
