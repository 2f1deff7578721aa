"""Certify a classifier's predictions under random transforms, image by image, in bounded memory."""

from __future__ import annotations

import math
from collections.abc import Callable, Iterable, Mapping, Sequence
from dataclasses import asdict, dataclass, replace
from typing import Any

import torch
from torch import Tensor

from mmsharp.errors import MmsharpError
from mmsharp.robustness.certification.chernoff_bound import chernoff_bound
from mmsharp.robustness.certification.clopper_pearson import clopper_pearson_upper
from mmsharp.robustness.certification.discrepancy import discrepancy, margin
from mmsharp.robustness.certification.draws import draw_parameters
from mmsharp.robustness.certification.settings import CertificationSettings
from mmsharp.robustness.certification.temperatures import capped_temperatures
from mmsharp.robustness.certification.transforms import ImageTransform, parse_transform

Predict = Callable[[Tensor], Tensor]
"""From images (N, C, H, W) in [0, 1] to probabilities (N, classes), each row by itself."""
SUM_TOLERANCE = 1e-2


@dataclass(frozen=True)
class ImageCertificate:
    """What was found of one image under one transform.

    Args:
        image: Its name.
        label: Its class.
        predicted: The class predicted for the image as it is.
        margin: ``d``, half the distance between the two largest probabilities.
        draws: All draws, ``n * k``.
        changed: Draws whose predicted class is another than ``predicted``.
        reached: Draws with ``Z >= d``; at least as many.
        bound: CC-Cert's bound on the probability of another prediction, by the settings' arithmetic.
        capped_bound: The same with capped temperatures, always in float64 log-space.
        exact_bound: Clopper-Pearson's upper bound from ``changed``.
        right_on_grid: Whether the image as it is and all points of the grid are classified as ``label``; ``None``
            without a grid.
        grid_points: Points of the grid.

    Example:
        >>> found = ImageCertificate('a.png', 3, 3, 0.4, 1000, 0, 0, 1e-9, 0.0056, 0.0069, True, 20)
        >>> found.correct, found.exact_bound < 1e-2, found.exact_bound < 1e-3
        (True, True, False)
    """

    image: str
    label: int
    predicted: int
    margin: float
    draws: int
    changed: int
    reached: int
    bound: float
    capped_bound: float
    exact_bound: float
    right_on_grid: bool | None
    grid_points: int

    @property
    def correct(self) -> bool:
        """Whether the image as it is is classified rightly."""
        return self.predicted == self.label

    def to_dict(self) -> dict[str, Any]:
        """All fields, in JSON types."""
        return asdict(self)


@torch.no_grad()
def certify(
    predict: Predict,
    images: Tensor | Iterable[Tensor],
    labels: Sequence[int] | Tensor,
    transform: str | ImageTransform,
    names: Sequence[str] | None = None,
    settings: Mapping[str, Any] | CertificationSettings | None = None,
    **options: Any,
) -> list[ImageCertificate]:
    r"""Bound the probability that a random transform changes what is predicted of an image.

    For an image ``x`` of class ``y``, with ``p = predict``:

        d = (p_(1)(x) - p_(2)(x)) / 2,   Z_ij = || p(x) - p(T_ij(x)) ||_inf,   i = 1..n, j = 1..k,
        bound = min(1, max_j min_t [ (1/n) sum_i exp(t Z_ij) ] / exp(t d) / delta)

    (Pautov et al., AAAI 2022, arXiv 2109.10696; the code's form, see :func:`chernoff_bound`). Beside it stand the same
    with capped temperatures, which is ours, and the exact bound of Clopper and Pearson from the number of draws that
    are classified otherwise. CC-Cert's bound is an estimate: look at ``capped_bound`` and ``exact_bound`` before it.

    ``right_on_grid`` departs from CC-Cert's code, which asks the points of the grid alone: every range has a point that
    leaves the image as it is, many grids have none, and here it counts. This is stricter, and an image that is
    classified wrongly as it is needs no grid.

    Images are worked on one at a time, ``settings.chunk`` transformed copies through the model at once, so that memory
    does not grow with the number of draws or images, and neither batch nor order changes a result.

    Args:
        predict: From images (M, C, H, W) in [0, 1] to probabilities (M, classes). A model is put into evaluation mode
            by the caller; gradients are off.
        images: Shape (N, C, H, W), or N images (C, H, W), floating, in [0, 1], before any normalisation.
        labels: The N classes.
        transform: Such as ``'rotation:10'`` or ``'rotation:10+brightness:0.4'``.
        names: N names that draws are seeded by; ``'#0'``, ``'#1'`` ... by default.
        settings: Draws, temperatures, grid and so on; or a dictionary of them.
        options: Single settings, instead of ``settings``.

    Returns:
        A certificate per image.

    Raises:
        MmsharpError: A setting, a transform, a shape or what ``predict`` returns is not what was expected.

    Example:
        >>> def predict(images):
        ...     light = 0.2 + 0.6 * images.mean(dim=(1, 2, 3))
        ...     return torch.stack([light, 1 - light], dim=1)
        >>> [found] = certify(predict, torch.full((1, 3, 4, 4), 0.75), [0], 'brightness:0.4', draws=20, groups=5)
        >>> found.correct, round(found.margin, 3), found.draws, found.changed <= found.reached
        (True, 0.15, 100, True)
        >>> found.bound <= found.capped_bound
        True
    """
    if settings is not None and options:
        raise MmsharpError(f'give settings or {", ".join(options)}, not both')
    settings = CertificationSettings.of(options if settings is None else settings)
    transform = parse_transform(transform)
    images = list(images)
    names = [f'#{index}' for index in range(len(images))] if names is None else list(names)
    if not len(images) == len(labels) == len(names):
        raise MmsharpError(f'{len(images)} images, {len(labels)} labels and {len(names)} names do not fit together')
    return [
        _certify_image(predict, image, int(label), transform, name, settings)
        for image, label, name in zip(images, labels, names, strict=True)
    ]


