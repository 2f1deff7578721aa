"""The pipeline transform that spoils each image with one corruption, reproducibly."""

from typing import Any

import numpy as np
from mmcv.transforms import BaseTransform

from mmsharp.errors import MmsharpError
from mmsharp.registry import TRANSFORMS
from mmsharp.robustness import (
    CLEAN,
    Backend,
    Cell,
    ChannelOrder,
    Constants,
    OnTheFly,
    check_name,
    check_order,
    check_severity,
    image_id,
    prepare,
)


@TRANSFORMS.register_module()
class Corrupt(BaseTransform):
    """Corrupt ``results['img']``; its random numbers depend on seed, image, corruption and severity alone.

    For detectors it belongs right after the loading transform; for classifiers after the deterministic resize and crop,
    as ImageNet-C was made. Pipelines hold BGR images and the corruptions are defined on RGB, so by default the image is
    converted around them. MMDetection's old ``Corrupt`` did not convert: ``channel_order='bgr'`` reproduces its numbers
    (up to the random draws, which it never seeded).

    Required keys: ``img``, and one of ``img_id``, ``img_path`` and ``sample_idx`` to name the image. Modified: ``img``.

    Args:
        corruption: One of the 19 names of :data:`mmsharp.robustness.NAMES`, or ``'clean'`` with severity 0.
        severity: 0 (the image is not touched) to 5.
        seed: Non-negative; another seed draws other noise.
        channel_order: The order in which the corruption function gets the channels.
        image_order: The order in which the pipeline holds them: ``'bgr'`` after MMCV's loading transforms; ``'rgb'``
            for datasets that hold RGB arrays, such as MMPretrain's ``CIFAR10``.
        data_root: Where ``img_path`` starts, so that an image without ``img_id`` has the same name on every machine.
        backend: Whose pixel functions, ``'mmsharp'`` or ``'imagecorruptions'``; see :func:`mmsharp.robustness.corrupt`.
        constants: What the severities mean; ``'auto'`` is CIFAR-10-C's constants for images of 32x32 pixels and
            ImageNet-C's for others. See there.

    Raises:
        MmsharpError: If an argument is none of these, or an image is no 8-bit colour image of at least 32x32 pixels.

    Example:
        >>> transform = Corrupt('fog', severity=3)
        >>> results = transform(dict(img=np.full((40, 40, 3), 9, dtype=np.uint8), img_id='000001'))
        >>> results['img'].shape, results['img'].dtype
        ((40, 40, 3), dtype('uint8'))
    """

    def __init__(
        self,
        corruption: str,
        severity: int = 1,
        seed: int = 0,
        channel_order: ChannelOrder = 'rgb',
        image_order: ChannelOrder = 'bgr',
        data_root: str | None = None,
        backend: Backend = 'mmsharp',
        constants: Constants = 'auto',
    ) -> None:
        check_severity(severity)
        if not (corruption == CLEAN and severity == 0):
            check_name(corruption)
        check_order('image_order', image_order)
        self.settings = OnTheFly(seed, channel_order, backend, constants)
        self.corruption = corruption
        self.severity = severity
        self.image_order = image_order
        self.data_root = data_root
        if severity > 0:
            prepare([corruption], backend)

    def transform(self, results: dict[str, Any]) -> dict[str, Any]:
        """Corrupt the image of ``results``; at severity 0 nothing is touched."""
        if self.severity > 0:
            cell = Cell(self.corruption, self.severity)
            results['img'] = corrupt_image(results, cell, self.settings, self.image_order, self.data_root)
        return results

    def __repr__(self) -> str:
        return (
            f'{type(self).__name__}(corruption={self.corruption!r}, severity={self.severity}, '
            f'image_order={self.image_order!r}, data_root={self.data_root!r}, {self.settings})'
        )


def corrupt_image(
    results: dict[str, Any], cell: Cell, settings: OnTheFly, image_order: ChannelOrder, data_root: str | None
) -> np.ndarray:
    """Return the corrupted image of a pipeline's ``results``, in the order and dtype in which the pipeline holds it.

    Raises:
        MmsharpError: If the image is not fit for corruption; the message names the image and the cell.
    """
    name = image_id(results, data_root)
    image = results['img']
    try:
        corrupted = settings.image(_to_uint8(image), image_order, name, cell)
    except MmsharpError as error:
        raise type(error)(f'image {results.get("img_path", name)}, cell {cell}: {error}') from error
    return corrupted.astype(image.dtype, copy=False)


def _to_uint8(image: Any) -> Any:
    """Undo the ``to_float32`` of a loading transform, which changes no value; anything else passes unchanged."""
    if isinstance(image, np.ndarray) and image.dtype == np.float32:
        whole = image.clip(0, 255).astype(np.uint8)
        if np.array_equal(whole, image):
            return whole
    return image
