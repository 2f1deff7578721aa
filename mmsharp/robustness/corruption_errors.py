"""Corruption errors of a classifier, relative to those of a reference.

With the error ``E_{s,c}`` at severity ``s`` of corruption ``c`` and the reference's ``R_{s,c}``,

    CE_c          = sum_s E_{s,c} / sum_s R_{s,c}
    relative CE_c = sum_s (E_{s,c} - E_clean) / sum_s (R_{s,c} - R_clean)

and mCE and relative mCE are their means over the corruptions. Source: Hendrycks and Dietterich 2019 (arXiv 1903.12261),
section 4, where the reference is AlexNet on ImageNet-C and both are given in per cent: a ratio of 1 is their 100. Any
other model may be the reference; ``tools/test_robust.py --compare`` takes the first run.
"""

from collections.abc import Mapping
from dataclasses import asdict, dataclass
from typing import Any

from mmsharp.errors import MmsharpError
from mmsharp.robustness.corruptions import BENCHMARK, SEVERITIES
from mmsharp.robustness.grid import Cell, Grid

ALEXNET_CLEAN = 0.4348
"""Torchvision's AlexNet (56.52 % top-1), the network of the table below."""
_ALEXNET: dict[str, tuple[float, float, float, float, float]] = {
    'gaussian_noise': (0.69528, 0.82542, 0.93554, 0.98138, 0.99452),
    'shot_noise': (0.71224, 0.85108, 0.93574, 0.98182, 0.99146),
    'impulse_noise': (0.78374, 0.89808, 0.94870, 0.98720, 0.99548),
    'defocus_blur': (0.65624, 0.73202, 0.85036, 0.91364, 0.94714),
    'glass_blur': (0.64308, 0.75054, 0.88806, 0.91622, 0.93344),
    'motion_blur': (0.58430, 0.70048, 0.82108, 0.89750, 0.92638),
    'zoom_blur': (0.70008, 0.76992, 0.80784, 0.84198, 0.87198),
    'snow': (0.71726, 0.88392, 0.86468, 0.91870, 0.94952),
    'frost': (0.61390, 0.79734, 0.88790, 0.89942, 0.93430),
    'fog': (0.67474, 0.76050, 0.84378, 0.87260, 0.94500),
    'brightness': (0.45140, 0.48502, 0.54048, 0.62166, 0.72440),
    'contrast': (0.64548, 0.76150, 0.88874, 0.97760, 0.99270),
    'elastic_transform': (0.52596, 0.70116, 0.55686, 0.64076, 0.80554),
    'pixelate': (0.52218, 0.54620, 0.73728, 0.87092, 0.91262),
    'jpeg_compression': (0.51002, 0.54718, 0.57294, 0.65458, 0.74778),
    'speckle_noise': (0.66192, 0.74440, 0.90246, 0.94548, 0.97268),
    'gaussian_blur': (0.54732, 0.70444, 0.82574, 0.89864, 0.95940),
    'spatter': (0.47196, 0.62194, 0.75052, 0.84132, 0.90182),
    'saturate': (0.59342, 0.65514, 0.51174, 0.70834, 0.82260),
}
"""Top-1 errors at severities 1 to 5, as the authors published them in their repository (hendrycks/robustness)."""

ALEXNET: dict[Cell, float] = {
    Cell.clean(): ALEXNET_CLEAN,
    **{
        Cell(name, severity): error
        for name, errors in _ALEXNET.items()
        for severity, error in zip(SEVERITIES, errors, strict=True)
    },
}
"""AlexNet's top-1 error on ImageNet and ImageNet-C, per cell."""


@dataclass(frozen=True)
class CorruptionErrors:
    """Ratios to the reference, 1 where the model errs as often; ``None`` where a cell is missing or a sum is zero."""

    reference: str
    ce: dict[str, float | None]
    mce: float | None
    relative_ce: dict[str, float | None]
    relative_mce: float | None

    def to_dict(self) -> dict[str, Any]:
        """The ratios in JSON types."""
        return asdict(self)


def errors_from_accuracies(values: Mapping[Cell, float | None], metric: str) -> dict[Cell, float | None]:
    """Errors in [0, 1] from accuracies, which metrics named ``accuracy/...`` give in per cent.

    Raises:
        MmsharpError: The metric is no accuracy.

    Example:
        >>> errors_from_accuracies({Cell('fog', 1): 75.0, Cell('fog', 2): None}, 'accuracy/top1')
        {Cell(corruption='fog', severity=1): 0.25, Cell(corruption='fog', severity=2): None}
    """
    if not is_accuracy(metric):
        raise MmsharpError(f'corruption errors are defined for accuracies, and {metric!r} is none')
    return {cell: None if value is None else 1 - value / 100 for cell, value in values.items()}


def is_accuracy(metric: str) -> bool:
    """Whether a metric is the accuracy of a classifier, in per cent.

    Example:
        >>> is_accuracy('accuracy/top1'), is_accuracy('coco/bbox_mAP')
        (True, False)
    """
    parts = metric.split('/')
    return 'accuracy' in parts[:-1] and parts[-1].startswith('top')


def corruption_errors(
    errors: Mapping[Cell, float | None], reference: Mapping[Cell, float | None], grid: Grid, name: str
) -> CorruptionErrors:
    """CE and relative CE over the severities of a grid, mCE and relative mCE over its benchmark corruptions.

    Args:
        errors: In [0, 1], per cell.
        reference: Those of the reference, :data:`ALEXNET` or another model's.
        grid: The cells that count. Where it holds no benchmark corruption the means are over all of its corruptions.
        name: What the reference is called.

    Example:
        >>> grid = Grid.of('fog', [0, 1, 2])
        >>> errors = {Cell.clean(): 0.2, Cell('fog', 1): 0.3, Cell('fog', 2): 0.5}
        >>> other = {Cell.clean(): 0.4, Cell('fog', 1): 0.6, Cell('fog', 2): 1.0}
        >>> found = corruption_errors(errors, other, grid, 'other')
        >>> round(found.mce, 6), round(found.relative_mce, 6)
        (0.5, 0.5)
    """
    clean = (errors.get(Cell.clean()), reference.get(Cell.clean())) if grid.clean else (None, None)
    ce: dict[str, float | None] = {}
    relative: dict[str, float | None] = {}
    for corruption in grid.corruptions:
        cells = [Cell(corruption, severity) for severity in grid.severities]
        sums = [_sum(table, cells) for table in (errors, reference)]
        ce[corruption] = _ratio(*sums)
        relative[corruption] = _ratio(
            *(
                None if total is None or base is None else total - len(cells) * base
                for total, base in zip(sums, clean, strict=True)
            )
        )
    over = [corruption for corruption in BENCHMARK if corruption in ce] or list(ce)
    return CorruptionErrors(name, ce, _mean(ce, over), relative, _mean(relative, over))


def _sum(table: Mapping[Cell, float | None], cells: list[Cell]) -> float | None:
    values = [table.get(cell) for cell in cells]
    numbers = [value for value in values if value is not None]
    return sum(numbers) if numbers and len(numbers) == len(values) else None


def _ratio(first: float | None, second: float | None) -> float | None:
    return None if first is None or not second else first / second


def _mean(table: Mapping[str, float | None], names: list[str]) -> float | None:
    numbers = [value for value in (table[name] for name in names) if value is not None]
    return sum(numbers) / len(numbers) if numbers and len(numbers) == len(names) else None
