"""An image that cannot be read ends training with its name, not with a page of worker traceback."""

from __future__ import annotations

import re
from collections.abc import Iterator
from contextlib import contextmanager

from mmsharp.errors import MmsharpError

_UNREADABLE = re.compile(
    r"(?:failed to load image: |cannot identify image file |No such file or directory: )'?(?P<path>[^'\n]+)'?"
)


@contextmanager
def naming_unreadable_images(work_dir: str) -> Iterator[None]:
    """Turn the loading transform's error about an unreadable image into one clear line.

    Args:
        work_dir: Where the checkpoints of the run are, for the advice.

    Raises:
        MmsharpError: An image was missing, truncated or no image.

    Example:
        >>> with naming_unreadable_images('work_dirs/run'):
        ...     raise AssertionError('failed to load image: data/broken.jpg')
        Traceback (most recent call last):
        mmsharp.errors.MmsharpError: image 'data/broken.jpg' cannot be read ...
    """
    try:
        yield
    except MmsharpError:
        raise
    except (AssertionError, OSError, RuntimeError, ValueError) as error:
        found = _UNREADABLE.search(str(error))
        if found is None:
            raise
        raise MmsharpError(
            f'image {found["path"]!r} cannot be read (missing, truncated or no image); replace it or take it out of '
            f'the annotations, then go on with --resume: finished checkpoints are in {work_dir!r}'
        ) from error
