"""What a user chooses about a certification."""

from __future__ import annotations

import math
from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any

from mmsharp.errors import MmsharpError, shown
from mmsharp.robustness.certification.chernoff_bound import DELTA, Compat
from mmsharp.robustness.certification.clopper_pearson import CONFIDENCE
from mmsharp.robustness.certification.temperatures import Cap, check_cap, smallest_supported_rate

EPS = (1e-1, 1e-2, 1e-3, 1e-4)
"""Failure rates at which the share of certified images is given; what 1,000 draws cannot speak of is flagged."""


@dataclass(frozen=True)
class CertificationSettings:
    """How images are certified; the names of CC-Cert (Pautov et al. 2022) in brackets.

    Args:
        draws: Transformed copies in each group (``n``); 100 in the published script.
        groups: Groups of draws, the largest of whose bounds counts (``k``); 10 there.
        delta: The largest bound is divided by it; 0.9 there.
        eps: Failure rates at which the share of certified images is given.
        compat: ``'official'`` for the published code's temperatures and float32, ``None`` for ours.
        cap: Highest temperature of the conservative bound beside it: a positive number, or ``'supported'`` for as high
            as the draws can speak of; see :func:`capped_temperatures`.
        confidence: Of the Clopper-Pearson bound, per image.
        grid: Points per parameter of the grid of empirical robust accuracy, 20 in the published code; 0 for no grid.
        grid_limit: The most points that a grid may have in all. Where the product is larger, as for compositions, all
            parameters get the largest number of points that fits.
        seed: Of the draws.
        chunk: Images that go through the model at a time; it bounds the memory.

    Raises:
        MmsharpError: A value is out of range.

    Example:
        >>> CertificationSettings().total_draws, CertificationSettings().supports(1e-3)
        (1000, False)
        >>> CertificationSettings(grid=20, grid_limit=1000).grid_points(3)
        10
    """

    draws: int = 100
    groups: int = 10
    delta: float = DELTA
    eps: tuple[float, ...] = EPS
    compat: Compat = None
    cap: Cap = 'supported'
    confidence: float = CONFIDENCE
    grid: int = 20
    grid_limit: int = 1000
    seed: int = 0
    chunk: int = 250

    def __post_init__(self) -> None:
        for name, least in (('draws', 1), ('groups', 1), ('grid', 0), ('grid_limit', 1), ('seed', 0), ('chunk', 1)):
            value = getattr(self, name)
            if not isinstance(value, int) or isinstance(value, bool) or value < least:
                raise MmsharpError(f'{name} {value!r} of the certification is no whole number from {least} on')
        for name in ('delta', 'confidence'):
            value = getattr(self, name)
            if not _is_number(value) or not 0 < value <= 1 or (name == 'confidence' and value == 1):
                raise MmsharpError(f'{name} {value!r} of the certification is not between 0 and 1')
        if self.compat not in (None, 'official'):
            raise MmsharpError(f"compat {self.compat!r} of the certification is unknown; accepted: None, 'official'")
        check_cap(self.cap)
        given: Any = [self.eps] if _is_number(self.eps) else self.eps
        if not isinstance(given, (list, tuple)) or not given or not all(_is_number(e) and 0 < e <= 1 for e in given):
            raise MmsharpError(f'eps {self.eps!r} of the certification: expected failure rates above 0, up to 1')
        object.__setattr__(self, 'eps', tuple(sorted({float(e) for e in given}, reverse=True)))

    @property
    def total_draws(self) -> int:
        """All draws of an image, ``n * k``."""
        return self.draws * self.groups

    def supports(self, eps: float) -> bool:
        """Whether all draws together can speak of a failure rate; see :func:`smallest_supported_rate`."""
        return eps >= smallest_supported_rate(self.total_draws) * (1 - 1e-9)

    def grid_points(self, dimensions: int) -> int:
        """Points per parameter of the grid of a transform with so many parameters."""
        fitting = math.floor(self.grid_limit ** (1 / dimensions) + 1e-9)
        return min(self.grid, fitting)

    def identity(self) -> dict[str, Any]:
        """What the values of an image depend on, in JSON types: neither ``eps`` nor ``chunk``."""
        kept = ('draws', 'groups', 'delta', 'compat', 'cap', 'confidence', 'grid', 'grid_limit', 'seed')
        return {name: getattr(self, name) for name in kept}

    @classmethod
    def of(cls, options: Mapping[str, Any] | CertificationSettings | None) -> CertificationSettings:
        """From a config's dictionary, which is not changed.

        Raises:
            MmsharpError: It is no dictionary, or holds a name that is no setting.

        Example:
            >>> CertificationSettings.of(dict(draws=50, groups=4)).total_draws
            200
        """
        if isinstance(options, CertificationSettings):
            return options
        if options is not None and not isinstance(options, Mapping):
            raise MmsharpError(f'settings {shown(options)} of the certification: expected a dictionary of them')
        given = dict(options or {})
        unknown = sorted(set(given) - set(cls.__dataclass_fields__))
        if unknown:
            raise MmsharpError(
                f'the certification has no setting {", ".join(map(repr, unknown))}; accepted are '
                f'{", ".join(cls.__dataclass_fields__)}'
            )
        return cls(**given)


def _is_number(value: Any) -> bool:
    return isinstance(value, (int, float)) and not isinstance(value, bool) and math.isfinite(value)
