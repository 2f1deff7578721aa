"""CC-Cert's bound on the probability that a random transform changes the prediction.

Pautov et al., "CC-Cert: A Probabilistic Approach to Certify General Robustness of Neural Networks" (AAAI 2022, arXiv
2109.10696); read beside it: mikhailpautov/cccert, ``estimates/code/bounds.py`` at 614edb8. For one image

    B_j = min_t [ (1/n) sum_i exp(t Z_ij) ] / exp(t d),   b = min(1, max_j B_j / delta),

with ``n`` draws ``Z_ij = ||p(x) - p(x_ij)||_inf`` in each of ``k`` groups and ``d = (p_(1) - p_(2)) / 2``. It rests on
``P(Z >= d) <= E[exp(t Z)] / exp(t d)``, in which the expectation is replaced by the mean of the draws; the largest of
``k`` means over ``delta`` is to make up for means that are too small. This is an estimate with no guarantee: where no
draw comes near ``d``, it falls towards 0 with rising temperature, however few draws there are. How often it is below
the truth is measured in docs/certify.md.
"""

from __future__ import annotations

import math
from typing import Literal

import torch
from torch import Tensor

from mmsharp.errors import MmsharpError
from mmsharp.robustness.certification.temperatures import geometric_temperatures, official_temperatures

Compat = Literal['official'] | None
DELTA = 0.9
"""Of the published script."""
CHUNK = 2**21
"""Numbers of the large intermediate array that are held at a time, 16 MiB in float64."""


def chernoff_bound(
    discrepancies: Tensor,
    margins: Tensor,
    delta: float = DELTA,
    temperatures: Tensor | None = None,
    compat: Compat = None,
    chunk: int = CHUNK,
) -> Tensor:
    r"""``b`` of the module's docstring, by ``logsumexp_i(t Z_ij) - ln n - t d`` in float64.

    The bound never falls where a discrepancy rises, and never rises where the margin does.

    Args:
        discrepancies: ``Z``, shape (N, k, n) for N images, which may be none.
        margins: ``d``, shape (N,).
        delta: The largest of the ``k`` bounds is divided by it; in (0, 1].
        temperatures: What ``t`` is chosen from, shape (T,), (1, T) or (N, T); by default
            :func:`geometric_temperatures`, which is ours.
        compat: ``'official'`` is the published code's arithmetic, for numbers to put beside published ones: its grid
            :func:`official_temperatures`, means of exponentials in float32. There ``exp`` overflows above 88, so that
            temperatures are lost (inf, and NaN, which is passed over as in the code) or give a bound of 0.
        chunk: Numbers held at a time; it bounds the memory and changes no more than the rounding.

    Returns:
        Shape (N,), float64; float32 with ``compat='official'``. From 0 to 1.

    Raises:
        MmsharpError: Shapes do not fit, values are not finite, ``delta`` is not in (0, 1], or ``compat`` is unknown or
            given together with temperatures.

    Example:
        >>> Z = torch.linspace(0, 0.2, 1000, dtype=torch.float64).reshape(1, 10, 100)
        >>> d = torch.tensor([0.4], dtype=torch.float64)
        >>> chernoff_bound(Z, d, temperatures=torch.tensor([10.0])).item() > math.exp(-10 * 0.4)
        True
    """
    _check(discrepancies, margins, delta, temperatures, compat)
    if len(discrepancies) == 0:
        return torch.zeros(0, dtype=torch.float32 if compat else torch.float64, device=discrepancies.device)
    if compat == 'official':
        least = _least_ratio(discrepancies.float(), margins.float(), chunk)
    else:
        grid = geometric_temperatures() if temperatures is None else temperatures
        grid = grid.to(discrepancies.device, torch.float64)
        grid = grid.reshape(-1, grid.shape[-1]).expand(len(discrepancies), -1)
        least = _least_log_ratio(discrepancies.double(), margins.double(), grid, chunk).exp()
    return (least.amax(dim=1) / delta).clamp(max=1.0)


def _least_log_ratio(discrepancies: Tensor, margins: Tensor, grid: Tensor, chunk: int) -> Tensor:
    """``min_t ln B`` of every image and group, shape (N, k)."""
    images, groups, draws = discrepancies.shape
    least = discrepancies.new_full((images, groups), math.inf)
    for rows in torch.arange(images).split(max(chunk // (groups * draws), 1)):
        some = discrepancies[rows]
        for piece in grid[rows].split(max(chunk // some.numel(), 1), dim=1):
            products = some[..., None] * piece[:, None, None, :]
            logs = products.logsumexp(dim=2) - math.log(draws) - (margins[rows, None] * piece)[:, None, :]
            least[rows] = torch.minimum(least[rows], logs.amin(dim=-1))
    return least


def _least_ratio(discrepancies: Tensor, margins: Tensor, chunk: int) -> Tensor:
    """As the published code: ``min_t B`` in float32 with all that overflows, shape (N, k)."""
    images, groups, draws = discrepancies.shape
    least = discrepancies.new_full((images, groups), math.inf)
    grid = official_temperatures().to(discrepancies.device)
    for rows in torch.arange(images).split(max(chunk // (groups * draws), 1)):
        some = discrepancies[rows]
        for piece in grid.split(max(chunk // some.numel(), 1)):
            means = torch.exp(some[..., None] * piece).mean(dim=2)
            ratios = means / torch.exp(margins[rows, None] * piece)[:, None, :]
            ratios = torch.where(ratios.isnan(), math.inf, ratios)  # its topk puts NaN behind every number
            least[rows] = torch.minimum(least[rows], ratios.amin(dim=-1))
    return least


def _check(discrepancies: Tensor, margins: Tensor, delta: float, temperatures: Tensor | None, compat: Compat) -> None:
    if discrepancies.ndim != 3 or margins.shape != discrepancies.shape[:1] or 0 in discrepancies.shape[1:]:
        raise MmsharpError(
            f'discrepancies of shape {tuple(discrepancies.shape)} and margins of shape {tuple(margins.shape)} do not '
            'fit; expected (images, groups, draws) and (images,)'
        )
    if not (discrepancies.isfinite().all() and margins.isfinite().all()):
        raise MmsharpError('discrepancies and margins have to be finite; the model gave NaN or infinity')
    if not 0 < delta <= 1:
        raise MmsharpError(f'delta {delta!r} is not in (0, 1]; the published value is {DELTA}')
    if compat not in (None, 'official'):
        raise MmsharpError(f"compat {compat!r} is unknown; accepted are None and 'official'")
    if temperatures is None:
        return
    if compat is not None:
        raise MmsharpError("compat='official' has its own temperatures; leave temperatures out")
    fits = temperatures.ndim in (1, 2) and temperatures.numel() > 0
    fits = fits and (temperatures.ndim == 1 or len(temperatures) in (1, len(margins)))
    if not fits or not bool((temperatures > 0).all()) or not bool(temperatures.isfinite().all()):
        raise MmsharpError(
            f'temperatures of shape {tuple(temperatures.shape)} have to be positive numbers of shape (T,), (1, T) or '
            f'({len(margins)}, T)'
        )
