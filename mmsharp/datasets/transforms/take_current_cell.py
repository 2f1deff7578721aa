"""The picture of a grid's current cell, out of arrays of corrupted pictures."""

from collections.abc import Sequence
from typing import Any

import numpy as np
from mmcv.transforms import BaseTransform

from mmsharp.datasets.transforms.current_cell import CurrentCell
from mmsharp.errors import MmsharpError
from mmsharp.robustness import ChannelOrder, CorruptedArrays


class TakeCurrentCell(BaseTransform):
    """Put the picture of the cell that ``current`` holds in the place of the image.

    Required keys: ``img``, ``sample_idx``. Modified: ``img``.

    Whoever takes images out of the dataset, which numbers the others anew, says so with :meth:`keep`.

    Args:
        current: The cell.
        arrays: The pictures, RGB, in the order of the dataset.
        image_order: The order in which the pipeline holds the channels.
    """

    def __init__(self, current: CurrentCell, arrays: CorruptedArrays, image_order: ChannelOrder) -> None:
        self.current = current
        self.arrays = arrays
        self.image_order = image_order
        self._positions: list[int] | None = None

    def keep(self, kept: Sequence[int]) -> None:
        """Go on with a part of the dataset.

        Args:
            kept: The indices that are left, in their new order, as they were before.
        """
        before = self._positions
        self._positions = [index if before is None else before[index] for index in kept]

    def transform(self, results: dict[str, Any]) -> dict[str, Any]:
        """Exchange the image; in the clean cell nothing is touched.

        Raises:
            MmsharpError: The picture has another size than the image.
        """
        cell = self.current.get()
        if not cell.is_clean:
            image = results['img']
            index = int(results['sample_idx'])
            picture = self.arrays.image(cell, index if self._positions is None else self._positions[index])
            if picture.shape != image.shape:
                raise MmsharpError(f'{self.arrays.root}: pictures of {picture.shape}, images of {image.shape}')
            ordered = picture if self.image_order == 'rgb' else picture[..., ::-1]
            results['img'] = np.ascontiguousarray(ordered).astype(image.dtype, copy=False)
        return results
