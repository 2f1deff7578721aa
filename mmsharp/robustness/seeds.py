"""The random numbers of a grid cell depend on the cell and the image alone.

    seed(s, image, corruption, severity) = first 16 bytes of SHA-256(JSON([s, image, corruption, severity]))

as a big-endian integer, where JSON is the compact ASCII form. So a corrupted image is the same whatever the number of
workers or processes, the batch size, the order of cells, and after a resume.
"""

import hashlib
import json
from collections.abc import Mapping
from pathlib import PurePosixPath
from typing import Any

SEED_BYTES = 16


def cell_seed(seed: int, image_id: str, corruption: str, severity: int) -> int:
    """Hash a cell and an image to a 128-bit seed; the formula is in the module's docstring.

    Example:
        >>> cell_seed(0, '000001', 'fog', 3) == cell_seed(0, '000001', 'fog', 3)
        True
        >>> cell_seed(0, '000001', 'fog', 3) == cell_seed(0, '000001', 'fog', 4)
        False
    """
    text = json.dumps([int(seed), str(image_id), corruption, int(severity)], separators=(',', ':'))
    return int.from_bytes(hashlib.sha256(text.encode('ascii')).digest()[:SEED_BYTES], 'big')


def image_id(info: Mapping[str, Any], data_root: str | None = None) -> str:
    """Name an image so that the name is the same on every machine.

    ``img_id`` where the dataset has one (VOC, COCO and what follows them), else the file's path relative to
    ``data_root`` with forward slashes (where it does not lie there, its name and that of its folder, which may be its
    class), else, for datasets that hold arrays, ``sample_idx`` as ``#17``.

    Raises:
        KeyError: If the information holds none of the three.

    Example:
        >>> image_id({'img_path': '/data/cats/test/cat/0001.png'}, data_root='/data/cats/')
        'test/cat/0001.png'
        >>> image_id({'img_id': 42, 'img_path': '/data/42.jpg'})
        '42'
    """
    if info.get('img_id') is not None:
        return str(info['img_id'])
    if info.get('img_path') is not None:
        path = PurePosixPath(str(info['img_path']).replace('\\', '/'))
        root = PurePosixPath(data_root.replace('\\', '/')) if data_root else None
        if root is not None and path.is_relative_to(root):
            return path.relative_to(root).as_posix()
        return '/'.join(path.relative_to(path.anchor).parts[-2:])
    if info.get('sample_idx') is not None:
        return f'#{info["sample_idx"]}'
    raise KeyError('img_id, img_path or sample_idx')
