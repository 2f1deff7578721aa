"""Look up images at moved coordinates, each image by a map of its own."""

from __future__ import annotations

import torch
import torch.nn.functional as F  # noqa: N812 (torch's own name for it)
from torch import Tensor


def resample(images: Tensor, matrix: tuple[Tensor, Tensor, Tensor, Tensor], shift: tuple[Tensor, Tensor]) -> Tensor:
    """Give each output pixel the input at ``A (x, y) + s``, in pixels around the centre; bilinear, black outside.

    The coordinates are computed element by element, so that an image's result does not depend on the batch.

    Args:
        images: Shape (N, C, H, W), floating.
        matrix: The four entries of ``A`` by rows, (x, y) to (x, y); each of shape (N,).
        shift: ``s`` in pixels, right and down; each of shape (N,).

    Returns:
        As the images.

    Example:
        >>> one, zero = torch.ones(1), torch.zeros(1)
        >>> image = torch.tensor([[[[0.0, 1.0, 0.0]]]])
        >>> [round(value, 5) for value in resample(image, (one, zero, zero, one), (one, zero)).flatten().tolist()]
        [1.0, 0.0, 0.0]
    """
    height, width = images.shape[-2:]
    across = torch.arange(width, device=images.device, dtype=images.dtype) - (width - 1) / 2
    down = torch.arange(height, device=images.device, dtype=images.dtype) - (height - 1) / 2
    x, y = across[None, None, :], down[None, :, None]
    xx, xy, yx, yy = (entry[:, None, None] for entry in matrix)
    right, below = (entry[:, None, None] for entry in shift)
    # In units of half the image, as grid_sample wants them with align_corners=False.
    grid = torch.stack(((xx * x + xy * y + right) * (2 / width), (yx * x + yy * y + below) * (2 / height)), dim=-1)
    return F.grid_sample(images, grid, mode='bilinear', padding_mode='zeros', align_corners=False)
