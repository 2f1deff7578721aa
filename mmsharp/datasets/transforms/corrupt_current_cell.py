"""Corruption of a grid's current cell."""

from typing import Any

from mmcv.transforms import BaseTransform

from mmsharp.datasets.transforms.constants_seen import ConstantsSeen
from mmsharp.datasets.transforms.corrupt import corrupt_image
from mmsharp.datasets.transforms.current_cell import CurrentCell
from mmsharp.robustness import (
    ChannelOrder,
    OnTheFly,
    TooSmallImageError,
    check_order,
    check_size,
    image_id,
    settle_constants,
)


class CorruptCurrentCell(BaseTransform):
    """What :class:`mmsharp.Corrupt` does, for the cell that ``current`` holds; see there for the rest.

    ``seen`` is told which constants each image got.
    """

    def __init__(
        self,
        current: CurrentCell,
        settings: OnTheFly,
        image_order: ChannelOrder,
        data_root: str | None = None,
        seen: ConstantsSeen | None = None,
    ) -> None:
        check_order('image_order', image_order)
        self.current = current
        self.settings = settings
        self.image_order = image_order
        self.data_root = data_root
        self.seen = seen

    def transform(self, results: dict[str, Any]) -> dict[str, Any]:
        """Corrupt the image of ``results``; in the clean cell nothing is touched.

        Raises:
            MmsharpError: The image is not fit for corruption.
        """
        cell = self.current.get()
        if not cell.is_clean:
            results['img'] = corrupt_image(results, cell, self.settings, self.image_order, self.data_root)
            if self.seen is not None:
                constants = settle_constants(self.settings.backend, self.settings.constants)
                self.seen.note(constants, results['img'].shape)
        elif self.current.sized:
            try:
                check_size(results['img'])
            except TooSmallImageError as error:
                path = results.get('img_path') or image_id(results, self.data_root)
                raise TooSmallImageError(f'image {path}: {error}') from error
        return results
