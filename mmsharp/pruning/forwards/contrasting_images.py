"""Images unlike each other, so that what a model does with one kind of image alone is noticed."""

from __future__ import annotations

from collections.abc import Callable, Iterator, Sequence

import torch
from torch import Tensor

KINDS: dict[str, Callable[[Tensor], Tensor]] = {
    'bright': lambda noise: 2 + 0.25 * noise,
    'dark': lambda noise: -2 + 0.25 * noise,
    'faint': lambda noise: 0.05 * noise,
    'strong': lambda noise: 4 * noise,
    'one bright corner': lambda noise: 0.25 * noise - 2 + 4 * _corner(noise),
}
"""Made of noise of mean 0 and deviation 1, which normalised photographs have about."""


def contrasting_images(
    shape: Sequence[int], batches: Sequence[int], mean: float = 0.0, spread: float = 1.0
) -> Iterator[tuple[str, Tensor]]:
    """Noise in batches of every size, then one image of each other kind, always the same ones.

    Args:
        shape: ``(channels, height, width)``.
        batches: Numbers of images.
        mean: What 0 becomes.
        spread: What 1 becomes.

    Yields:
        What they are, in words, and float32 images of shape ``(N, C, H, W)``.

    Example:
        >>> [(kind, len(images)) for kind, images in contrasting_images((3, 4, 4), (2, 1))][:3]
        [('noise', 2), ('noise', 1), ('bright', 1)]
    """
    for number, batch in enumerate(batches):
        yield 'noise', mean + spread * noise_images(shape, batch, number)
    for number, (kind, change) in enumerate(KINDS.items(), start=len(batches)):
        yield kind, mean + spread * change(noise_images(shape, 1, number))


def noise_images(shape: Sequence[int], batch: int, seed: int = 0) -> Tensor:
    """Normal noise of shape ``(batch, *shape)``, float32, of mean 0 and deviation 1."""
    return torch.randn((batch, *shape), generator=torch.Generator().manual_seed(seed))


def _corner(like: Tensor) -> Tensor:
    """1 in the first quarter of the rows and columns, 0 elsewhere."""
    found = torch.zeros_like(like)
    found[..., : -(-like.shape[-2] // 4), : -(-like.shape[-1] // 4)] = 1
    return found
