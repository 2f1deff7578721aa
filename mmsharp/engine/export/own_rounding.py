"""How far rounding alone moves the outputs of a model: what no comparison in float32 can be stricter than."""

from __future__ import annotations

import torch
from torch import Tensor, nn

from mmsharp.pruning.forwards.precision import float64_throughout
from mmsharp.pruning.slimming.copies import double_copy

DRAWS = 8


@torch.no_grad()
def own_rounding(model: nn.Module, images: Tensor, draws: int = DRAWS) -> list[float]:
    r"""``max_k max|f32((1 + u xi_k) x) - f64(x)| / max|f64(x)|`` of each output, ``u`` float32's unit roundoff.

    Two correct implementations of a network round differently. An ill-conditioned one, as blocks that multiply or
    normalise what nearly cancels, blows this up on single images; noise of one unit in the last place of the input
    shows by how much, where the one difference of float32 to float64 may be small by chance.

    Args:
        model: In evaluation mode, images in, a tuple of tensors out; copied, not changed.
        images: Float32, any shape that the model takes.
        draws: How many noises ``xi`` from a normal distribution of a fixed seed; the first is none.

    Raises:
        Exception: Whatever the model's own code raises in float64.

    Example:
        >>> class Scores(nn.Linear):
        ...     def forward(self, images):
        ...         return (super().forward(images.flatten(1)),)
        >>> [share < 1e-5 for share in own_rounding(Scores(4, 2), torch.ones(1, 1, 2, 2))]
        [True]
    """
    with float64_throughout():
        exact = double_copy(model)(images.double())
    generator = torch.Generator().manual_seed(0)
    unit = torch.finfo(torch.float32).eps / 2
    largest = [0.0] * len(exact)
    for draw in range(draws):
        noise = torch.randn(images.shape, generator=generator) if draw else torch.zeros_like(images)
        for position, (one, other) in enumerate(zip(model(images * (1 + unit * noise)), exact, strict=True)):
            if other.numel():
                exactly = other.double()
                moved = (one.double() - exactly).abs().amax() / exactly.abs().amax().clamp(min=1e-12)
                largest[position] = max(largest[position], float(moved))
    return largest