def _certify_image(
    predict: Predict, image: Tensor, label: int, transform: ImageTransform, name: str, settings: CertificationSettings
) -> ImageCertificate:
    _check_image(image, name)
    clean = _probabilities(predict, image[None], name)
    predicted = int(clean.argmax())
    d = margin(clean)
    parameters = draw_parameters(transform, name, settings.total_draws, settings.seed)
    drawn = [
        (discrepancy(clean, found), found.argmax(dim=1) != predicted)
        for found in _transformed(predict, image, transform, parameters, settings.chunk, name)
    ]
    Z = torch.cat([values for values, _ in drawn])
    changed = int(sum(int(others.sum()) for _, others in drawn))
    grouped = Z.reshape(1, settings.groups, settings.draws)
    temperatures = capped_temperatures(d, settings.total_draws, settings.cap)
    certificate = ImageCertificate(
        image=name,
        label=label,
        predicted=predicted,
        margin=d.item(),
        draws=settings.total_draws,
        changed=changed,
        reached=int((d <= Z).sum()),
        bound=chernoff_bound(grouped, d, settings.delta, compat=settings.compat).item(),
        capped_bound=chernoff_bound(grouped, d, settings.delta, temperatures).item(),
        exact_bound=float(clopper_pearson_upper(changed, settings.total_draws, settings.confidence)),
        right_on_grid=None,
        grid_points=0,
    )
    points = settings.grid_points(transform.dimensions)
    if points == 0:
        return certificate
    right = predicted == label
    if right:  # the image as it is counts as a point of the grid, and one wrong prediction settles it
        found = _transformed(predict, image, transform, transform.grid(points), settings.chunk, name)
        right = all(bool((scores.argmax(dim=1) == label).all()) for scores in found)
    return replace(certificate, right_on_grid=right, grid_points=points**transform.dimensions)


def _transformed(
    predict: Predict, image: Tensor, transform: ImageTransform, parameters: Tensor, chunk: int, name: str
) -> Iterable[Tensor]:
    """Probabilities of transformed copies, a chunk at a time."""
    for piece in parameters.split(chunk):
        yield _probabilities(predict, transform(image.expand(len(piece), *image.shape), piece), name)


def _probabilities(predict: Predict, images: Tensor, name: str) -> Tensor:
    found = predict(images)
    if found.ndim != 2 or found.shape[0] != len(images) or found.shape[1] < 2:
        raise MmsharpError(
            f'image {name}: the model gave scores of shape {tuple(found.shape)} for {len(images)} images; '
            'certification needs the probabilities of two or more classes per image'
        )
    found = found.cpu().double()
    if not bool(((found.sum(dim=1) - 1).abs() < SUM_TOLERANCE).all()) or float(found.min()) < 0:
        raise MmsharpError(
            f'image {name}: the scores of the classes are no probabilities (they sum to {float(found[0].sum()):.4g}, '
            f'the smallest is {float(found.min()):.4g}); certification needs a softmax over the classes'
        )
    return found


def _check_image(image: Tensor, name: str) -> None:
    if image.ndim != 3 or not image.is_floating_point():
        raise MmsharpError(
            f'image {name} has shape {tuple(image.shape)} and {image.dtype}; expected (C, H, W) of floats in [0, 1]'
        )
    low, high = float(image.min()), float(image.max())
    if not (low >= 0 and high <= 1) or not math.isfinite(high):
        raise MmsharpError(f'image {name} has values from {low:g} to {high:g}; expected [0, 1], before normalisation')
