"""ImageNet-V2, ten thousand new test images for ImageNet's thousand classes, from its folders as they are released."""

from __future__ import annotations

import os
from collections.abc import Mapping
from pathlib import Path
from typing import Any

from mmengine.dataset import BaseDataset

from mmsharp.errors import MmsharpError
from mmsharp.registry import DATASETS

CLASSES = 1000
SUFFIXES = ('.jpg', '.jpeg', '.png')


@DATASETS.register_module()
class ImageNetV2(BaseDataset):
    """A folder per class whose name is the number of the class, ``0`` to ``999``.

    Folder readers that sort names as text take ``10`` for the class after ``1``, and nearly every label is wrong. Put
    it in the place of ImageNet's validation set, whose pipeline, evaluator and model stay as they are:

        python tools/test_robust.py CONFIG CHECKPOINT --severities 0 --cfg-options
            test_dataloader.dataset.type=mmsharp.ImageNetV2 test_dataloader.dataset.data_root=imagenetv2-matched-...

    Source: Recht et al. 2019 (arXiv 1902.10811).

    The classes have ImageNet's names where MMPretrain is installed.

    Args:
        data_root: The folder of one of the three released sets.
        split: Not used; ImageNet's configs have it.
        ann_file: Not used either, as ``data_prefix``.
        metainfo: As MMEngine's ``BaseDataset``, instead of ImageNet's names.
        kwargs: As MMEngine's ``BaseDataset``.

    Raises:
        MmsharpError: The folder does not exist, has other folders than numbers below 1000, or holds no image.
    """

    def __init__(
        self,
        data_root: str,
        split: str = '',
        ann_file: str = '',
        data_prefix: Any = None,
        metainfo: Mapping[str, Any] | None = None,
        **kwargs: Any,
    ) -> None:
        self.split = split
        described = {**_imagenet_names(), **(metainfo or {})}
        super().__init__(ann_file='', data_root=os.fspath(data_root), data_prefix={}, metainfo=described, **kwargs)

    def load_data_list(self) -> list[dict[str, Any]]:
        """Paths and labels, class by class."""
        root = Path(self.data_root)
        if not root.is_dir():
            raise MmsharpError(f'data_root {str(root)!r} of ImageNetV2 does not exist')
        folders = sorted(entry.name for entry in root.iterdir() if entry.is_dir())
        strange = [name for name in folders if not name.isdecimal() or int(name) >= CLASSES]
        if strange:
            raise MmsharpError(
                f'{str(root)!r} holds the folder {strange[0]!r}; ImageNet-V2 has one per class, 0 to {CLASSES - 1}'
            )
        found = [
            {'img_path': str(path), 'gt_label': int(name)}
            for name in sorted(folders, key=int)
            for path in sorted((root / name).iterdir())
            if path.suffix.lower() in SUFFIXES
        ]
        if not found:
            raise MmsharpError(f'{str(root)!r} holds no image in folders 0 to {CLASSES - 1}, which ImageNet-V2 has')
        return found


def _imagenet_names() -> dict[str, Any]:
    try:
        from mmpretrain.datasets.categories import IMAGENET_CATEGORIES
    except ImportError:
        return {}
    return {'classes': IMAGENET_CATEGORIES}
