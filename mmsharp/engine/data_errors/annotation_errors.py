"""An annotation file that cannot be read is named, where parsers and data sets say only what they stumbled over."""

from __future__ import annotations

import os
import traceback
from collections.abc import Iterator
from contextlib import contextmanager
from json import JSONDecodeError
from types import FrameType
from urllib.error import URLError
from xml.etree.ElementTree import ParseError

from mmsharp.errors import MmsharpError, one_line

SUFFIXES = ('.xml', '.json', '.txt', '.csv', '.tsv', '.yaml', '.yml', '.pkl', '.mat')
"""The files that annotations come in."""
UNPARSED = (JSONDecodeError, ParseError, UnicodeDecodeError)
"""What the parsers of these files raise."""
READERS = ('pycocotools', 'mmdet', 'mmpretrain', 'mmengine')
"""Whose errors while loading are the file's fault; an error in a data set of the user's own may be a defect there."""

LONGEST = 300
"""Characters of an error that holds a path without end."""


@contextmanager
def naming_broken_annotations() -> Iterator[None]:
    """Turn an error while annotations are read into one line that names the file.

    COCO's and MMEngine's JSON, VOC's XML and lists of names are read by code that does not say from which file. The
    path is found in the functions that were running when the error was raised. Other errors pass unchanged.

    Raises:
        MmsharpError: A file was no JSON, XML or text, or did not hold what the data set expects; or folders of images
            were empty or could not be read; or a data set that downloads itself could not.
    """
    try:
        yield
    except MmsharpError:
        raise
    except Exception as error:
        if isinstance(error, URLError) and any(_loads_annotations(frame) for frame in _frames(error)):
            raise MmsharpError(
                f'the data set cannot be downloaded ({one_line(error)[:LONGEST]}); look at the network, or put its '
                'files into the folder that data_root names in the config'
            ) from error
        path = _file_being_read(error)
        if path is None and _lists_images(error):
            raise MmsharpError(
                f'the images cannot be listed ({one_line(error)[:LONGEST]}); look at data_root and data_prefix '
                'of the data set in the config'
            ) from error
        if path is None:
            raise
        fault, remedy = 'do not fit the data set', 'look at that file and at the data set in the config'
        if isinstance(error, UNPARSED):
            fault, remedy = 'cannot be read', 'mend or replace that file'
        raise MmsharpError(f'annotations {path!r} {fault} ({one_line(error)}); {remedy}, then start again') from error


def _lists_images(error: Exception) -> bool:
    """Whether a toolbox failed at folders of images: empty ones, or links that lead back to a folder above them."""
    if not isinstance(error, (OSError, RuntimeError)) or isinstance(error, FileNotFoundError):
        return False
    frames = _frames(error)
    return _package(frames[-1]) in READERS and any(_loads_annotations(frame) for frame in frames)


def _file_being_read(error: Exception) -> str | None:
    frames = _frames(error)[::-1]
    reading = [frame for frame in frames if _package(frame) in READERS and _loads_annotations(frame)]
    if not reading or not (isinstance(error, UNPARSED) or _package(frames[0]) in READERS):
        return None
    return next((path for frame in frames for path in _paths(frame)), None)


def _frames(error: Exception) -> list[FrameType]:
    return [frame for frame, _ in traceback.walk_tb(error.__traceback__)]


def _loads_annotations(frame: FrameType) -> bool:
    return _package(frame) == 'pycocotools' or frame.f_code.co_name in ('load_data_list', 'full_init')


def _package(frame: FrameType) -> str:
    return str(frame.f_globals.get('__name__', '')).partition('.')[0]


def _paths(frame: FrameType) -> Iterator[str]:
    """The annotation files that a function's variables name, or the data set that it belongs to."""
    values = frame.f_locals
    for value in [*values.values(), getattr(values.get('self'), 'ann_file', None)]:
        if isinstance(value, (str, os.PathLike)):
            path = os.fspath(value)
            if isinstance(path, str) and path.lower().endswith(SUFFIXES) and os.path.isfile(path):
                yield path
