"""A file that cannot be read ends training with its name, not with a page of worker traceback."""

from __future__ import annotations

import re
from collections.abc import Iterator
from contextlib import contextmanager

from mmsharp.datasets.transforms import UnreadableImageError
from mmsharp.engine.data_errors.annotation_errors import SUFFIXES, naming_broken_annotations
from mmsharp.errors import MmsharpError, deliberate_refusal

IMAGE_SUFFIXES = ('.jpg', '.jpeg', '.png', '.bmp', '.ppm', '.pgm', '.tif', '.tiff', '.webp', '.gif', '.jp2')
_UNDECODABLE = re.compile(r"(?:failed to load image: |cannot identify image file )'?(?P<path>[^'\n]+)'?")
_MISSING = re.compile(r"No such file or directory: '?(?P<path>[^'\n]+)'?")


@contextmanager
def naming_unreadable_images(work_dir: str) -> Iterator[None]:
    """Turn an error about an unreadable image or annotation file into one clear line.

    Args:
        work_dir: Where the checkpoints of the run are, for the advice.

    Raises:
        MmsharpError: An image was missing, truncated or no image, or annotations were missing or broken.

    Example:
        >>> with naming_unreadable_images('work_dirs/run'):
        ...     raise AssertionError('failed to load image: data/broken.jpg')
        Traceback (most recent call last):
        mmsharp.errors.MmsharpError: image 'data/broken.jpg' cannot be read ...
    """
    again = f'then start again (training goes on with --resume); finished checkpoints in {work_dir!r} are kept'
    advice = f'replace it or take it out of the annotations, {again}'
    try:
        with naming_broken_annotations():
            yield
    except UnreadableImageError as error:
        raise MmsharpError(f'{deliberate_refusal(error)}; {advice}') from error
    except MmsharpError as error:
        message = deliberate_refusal(error)
        if message == str(error):
            raise
        raise MmsharpError(message) from error
    except (AssertionError, OSError, RuntimeError, ValueError) as error:
        # A worker's error is its whole traceback, which quotes source lines; the last line is the error itself.
        last_line = (str(error).strip().splitlines() or [''])[-1]
        if found := _UNDECODABLE.search(last_line):
            raise MmsharpError(
                f'image {found["path"]!r} cannot be read (missing, truncated or no image); {advice}'
            ) from error
        if found := _MISSING.search(last_line):
            if found['path'].lower().endswith(SUFFIXES):
                raise MmsharpError(f'annotations {found["path"]!r} do not exist; restore them, {again}') from error
            if found['path'].lower().endswith(IMAGE_SUFFIXES):
                raise MmsharpError(f'image {found["path"]!r} does not exist; {advice}') from error
            raise MmsharpError(f'file {found["path"]!r} does not exist; restore it or name another, {again}') from error
        raise
