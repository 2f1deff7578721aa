"""How images are corrupted where no corrupted ones are given."""

from dataclasses import dataclass
from typing import Literal

import numpy as np

from mmsharp.errors import MmsharpError
from mmsharp.robustness.constants import Constants
from mmsharp.robustness.functions import Backend, corrupt, settle_constants
from mmsharp.robustness.grid import Cell
from mmsharp.robustness.seeds import cell_seed

ChannelOrder = Literal['rgb', 'bgr']
CHANNEL_ORDERS: tuple[ChannelOrder, ...] = ('rgb', 'bgr')


@dataclass(frozen=True)
class OnTheFly:
    """Everything but the image and the cell that decides a corrupted pixel.

    Args:
        seed: Non-negative; another seed draws other noise.
        channel_order: The order in which the corruption functions get the channels. They are defined on RGB;
            MMDetection's old ``Corrupt`` gave them BGR, whose numbers ``'bgr'`` reproduces (up to the random draws,
            which it never seeded).
        backend: Whose pixel functions, ``'mmsharp'`` or ``'imagecorruptions'``; see :func:`mmsharp.robustness.corrupt`.
        constants: What the severities mean; ``'auto'`` is CIFAR-10-C's constants for images of 32x32 pixels and
            ImageNet-C's for others. See there.

    Raises:
        MmsharpError: An argument is none of these.

    Example:
        >>> grey = np.full((40, 40, 3), 99, dtype=np.uint8)
        >>> OnTheFly(seed=3).image(grey, 'rgb', 'one', Cell('brightness', 1)).shape
        (40, 40, 3)
        >>> OnTheFly(seed=-1)
        Traceback (most recent call last):
        mmsharp.errors.MmsharpError: seed -1 is not a non-negative integer
    """

    seed: int = 0
    channel_order: ChannelOrder = 'rgb'
    backend: Backend = 'mmsharp'
    constants: Constants = 'auto'

    def __post_init__(self) -> None:
        if isinstance(self.seed, bool) or not isinstance(self.seed, int) or self.seed < 0:
            raise MmsharpError(f'seed {self.seed!r} is not a non-negative integer')
        check_order('channel_order', self.channel_order)
        settle_constants(self.backend, self.constants)

    def image(self, pixels: np.ndarray, image_order: ChannelOrder, name: str, cell: Cell) -> np.ndarray:
        """Corrupt an image, in the order of channels in which it is given.

        Args:
            pixels: uint8 of shape (H, W, 3).
            image_order: The order of its channels.
            name: What the image is called; its random numbers depend on that, the seed and the cell alone.
            cell: Not the clean one.

        Raises:
            MmsharpError: The image is not fit for corruption.
        """
        swap = slice(None, None, -1 if self.channel_order != image_order else None)
        given = pixels[..., swap] if pixels.ndim == 3 else pixels
        seed = cell_seed(self.seed, name, cell.corruption, cell.severity)
        corrupted = corrupt(given, cell.corruption, cell.severity, seed, self.backend, self.constants)
        return np.ascontiguousarray(corrupted[..., swap])


def check_order(name: str, order: str) -> None:
    """Refuse an order of channels that is none.

    Raises:
        MmsharpError: Naming the argument, its value and what is accepted.

    Example:
        >>> check_order('image_order', 'grb')
        Traceback (most recent call last):
        mmsharp.errors.MmsharpError: image_order 'grb' is neither 'rgb' nor 'bgr'
    """
    if order not in CHANNEL_ORDERS:
        raise MmsharpError(f"{name} {order!r} is neither 'rgb' nor 'bgr'")
