"""Files that are there as a whole or not at all, and JSON that somebody else may have damaged."""

from __future__ import annotations

import json
import os
from collections import Counter
from collections.abc import Collection, Iterable, Iterator, Mapping, Sequence
from contextlib import contextmanager, suppress
from pathlib import Path
from typing import IO, Any

try:
    import fcntl
except ImportError:  # not on every platform
    fcntl = None  # type: ignore[assignment]

from mmsharp.errors import MmsharpError, one_line, shown

NAMED = 6
"""Unknown keys that a message names."""


@contextmanager
def appearing_whole(target: str | os.PathLike[str]) -> Iterator[Path]:
    """A path beside ``target`` to write to; on leaving, what is there takes the target's place in one step.

    After an exception the target is as before and nothing is left beside it.

    Example:
        >>> import tempfile
        >>> target = Path(tempfile.mkdtemp()) / 'a.txt'
        >>> with appearing_whole(target) as part:
        ...     _ = part.write_text('whole')
        >>> target.read_text()
        'whole'
    """
    path = Path(target)
    part = path.with_name(f'.{path.name}.{os.getpid()}.part')
    try:
        yield part
        os.replace(part, path)
    finally:
        part.unlink(missing_ok=True)


def hold(file: IO[Any], refusal: str) -> bool:
    """Lock a file that is open for writing against other processes until :func:`release`; a kill lets go of it, too.

    Returns:
        Whether it is held: not where the file system or the platform has no locks.

    Raises:
        MmsharpError: With this text, where another process holds it.
    """
    if fcntl is None:
        return False
    try:
        fcntl.flock(file, fcntl.LOCK_EX | fcntl.LOCK_NB)
    except BlockingIOError as error:
        raise MmsharpError(refusal) from error
    except OSError:
        return False
    return True


def release(file: IO[Any]) -> None:
    """Let go of what :func:`hold` has locked; closing alone would not, where a forked process has it open, too."""
    if fcntl is not None:
        with suppress(OSError):
            fcntl.flock(file, fcntl.LOCK_UN)


def write_text(path: str | os.PathLike[str], text: str) -> None:
    """Write a text file whole or not at all, and wait until the disk has it."""
    with appearing_whole(path) as part, open(part, 'w', encoding='utf-8') as file:
        file.write(text)
        file.flush()
        os.fsync(file.fileno())


def write_json(path: str | os.PathLike[str], content: Any) -> None:
    """Write JSON whole or not at all.

    Raises:
        ValueError: The content holds NaN or infinity, which JSON has no words for.
    """
    write_text(path, json.dumps(content, indent=2, allow_nan=False) + '\n')


def read_json(path: str | os.PathLike[str], advice: str, keys: Iterable[str] = ()) -> dict[str, Any]:
    """Read a JSON file that has to hold an object with certain keys.

    Args:
        path: The file.
        advice: What the user shall do if it cannot be read; the last words of the message.
        keys: What has to be in the object.

    Raises:
        MmsharpError: The file is missing, unreadable, no JSON, no object, lacks a key, or has a key twice in one
            object, at any depth, where Python would go by the last; the message names it.

    Example:
        >>> read_json('missing.json', 'run the tool again')
        Traceback (most recent call last):
        mmsharp.errors.MmsharpError: 'missing.json' cannot be read (FileNotFoundError: ...); run the tool again
    """
    try:
        content = json.loads(Path(path).read_text(encoding='utf-8'), object_pairs_hook=_without_repetition)
    except (OSError, ValueError, RecursionError) as error:
        raise MmsharpError(f'{os.fspath(path)!r} cannot be read ({one_line(error)}); {advice}') from error
    if not isinstance(content, dict):
        kind = type(content).__name__
        raise MmsharpError(f'{os.fspath(path)!r} holds a {kind}, expected a JSON object; {advice}')
    missing = [key for key in keys if key not in content]
    if missing:
        raise MmsharpError(f'{os.fspath(path)!r} lacks {", ".join(map(repr, missing))}; {advice}')
    return content


def _without_repetition(pairs: Sequence[tuple[str, Any]]) -> dict[str, Any]:
    content = dict(pairs)
    if len(content) < len(pairs):
        [(key, count)] = Counter(key for key, _ in pairs).most_common(1)
        raise ValueError(f'the key {shown(key)} is {count} times in one object')
    return content


def check_keys(data: Any, what: str, required: Collection[str]) -> None:
    """Whether a stranger's data is a mapping with exactly these keys.

    Raises:
        MmsharpError: It is not; the message begins with ``what`` and stays short whatever the keys are.

    Example:
        >>> check_keys(dict(size=1, hook=2), 'axis', {'size', 'kept'})
        Traceback (most recent call last):
        mmsharp.errors.MmsharpError: axis: unknown keys ['hook'], missing keys ['kept']
    """
    if not isinstance(data, Mapping):
        raise MmsharpError(f'{what}: expected a mapping, found {type(data).__name__}')
    unknown, missing = data.keys() - set(required), set(required) - data.keys()
    if unknown or missing:
        names = sorted(map(shown, unknown))
        listed = ', '.join(names[:NAMED]) + (f', ... ({len(names)} in all)' if len(names) > NAMED else '')
        raise MmsharpError(f'{what}: unknown keys [{listed}], missing keys {sorted(missing)}')


def replace_marked(path: str | os.PathLike[str], name: str, text: str) -> None:
    """Put a text between two marks of a document, ``<!-- name -->`` and ``<!-- end of name -->``.

    Raises:
        MmsharpError: The document lacks the marks.

    Example:
        >>> import tempfile
        >>> document = Path(tempfile.mkdtemp()) / 'a.md'
        >>> write_text(document, 'before <!-- table --> old <!-- end of table --> after')
        >>> replace_marked(document, 'table', 'new')
        >>> marked(document, 'table')
        'new'
    """
    before, _, after = _around(path, name)
    write_text(path, f'{before}<!-- {name} -->\n{text}\n<!-- end of {name} -->{after}')


def marked(path: str | os.PathLike[str], name: str) -> str:
    """The text between the two marks of a document.

    Raises:
        MmsharpError: The document lacks the marks.
    """
    return _around(path, name)[1].strip()


def _around(path: str | os.PathLike[str], name: str) -> tuple[str, str, str]:
    begin, end = f'<!-- {name} -->', f'<!-- end of {name} -->'
    before, found, rest = Path(path).read_text(encoding='utf-8').partition(begin)
    inside, closed, after = rest.partition(end)
    if not found or not closed:
        raise MmsharpError(f'{os.fspath(path)!r} has no place between {begin!r} and {end!r}')
    return before, inside, after
