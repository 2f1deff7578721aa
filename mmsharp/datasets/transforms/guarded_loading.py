"""A loading transform that refuses what decoders let pass: truncated and unreadable image files."""

from collections.abc import Callable
from typing import Any

from mmcv.transforms import BaseTransform
from mmengine import fileio

from mmsharp.errors import MmsharpError
from mmsharp.robustness import describe_truncation


class UnreadableImageError(MmsharpError):
    """An image file is missing, truncated or not decodable; the message names its path."""


class GuardedLoading(BaseTransform):
    """Run a loading transform, and stop with the path of the image where the file is damaged.

    Several decoders, OpenCV's in many releases, turn a JPEG whose end is missing into a picture with a grey lower part,
    without an error; evaluation would go on with it. The file is read once more for that check, from the same storage.

    Args:
        loading: The pipeline's own loading transform, which stays responsible for the image.

    Raises:
        UnreadableImageError: From :meth:`transform`, if the file is missing, truncated or not decodable.

    Example:
        >>> from mmcv.transforms import LoadImageFromFile
        >>> GuardedLoading(LoadImageFromFile())(dict(img_path='missing.jpg'))
        Traceback (most recent call last):
        ...
        mmsharp.datasets.transforms.guarded_loading.UnreadableImageError: cannot read image missing.jpg: no such file
    """

    def __init__(self, loading: Callable[[dict[str, Any]], Any]) -> None:
        self.loading = loading

    def transform(self, results: dict[str, Any]) -> dict[str, Any]:
        """Load the image as the guarded transform does."""
        path = results.get('img_path')
        try:
            if isinstance(path, str):
                damage = describe_truncation(self._read(path))
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

    def _read(self, path: str) -> bytes:
        client_args = getattr(self.loading, 'file_client_args', None)
        if client_args is not None:
            return fileio.FileClient.infer_client(client_args, path).get(path)
        return fileio.get(path, backend_args=getattr(self.loading, 'backend_args', None))
