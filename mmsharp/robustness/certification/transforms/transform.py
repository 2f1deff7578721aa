"""What every image transform is: a range of parameters, and what one set of parameters does to an image."""

from __future__ import annotations

import itertools
from abc import ABC, abstractmethod

import torch
from torch import Tensor

from mmsharp.errors import MmsharpError


class ImageTransform(ABC):
    """A family of image transforms with parameters in a box; a draw is uniform in the box.

    Parts call :meth:`amount`, define ``low`` and ``high`` and say in :meth:`transform` what parameters do. The base
    keeps every promise that all share: images of the identity's parameters are returned bit by bit, the result is
    clipped to [0, 1], and each image is worked on by itself, so that nothing depends on the batch.

    Attributes:
        low: Lower ends of the parameters' ranges.
        high: Upper ends.
        identity: The parameters that change nothing.

    Example:
        A transform of one's own, which ``--certify fade:0.5`` finds once it is registered:

        >>> class Fade(ImageTransform):
        ...     low, high, identity = (0.0,), (0.5,), (0.0,)
        ...
        ...     def transform(self, images, parameters):
        ...         (share,) = self.columns(parameters)
        ...         return images + share * (0.5 - images)
        ...
        ...     def __str__(self):
        ...         return 'fade:0.5'
        >>> Fade()(torch.ones(1, 1, 1, 2), torch.tensor([[0.5]])).tolist()
        [[[[0.75, 0.75]]]]
        >>> Fade().grid(3).flatten().tolist()
        [0.0, 0.25, 0.5]
    """

    low: tuple[float, ...]
    high: tuple[float, ...]
    identity: tuple[float, ...]

    @property
    def dimensions(self) -> int:
        """How many numbers a set of parameters has."""
        return len(self.low)

    def parameters(self, uniform: Tensor) -> Tensor:
        """Take points of the unit cube to the box: ``low + u (high - low)``.

        Args:
            uniform: Shape (..., dimensions), in [0, 1].

        Returns:
            The same shape and dtype.
        """
        low, high = uniform.new_tensor(self.low), uniform.new_tensor(self.high)
        return low + uniform * (high - low)

    def grid(self, points: int) -> Tensor:
        """The product of ``points`` equal steps from end to end of each range.

        Returns:
            Shape (points ** dimensions, dimensions), float64; the ranges' middles where ``points`` is 1.
        """
        if points == 1:
            axis = torch.tensor([0.5], dtype=torch.float64)
        else:
            axis = torch.linspace(0, 1, points, dtype=torch.float64)
        return self.parameters(torch.cartesian_prod(*[axis] * self.dimensions).reshape(-1, self.dimensions))

    def __call__(self, images: Tensor, parameters: Tensor) -> Tensor:
        """Transform each image by its own parameters.

        Args:
            images: Shape (N, C, H, W), floating, in [0, 1]; not changed.
            parameters: Shape (N, dimensions).

        Returns:
            As the images.

        Raises:
            MmsharpError: Shapes or dtype do not fit.
        """
        if images.ndim != 4 or not images.is_floating_point():
            raise MmsharpError(
                f'images of shape {tuple(images.shape)} and {images.dtype}; expected (N, C, H, W) of floats in [0, 1]'
            )
        if parameters.shape != (len(images), self.dimensions):
            raise MmsharpError(
                f'parameters of shape {tuple(parameters.shape)} for {len(images)} images; {self} takes '
                f'({len(images)}, {self.dimensions})'
            )
        return self.apply(images, parameters.to(images))

    def apply(self, images: Tensor, parameters: Tensor) -> Tensor:
        """As a call, without checks."""
        same = (parameters == parameters.new_tensor(self.identity)).all(dim=1)[:, None, None, None]
        return torch.where(same, images, self.transform(images, parameters).clamp(0.0, 1.0))

    @abstractmethod
    def transform(self, images: Tensor, parameters: Tensor) -> Tensor:
        """What the parameters do; the result may leave [0, 1]."""

    def columns(self, parameters: Tensor) -> tuple[Tensor, ...]:
        """Each parameter in the shape (N, 1, 1, 1), which broadcasts over images."""
        return tuple(column[:, None, None, None] for column in parameters.unbind(dim=1))

    @abstractmethod
    def __str__(self) -> str:
        """How a user writes it, such as ``rotation:10``."""


def check_amount(name: str, value: float, most: float, least: float = 0.0) -> float:
    """Hand back a range's size as a float.

    Raises:
        MmsharpError: It is no number above ``least`` and up to ``most``.

    Example:
        >>> check_amount('rotation', 10, most=180)
        10.0
    """
    number = isinstance(value, (int, float)) and not isinstance(value, bool)
    if not number or not least < value <= most:
        raise MmsharpError(f'{name}:{value} is out of range; expected a number above {least:g}, up to {most:g}')
    return float(value)


def amount_text(value: float) -> str:
    """The shortest text that reads back as the same number, so that amounts that differ never share a name.

    Example:
        >>> amount_text(10.0), amount_text(0.4), amount_text(0.1 + 0.2)
        ('10', '0.4', '0.30000000000000004')
    """
    short = f'{value:.12g}'
    return short if float(short) == value else repr(value)


def pairs(sizes: tuple[int, ...]) -> list[tuple[int, int]]:
    """Where each of consecutive parts begins and ends.

    Example:
        >>> pairs((1, 2))
        [(0, 1), (1, 3)]
    """
    ends = list(itertools.accumulate(sizes, initial=0))
    return list(itertools.pairwise(ends))
