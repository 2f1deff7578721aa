"""The vocabulary of corruptions: names, families and groups, in this one place.

Fifteen benchmark corruptions and four held-out ones, as Hendrycks and Dietterich 2019 (arXiv 1903.12261) define them
for ImageNet-C and Michaelis et al. 2019 (arXiv 1907.07484) use them for Pascal-C, COCO-C and Cityscapes-C. The order is
that of both papers. Every other module receives tuples that :func:`select` has checked, and no other list exists.
"""

import difflib
from collections.abc import Iterable
from dataclasses import dataclass

from mmsharp.errors import MmsharpError


@dataclass(frozen=True)
class Corruption:
    """One way to spoil an image: its name, its family, and whether the benchmark's average leaves it out."""

    name: str
    family: str
    holdout: bool = False


CORRUPTIONS: tuple[Corruption, ...] = (
    Corruption('gaussian_noise', 'noise'),
    Corruption('shot_noise', 'noise'),
    Corruption('impulse_noise', 'noise'),
    Corruption('defocus_blur', 'blur'),
    Corruption('glass_blur', 'blur'),
    Corruption('motion_blur', 'blur'),
    Corruption('zoom_blur', 'blur'),
    Corruption('snow', 'weather'),
    Corruption('frost', 'weather'),
    Corruption('fog', 'weather'),
    Corruption('brightness', 'weather'),
    Corruption('contrast', 'digital'),
    Corruption('elastic_transform', 'digital'),
    Corruption('pixelate', 'digital'),
    Corruption('jpeg_compression', 'digital'),
    Corruption('speckle_noise', 'noise', holdout=True),
    Corruption('gaussian_blur', 'blur', holdout=True),
    Corruption('spatter', 'weather', holdout=True),
    Corruption('saturate', 'digital', holdout=True),
)
NAMES: tuple[str, ...] = tuple(corruption.name for corruption in CORRUPTIONS)
BENCHMARK: tuple[str, ...] = tuple(corruption.name for corruption in CORRUPTIONS if not corruption.holdout)
HOLDOUT: tuple[str, ...] = tuple(corruption.name for corruption in CORRUPTIONS if corruption.holdout)
FAMILIES: tuple[str, ...] = ('noise', 'blur', 'weather', 'digital')
SEVERITIES: tuple[int, ...] = (1, 2, 3, 4, 5)

FAMILY_MEMBERS: dict[str, tuple[str, ...]] = {
    family: tuple(item.name for item in CORRUPTIONS if item.family == family and not item.holdout)
    for family in FAMILIES
}
"""Benchmark corruptions of each family; the held-out ones form their own group, as in MMDetection."""

GROUPS: dict[str, tuple[str, ...]] = {'all': NAMES, 'benchmark': BENCHMARK, **FAMILY_MEMBERS, 'holdout': HOLDOUT}


def select(names: str | Iterable[str]) -> tuple[str, ...]:
    """Turn what a user wrote, names and groups in any mixture, into corruption names in the vocabulary's order.

    Groups are ``all``, ``benchmark``, ``noise``, ``blur``, ``weather``, ``digital`` and ``holdout``; several combine.
    A name given twice counts once.

    Raises:
        MmsharpError: If a name is neither a corruption nor a group (close matches are listed), or nothing was given.

    Example:
        >>> select(['weather', 'gaussian_noise', 'fog'])
        ('gaussian_noise', 'snow', 'frost', 'fog', 'brightness')
        >>> len(select('all'))
        19
    """
    wanted = [names] if isinstance(names, str) else list(names)
    chosen: set[str] = set()
    for name in wanted:
        if name in GROUPS:
            chosen.update(GROUPS[name])
        elif name in NAMES:
            chosen.add(name)
        else:
            raise MmsharpError(_unknown(name))
    if not chosen:
        raise MmsharpError(f'no corruption chosen; give names or groups ({", ".join(GROUPS)})')
    return tuple(name for name in NAMES if name in chosen)


def check_name(name: str) -> str:
    """Return the name of a single corruption, or refuse it.

    Raises:
        MmsharpError: If the name is not one of the 19 corruptions.

    Example:
        >>> check_name('fog')
        'fog'
    """
    if name not in NAMES:
        raise MmsharpError(_unknown(name))
    return name


def check_severity(severity: int, lowest: int = 0) -> int:
    """Return a severity between ``lowest`` and 5, or refuse it; severity 0 is the clean image.

    Raises:
        MmsharpError: If the severity is no integer or out of range.

    Example:
        >>> check_severity(3)
        3
    """
    if isinstance(severity, bool) or not isinstance(severity, int) or not lowest <= severity <= SEVERITIES[-1]:
        raise MmsharpError(f'severity {severity!r} is not an integer from {lowest} to {SEVERITIES[-1]} (0 is clean)')
    return severity


def _unknown(name: object) -> str:
    close = difflib.get_close_matches(str(name), [*NAMES, *GROUPS], n=3)
    hint = f'did you mean {" or ".join(close)}?' if close else f'the corruptions are {", ".join(NAMES)};'
    return f'unknown corruption {name!r}: {hint} The groups are {", ".join(GROUPS)}.'
