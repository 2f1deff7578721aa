"""A loading transform that refuses what decoders let pass: truncated and unreadable image files."""

import os
from collections.abc import Callable
from typing import Any

from mmcv.transforms import BaseTransform
from mmengine import fileio

from mmsharp.errors import MmsharpError
from mmsharp.robustness import describe_truncation, ends_whole

TAIL = 1024
"""Bytes that are read at either end of a file."""


class UnreadableImageError(MmsharpError):
    """An image file is missing, truncated or not decodable; the message names its path."""


class GuardedLoading(BaseTransform):
    """Run a loading transform, and stop with the path of the image where the file is damaged.

    Several decoders, OpenCV's in many releases, turn a JPEG whose end is missing into a picture with a grey lower part,
    without an error; evaluation would go on with it. For that check the ends of a local file are read. Where these do
    not tell, and from other storage, the whole file is read once more, the first time that this process meets it.

    ``ignore_empty=True`` of the loading transform does not count: who evaluates has to score every image. In training
    another image can take the place (:func:`mmsharp.engine.configs.pipelines.guard_loading`).

    Args:
        loading: The pipeline's own loading transform, which stays responsible for the image.
        ignore: Whether to give ``None`` for a damaged file, upon which MMEngine's data sets take another image in
            training, instead of stopping.

    Raises:
        UnreadableImageError: From :meth:`transform`, if the file is missing, truncated or not decodable.

    Example:
        >>> from mmcv.transforms import LoadImageFromFile
        >>> GuardedLoading(LoadImageFromFile())(dict(img_path='missing.jpg'))
        Traceback (most recent call last):
        ...
        mmsharp.datasets.transforms.guarded_loading.UnreadableImageError: cannot read image missing.jpg: no such file
    """

    def __init__(self, loading: Callable[[dict[str, Any]], Any], ignore: bool = False) -> None:
        self.loading = loading
        self.ignore = ignore
        self._sound: set[int] = set()
        """Hashes of the paths that were read to the end, which take less memory than these."""

    def transform(self, results: dict[str, Any]) -> dict[str, Any] | None:
        """Load the image as the guarded transform does."""
        try:
            return self._load(results)
        except UnreadableImageError:
            if self.ignore:
                return None
            raise

    def _load(self, results: dict[str, Any]) -> dict[str, Any]:
        path = results.get('img_path')
        try:
            if isinstance(path, str):
                damage = self._damage(path)
                if damage:
                    raise UnreadableImageError(f'cannot read image {path}: {damage}')
            loaded = self.loading(results)
        except FileNotFoundError as error:
            raise UnreadableImageError(f'cannot read image {path}: no such file') from error
        except MmsharpError:
            raise
        except Exception as error:
            reason = ' '.join(str(error).split()) or type(error).__name__
            raise UnreadableImageError(f'cannot read image {path}: {reason}') from error
        if loaded is None:
            raise UnreadableImageError(f'cannot read image {path}: the file is missing or not decodable')
        return loaded

    def __repr__(self) -> str:
        return f'{type(self).__name__}({self.loading!r})'

    def _damage(self, path: str) -> str | None:
        if self._is_local(path) and ends_whole(*_ends(path)):
            return None
        if hash(path) in self._sound:
            return None
        damage = describe_truncation(self._read(path))
        if damage is None:
            self._sound.add(hash(path))
        return damage

    def _is_local(self, path: str) -> bool:
        settings = getattr(self.loading, 'file_client_args', None) or getattr(self.loading, 'backend_args', None) or {}
        return '://' not in path and settings.get('backend', 'local') in ('local', 'disk')

    def _read(self, path: str) -> bytes:
        client_args = getattr(self.loading, 'file_client_args', None)
        if client_args is not None:
            return fileio.FileClient.infer_client(client_args, path).get(path)
        return fileio.get(path, backend_args=getattr(self.loading, 'backend_args', None))


def _ends(path: str) -> tuple[bytes, bytes, int]:
    """The first and last bytes of a file, and its size."""
    with open(path, 'rb') as file:
        head = file.read(TAIL)
        size = file.seek(0, os.SEEK_END)
        file.seek(max(0, size - TAIL))
        return head, file.read(), size
