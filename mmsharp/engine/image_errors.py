"""An image that cannot be read ends training with its name, not with a page of worker traceback."""

from __future__ import annotations

import re
from collections.abc import Iterator
from contextlib import contextmanager

from mmsharp.datasets.transforms import UnreadableImageError
from mmsharp.engine.cell_metrics import deliberate_refusal
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
    advice = (
        'replace it or take it out of the annotations, then start again (training goes on with --resume); finished '
        f'checkpoints in {work_dir!r} are kept'
    )
    try:
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
        found = _UNREADABLE.search((str(error).strip().splitlines() or [''])[-1])
        if found is None:
            raise
        raise MmsharpError(
            f'image {found["path"]!r} cannot be read (missing, truncated or no image); {advice}'
        ) from error
