"""Transforms from what a user writes."""

from __future__ import annotations

from collections.abc import Iterable

from mmsharp.errors import MmsharpError
from mmsharp.registry import IMAGE_TRANSFORMS, SCOPE
from mmsharp.robustness.certification.transforms.composition import Composition
from mmsharp.robustness.certification.transforms.transform import ImageTransform


def parse_transform(text: str | ImageTransform) -> ImageTransform:
    """Read ``name:amount``, or several with a plus between them, which are applied from left to right.

    Args:
        text: Such as ``'rotation:10'`` or ``'rotation:10+brightness:0.4'``; a transform is handed back.

    Raises:
        MmsharpError: A name is unknown, or an amount is no number or out of range.

    Example:
        >>> parse_transform('Gamma:2.0').exponent
        2.0
        >>> parse_transform('fog:1')
        Traceback (most recent call last):
        mmsharp.errors.MmsharpError: transform 'fog:1': 'fog' is unknown; accepted are blur, brightness, ...
    """
    if isinstance(text, ImageTransform):
        return text
    parts = [_part(piece, text) for piece in str(text).split('+')]
    return parts[0] if len(parts) == 1 else Composition(parts)


def parse_transforms(texts: str | ImageTransform | Iterable[str | ImageTransform]) -> tuple[ImageTransform, ...]:
    """Read several, each once.

    Raises:
        MmsharpError: As :func:`parse_transform`, or there is none.

    Example:
        >>> [str(transform) for transform in parse_transforms(['rotation:10', 'rotation:10.0', 'blur:1'])]
        ['rotation:10', 'blur:1']
    """
    given = [texts] if isinstance(texts, (str, ImageTransform)) else list(texts)
    found = {str(transform): transform for transform in map(parse_transform, given)}
    if not found:
        raise MmsharpError(f'no transform to certify; give some such as rotation:10, of {", ".join(transform_names())}')
    return tuple(found.values())


def transform_names() -> tuple[str, ...]:
    """The names that a user may write, sorted.

    Example:
        >>> transform_names()
        ('blur', 'brightness', 'contrast', 'gamma', 'rotation', 'scale', 'translation')
    """
    return tuple(sorted(_kinds()))


def _kinds() -> dict[str, type[ImageTransform]]:
    IMAGE_TRANSFORMS.import_from_location()
    return {name.lower(): kind for name, kind in IMAGE_TRANSFORMS.module_dict.items()}


def _part(piece: str, text: str) -> ImageTransform:
    name, colon, amount = piece.strip().partition(':')
    kind = _kinds().get(name.strip().lower().removeprefix(f'{SCOPE}.'))
    if kind is None:
        raise MmsharpError(f'transform {text!r}: {name!r} is unknown; accepted are {", ".join(transform_names())}')
    try:
        number = float(amount)
    except ValueError:
        given = f'{amount!r} is no number' if colon else 'it has no amount'
        raise MmsharpError(f'transform {text!r}: {given}; write {name}:<amount>, such as rotation:10') from None
    return kind(number)  # type: ignore[call-arg]
