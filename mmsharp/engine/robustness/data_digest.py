"""Which data a dataset holds, as one hash."""

from __future__ import annotations

import hashlib
import os
from collections.abc import Iterator, Mapping
from typing import Any

from mmsharp.engine.configs.pipelines import base_datasets

ANNOTATIONS = ('instances', 'gt_label')


def data_sha256(dataset: Any) -> str:
    """Hash the images' names and their annotations, in the dataset's own order.

    Folders do not count, and neither does what is in the images: a damaged one may be replaced and the evaluation go
    on. An image that was exchanged for another of its name goes unnoticed.

    Args:
        dataset: Of MMEngine's kind, wrapped or not; of one without ``get_data_info`` only the length counts.

    Example:
        >>> len(data_sha256([1, 2, 3]))
        64
    """
    digest = hashlib.sha256()
    for base in base_datasets(dataset):
        digest.update(f'{len(base)}\n'.encode())
        for line in _lines(base):
            digest.update(line.encode())
    return digest.hexdigest()


def image_digest(info: Mapping[str, Any]) -> str:
    """Sixteen hexadecimal digits for an image's name and annotations, wherever it stands in whichever data set.

    Args:
        info: What ``get_data_info`` gives.

    Example:
        >>> image_digest({'img_path': 'a/1.png', 'gt_label': 3}) == image_digest({'img_path': 'b/1.png', 'gt_label': 3})
        True
    """
    return hashlib.sha256(_line(info).encode()).hexdigest()[:16]


def _lines(dataset: Any) -> Iterator[str]:
    if hasattr(dataset, 'get_data_info'):
        for index in range(len(dataset)):
            yield _line(dataset.get_data_info(index))


def _line(info: Mapping[str, Any]) -> str:
    path = info.get('img_path')
    name = os.path.basename(path) if isinstance(path, str) else None
    annotations = [_plain(info[key]) for key in ANNOTATIONS if key in info]
    return f'{name} {annotations}\n'


def _plain(value: Any) -> Any:
    """Annotations without what depends on the machine: arrays as lists, dicts in the order of their keys."""
    if isinstance(value, dict):
        return {str(key): _plain(value[key]) for key in sorted(value, key=str)}
    if isinstance(value, (list, tuple)):
        return [_plain(item) for item in value]
    return value.tolist() if hasattr(value, 'tolist') else value
