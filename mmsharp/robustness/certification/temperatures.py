"""Temperatures at which the Chernoff-Cramer bound is tried; the smallest bound of them counts."""

from __future__ import annotations

import math
from typing import Literal

import torch
from torch import Tensor

from mmsharp.errors import MmsharpError

LOWEST, HIGHEST, COUNT = 1e-4, 1e4, 500
"""The range and the size of the grid in the published script (Pautov et al., ``estimates/script.py``)."""
SUPPORTING_DRAWS = 5.0
"""How many failures are expected in all draws at the smallest rate that these can speak of; see
:func:`smallest_supported_rate`."""

Cap = float | Literal['supported'] | None
"""The highest temperature: a number, as high as the draws can speak of, or that of the grid."""


def geometric_temperatures() -> Tensor:
    """500 temperatures from 1e-4 to 1e4 in geometric steps, float64; ours.

    The published grid has the same range and size in equal steps of 20, so that it tries nothing between 1e-4 and 20,
    where the best temperature of many images lies.

    Example:
        >>> geometric_temperatures()[[0, 250, -1]].tolist()
        [0.0001, 1.01..., 10000.0]
    """
    return torch.logspace(math.log10(LOWEST), math.log10(HIGHEST), COUNT, dtype=torch.float64)


def official_temperatures() -> Tensor:
    """The published script's: 500 temperatures from 1e-4 to 1e4 in equal steps, float32.

    Example:
        >>> official_temperatures()[:2].tolist()
        [9.9999...e-05, 20.0401...]
    """
    return torch.linspace(LOWEST, HIGHEST, COUNT, dtype=torch.float32)


def smallest_supported_rate(draws: int) -> float:
    """``5 / draws``, the smallest failure rate that draws can speak of.

    At a true rate ``r`` no failure is seen with probability ``(1 - r)^draws``, about ``exp(-r * draws)``: 0.7 % at
    ``r = 5 / draws``, and 37 % at ``r = 1 / draws``. What is claimed for rates below rests on the model of the bound
    and not on what was seen.

    Args:
        draws: How many in all, ``n * k`` in the terms of CC-Cert.

    Example:
        >>> smallest_supported_rate(1000)
        0.005
    """
    return SUPPORTING_DRAWS / draws


def capped_temperatures(margins: Tensor, draws: int, cap: Cap) -> Tensor:
    r"""The geometric grid below a cap, for a bound that claims less.

    Without a cap the bound of an image none of whose draws failed falls towards 0 as the temperature rises, whatever
    the number of draws. ``'supported'`` ends the grid of each image at ``t = ln(draws / 5) / d``: then

        (1/n) sum_i exp(t Z_i) / exp(t d)  >=  exp(-t d)  >=  5 / draws,

    so that no bound is below the smallest rate that the draws can speak of. This cap is ours.

    Args:
        margins: ``d`` of each image, shape (N,), float64.
        draws: ``n * k``.
        cap: The highest temperature, ``'supported'``, or ``None`` for the whole grid.

    Returns:
        Temperatures of shape (N, 500), or (1, 500) where all images share them; float64.

    Raises:
        MmsharpError: The cap is neither a positive number nor ``'supported'``.

    Example:
        >>> d = torch.tensor([0.25, 0.5], dtype=torch.float64)
        >>> [round(value, 2) for value in capped_temperatures(d, draws=1000, cap='supported')[:, -1].tolist()]
        [21.19, 10.6]
        >>> round(capped_temperatures(d, draws=1000, cap=100.0)[0, -1].item(), 6)
        100.0
    """
    check_cap(cap)
    if cap is None:
        return geometric_temperatures()[None]
    if cap == 'supported':
        highest = math.log(max(draws / SUPPORTING_DRAWS, 1.0 + LOWEST))
        products = _geometric(min(LOWEST, highest / 2), highest)
        return products / margins.to(torch.float64).clamp(min=1e-12)[:, None].cpu()
    assert isinstance(cap, (int, float))
    return _geometric(min(LOWEST, cap / 2), float(cap))[None]


def check_cap(cap: Cap) -> Cap:
    """Hand back a cap.

    Raises:
        MmsharpError: It is neither ``None``, ``'supported'`` nor a positive, finite number.

    Example:
        >>> check_cap(100.0), check_cap('supported')
        (100.0, 'supported')
        >>> check_cap(-1)
        Traceback (most recent call last):
        mmsharp.errors.MmsharpError: the cap of the temperature is -1; accepted are a positive number, ...
    """
    number = isinstance(cap, (int, float)) and not isinstance(cap, bool)
    if cap is None or cap == 'supported' or (number and 0 < cap < math.inf):
        return cap
    raise MmsharpError(f"the cap of the temperature is {cap!r}; accepted are a positive number, 'supported' and None")


def _geometric(lowest: float, highest: float) -> Tensor:
    return torch.logspace(math.log10(lowest), math.log10(highest), COUNT, dtype=torch.float64)
