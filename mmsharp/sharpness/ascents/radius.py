"""AdaSAP's radii: the less a channel matters, the larger the ball that it has to stay flat in."""

from __future__ import annotations

import torch
from torch import Tensor


def adaptive_radius(score: Tensor, rho_min: float, rho_max: float, keep: Tensor | None = None) -> Tensor:
    r"""``rho_i = rho_max - (s_i - s_min) / (s_max - s_min) * (rho_max - rho_min)``.

    A decreasing linear map: the channel of least score gets ``rho_max``, that of the greatest ``rho_min``. AdaSAP (Bair
    et al., ICLR 2024, arXiv 2306.14306), cited as equation 3. Where all scores are equal the paper is
    silent; every channel then gets ``rho_max``.

    Args:
        score: ``s``, shape ``(channels,)``, any unit.
        rho_min: Radius of the most important channel.
        rho_max: Radius of the least important channel.
        keep: Boolean, shape ``(channels,)``; the extremes are taken over kept channels, pruned ones get radius 0. A
            pruned channel scores 0 and would otherwise pin ``s_min``.

    Returns:
        ``rho``, shape ``(channels,)``, dtype of ``score``.

    Example:
        >>> adaptive_radius(torch.tensor([1.0, 2.0, 3.0]), 0.0, 1.0).tolist()
        [1.0, 0.5, 0.0]
        >>> adaptive_radius(torch.tensor([0.0, 2.0, 3.0]), 0.0, 1.0, torch.tensor([False, True, True])).tolist()
        [0.0, 1.0, 0.0]
    """
    # masked_fill, because torch.where copies a number to the GPU and waits for it.
    if keep is None:
        low, high = score.min(), score.max()
    else:
        low, high = score.masked_fill(~keep, torch.inf).min(), score.masked_fill(~keep, -torch.inf).max()
    flat = high <= low
    relative = ((score - low) / (high - low).masked_fill(flat, 1.0)).masked_fill(flat, 0.0)
    radius = rho_max - relative * (rho_max - rho_min)
    return radius if keep is None else radius.masked_fill(~keep, 0.0)
