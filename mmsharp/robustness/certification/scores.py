"""What certificates of many images say of a classifier."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import asdict, dataclass
from typing import Any

from mmsharp.errors import MmsharpError, shown
from mmsharp.robustness.certification.certify import ImageCertificate
from mmsharp.robustness.certification.settings import CertificationSettings

BOUNDS = ('bound', 'capped_bound', 'exact_bound')
"""The bounds of a certificate, by the names of its fields."""


@dataclass(frozen=True)
class EpsScores:
    """Shares of images that are certified at one failure rate.

    Args:
        eps: The failure rate.
        draws: All draws of an image.
        supported: Whether the draws can speak of this rate; see :func:`smallest_supported_rate`.
        pca: Probabilistically certified accuracy, by CC-Cert's bound.
        pca_capped: The same by the bound with capped temperatures.
        exact: The same by the Clopper-Pearson bound.

    Example:
        >>> at = EpsScores(eps=1e-3, draws=1000, supported=False, pca=0.9, pca_capped=0.0, exact=0.0)
        >>> at.pca - at.exact  # claimed beyond what was seen
        0.9
    """

    eps: float
    draws: int
    supported: bool
    pca: float
    pca_capped: float
    exact: float


@dataclass(frozen=True)
class CertificationScores:
    """A classifier under one transform.

    Args:
        transform: As a user writes it.
        images: How many were certified.
        draws: All draws of each.
        clean_accuracy: Share classified rightly as they are.
        empirical_robust_accuracy: Share classified rightly as they are and on all points of the grid; ``None`` without
            a grid.
        grid_points: Points of the grid.
        changed: Share of draws with another prediction, of all images.
        confidence: Of the Clopper-Pearson bound.
        eps: The certified shares.
    """

    transform: str
    images: int
    draws: int
    clean_accuracy: float
    empirical_robust_accuracy: float | None
    grid_points: int
    changed: float
    confidence: float
    eps: tuple[EpsScores, ...]

    def to_dict(self) -> dict[str, Any]:
        """All fields, in JSON types."""
        return {**asdict(self), 'eps': [asdict(scores) for scores in self.eps]}


def certified_share(certificates: Sequence[ImageCertificate], eps: float, bound: str = 'bound') -> float:
    """Share of images that are classified rightly and whose bound is below ``eps``.

        PCA(eps) = (1 / |S|) sum_x 1[argmax p(x) = y] 1[b(x) < eps]

    Pautov et al. (AAAI 2022, arXiv 2109.10696).

    Args:
        certificates: Of one transform, one or more.
        eps: The failure rate.
        bound: ``'bound'``, ``'capped_bound'`` or ``'exact_bound'``.

    Raises:
        MmsharpError: There is no certificate, or no such bound.

    Example:
        >>> right = ImageCertificate('a', 1, 1, 0.4, 1000, 0, 0, 1e-9, 0.0056, 0.0069, None, 0)
        >>> wrong = ImageCertificate('b', 0, 1, 0.4, 1000, 0, 0, 1e-9, 0.0056, 0.0069, None, 0)
        >>> certified_share([right, wrong], 1e-2), certified_share([right, wrong], 1e-3, 'exact_bound')
        (0.5, 0.0)
    """
    if bound not in BOUNDS:
        raise MmsharpError(f'bound {shown(bound)} of a certificate is unknown; accepted are {", ".join(BOUNDS)}')
    return _share(certificates, lambda found: found.correct and getattr(found, bound) < eps)


def certification_scores(
    certificates: Sequence[ImageCertificate], transform: str, settings: CertificationSettings
) -> CertificationScores:
    """Accuracy, empirical robust accuracy, and certified shares at every ``eps`` of the settings.

    Empirical robust accuracy counts images that are classified rightly as they are and on all points of a grid over
    the parameters. CC-Cert's code looks at the grid alone (20 points per parameter); that the image as it is counts too
    is ours. It is an upper bound of what holds for all parameters, one of which leaves an image as it is, and no
    certificate.

    Raises:
        MmsharpError: There is no certificate.

    Example:
        >>> found = ImageCertificate('a', 1, 1, 0.4, 1000, 0, 0, 1e-9, 0.0056, 0.0069, True, 20)
        >>> scores = certification_scores([found], 'rotation:10', CertificationSettings(eps=(1e-2, 1e-3)))
        >>> [(at.eps, at.supported, at.pca, at.pca_capped, at.exact) for at in scores.eps]
        [(0.01, True, 1.0, 1.0, 1.0), (0.001, False, 1.0, 0.0, 0.0)]
    """
    gridded = [found for found in certificates if found.right_on_grid is not None]
    rows = tuple(
        EpsScores(
            eps=eps,
            draws=settings.total_draws,
            supported=settings.supports(eps),
            pca=certified_share(certificates, eps),
            pca_capped=certified_share(certificates, eps, 'capped_bound'),
            exact=certified_share(certificates, eps, 'exact_bound'),
        )
        for eps in settings.eps
    )
    return CertificationScores(
        transform=transform,
        images=len(certificates),
        draws=settings.total_draws,
        clean_accuracy=_share(certificates, lambda found: found.correct),
        empirical_robust_accuracy=_share(gridded, lambda found: bool(found.right_on_grid)) if gridded else None,
        grid_points=max((found.grid_points for found in certificates), default=0),
        changed=sum(found.changed for found in certificates) / sum(found.draws for found in certificates),
        confidence=settings.confidence,
        eps=rows,
    )


def _share(certificates: Sequence[ImageCertificate], holds: Callable[[ImageCertificate], bool]) -> float:
    if not certificates:
        raise MmsharpError('no image was certified; give one or more')
    return sum(map(holds, certificates)) / len(certificates)
