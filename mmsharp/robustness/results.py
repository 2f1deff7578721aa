"""The results folder of one robustness evaluation: nothing finished is lost, nothing foreign is mixed in.

``results.jsonl`` holds one line per finished cell and ``identity.json`` what the values depend on. A line is flushed to
the disk before the next cell starts, so a killed run keeps every finished cell; the half line of a kill in the very act
of writing is detected and its cell done again.
"""

import hashlib
import json
import math
import os
import weakref
from collections.abc import Iterable, Mapping
from dataclasses import dataclass, field, replace
from pathlib import Path
from types import TracebackType
from typing import Any, BinaryIO

from mmsharp.errors import MmsharpError
from mmsharp.files import hold, read_json, release, write_json
from mmsharp.robustness.grid import Cell

_HELD: weakref.WeakSet['ResultStore'] = weakref.WeakSet()

RESULTS = 'results.jsonl'
SHA256_DIGITS = 64
IDENTITY = 'identity.json'
AGAIN = 'start tools/test_robust.py again in this folder, which keeps its finished cells'
"""What to do about a results folder with a damaged file."""


@dataclass(frozen=True)
class CellResult:
    """A finished cell: metric values (``None`` where undefined), number of images, seconds of wall time.

    ``constants`` are the tables of severity constants that its images got, as far as they are known. ``identity`` is
    the :func:`identity_digest` of what the values depend on; empty where nobody has written it yet.
    """

    cell: Cell
    metrics: dict[str, float | None]
    images: int
    seconds: float
    identity: str = field(default='', compare=False)
    constants: tuple[str, ...] = ()

    def to_line(self) -> str:
        """One line of JSON without a line break; NaN and infinity become null."""
        metrics = {
            name: value if value is not None and math.isfinite(value) else None for name, value in self.metrics.items()
        }
        record = {
            'corruption': self.cell.corruption,
            'severity': self.cell.severity,
            'metrics': metrics,
            'images': self.images,
            'seconds': round(self.seconds, 3),
            'identity': self.identity,
            **({'constants': list(self.constants)} if self.constants else {}),
        }
        return json.dumps(record, allow_nan=False)

    @classmethod
    def from_line(cls, line: str) -> 'CellResult':
        """Read what :meth:`to_line` wrote.

        Raises:
            ValueError: If the line is no such record.
        """
        try:
            record = json.loads(line)
            cell = Cell(record['corruption'], record['severity'])
            metrics, images, seconds = dict(record['metrics']), record['images'], record['seconds']
            identity, constants = record.get('identity', ''), record.get('constants', [])
        except (KeyError, TypeError, RecursionError) as error:
            raise ValueError(f'not a result line: {line[:80]!r}') from error
        sound = all(isinstance(name, str) and (value is None or is_number(value)) for name, value in metrics.items())
        sound = sound and isinstance(identity, str) and isinstance(constants, list)
        sound = sound and all(isinstance(name, str) for name in constants)
        if not sound or not isinstance(images, int) or isinstance(images, bool) or not is_number(seconds):
            raise ValueError(f'a result line with other values than numbers: {line[:80]!r}')
        return cls(cell, metrics, images, seconds, identity, tuple(constants))


def is_number(value: Any) -> bool:
    """Whether a value out of JSON is a finite number."""
    return isinstance(value, (int, float)) and not isinstance(value, bool) and math.isfinite(value)


def identity_digest(identity: Mapping[str, Any]) -> str:
    """Sixteen hexadecimal digits that stand for an identity, in every line that belongs to it.

    Example:
        >>> identity_digest({'seed': 0, 'images': 2}) == identity_digest({'images': 2, 'seed': 0})
        True
    """
    return hashlib.sha256(json.dumps(identity, sort_keys=True, allow_nan=False).encode()).hexdigest()[:16]


class ResultStore:
    """Finished cells of one evaluation in a folder; use it as a context manager, which holds the folder for one run.

    Args:
        folder: Where the files are; created if missing.
        identity: What the values depend on, in JSON types: checkpoint, config, seed, versions and so on.

    Raises:
        MmsharpError: If the folder holds results of another identity (the message names what differs), if another run
            is writing there, or if a line other than the last cannot be read or is of another evaluation.

    Example:
        >>> import tempfile
        >>> folder = tempfile.mkdtemp()
        >>> with ResultStore(folder, {'seed': 0}) as store:
        ...     store.append(CellResult(Cell('fog', 1), {'accuracy/top1': 81.5}, images=100, seconds=2.0))
        >>> with ResultStore(folder, {'seed': 0}) as store:
        ...     print(store.finished[Cell('fog', 1)].metrics)
        {'accuracy/top1': 81.5}
    """

    def __init__(self, folder: str | Path, identity: Mapping[str, Any]) -> None:
        self.folder = Path(folder)
        self.identity = json.loads(json.dumps(identity, allow_nan=False))
        self.finished: dict[Cell, CellResult] = {}
        self.torn: str | None = None
        self._file: BinaryIO | None = None

    def __enter__(self) -> 'ResultStore':
        self.folder.mkdir(parents=True, exist_ok=True)
        file = open(self.folder / RESULTS, 'a+b')  # closed in __exit__
        try:
            hold(file, f'another run is writing results in {self.folder}; wait for it or choose another --work-dir')
            self.finished, sound_bytes, self.torn = _read(file, self.folder / RESULTS)
            self._check_identity()
            if self.torn is not None:
                file.truncate(sound_bytes)
                file.seek(0, os.SEEK_END)
        except BaseException:
            file.close()
            raise
        self._file = file
        _HELD.add(self)
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        if self._file is not None:
            release(self._file)
            try:
                self._file.close()
            except OSError:
                # What could not be written is tried again here, and fails again: the first error says more.
                if error is None:
                    raise
            finally:
                self._file = None

    def append(self, result: CellResult) -> None:
        """Write a finished cell and wait until the disk has it.

        Raises:
            MmsharpError: If the disk refuses; the finished cells before it are kept.
        """
        if self._file is None:
            raise RuntimeError('ResultStore.append outside of its with block')
        try:
            result = replace(result, identity=identity_digest(self.identity))
            self._file.write(result.to_line().encode() + b'\n')
            self._file.flush()
            os.fsync(self._file.fileno())
        except OSError as error:
            raise MmsharpError(
                f'cannot write {self.folder / RESULTS} ({error.strerror}): the {len(self.finished)} finished cells '
                f'before {result.cell} are kept; make room and start again'
            ) from error
        self.finished[result.cell] = result

    def _check_identity(self) -> None:
        """Compare what the folder holds with what is to be evaluated; where ``identity.json`` is lost, by its lines."""
        path = self.folder / IDENTITY
        try:
            found = read_json(path, 'choose another --work-dir')
        except MmsharpError as error:
            digest = identity_digest(self.identity)
            if any(result.identity != digest for result in self.finished.values()):
                raise MmsharpError(f'{error}; its finished cells are not those of this evaluation') from error
            write_json(path, self.identity)
            return
        differences = describe_differences(found, self.identity)
        if not differences:
            _refuse_foreign(self.finished.values(), self.identity, self.folder / RESULTS)
        if differences and not self.finished:
            write_json(path, self.identity)
        elif differences:
            left_out = any(line.startswith('left_out: ') for line in differences)
            hint = 'An image that cannot be read in one cell is left out of all, the finished ones too. ' * left_out
            raise MmsharpError(
                f'{self.folder} holds results of another evaluation: {"; ".join(differences)}. {hint}'
                'Choose another --work-dir, or remove the folder if its results are no longer needed'
            )


def _release_in_child() -> None:
    # A lock belongs to the open file, which forked data-loading workers would keep alive after this process is killed.
    for store in _HELD:
        if store._file is not None:
            store._file.close()
            store._file = None


if hasattr(os, 'register_at_fork'):
    os.register_at_fork(after_in_child=_release_in_child)


def load_results(folder: str | Path) -> tuple[dict[str, Any], dict[Cell, CellResult]]:
    """Read the identity and the finished cells of a results folder without holding or changing it.

    Raises:
        MmsharpError: If the folder is no results folder, its identity or a line other than the last cannot be read, or
            a line is of another evaluation.
    """
    folder = Path(folder)
    for name in (IDENTITY, RESULTS):
        if not (folder / name).is_file():
            raise MmsharpError(f'{folder} is no folder of robustness results: it has no {name}')
    identity = read_json(folder / IDENTITY, AGAIN)
    with open(folder / RESULTS, 'rb') as file:
        finished = _read(file, folder / RESULTS)[0]
    _refuse_foreign(finished.values(), identity, folder / RESULTS)
    return identity, finished


def _refuse_foreign(results: Iterable[CellResult], identity: Mapping[str, Any], path: Path) -> None:
    """Compare each line with the identity of its folder; lines that do not say what they belong to pass.

    Raises:
        MmsharpError: Naming the cells of another evaluation, as of a file that was copied or joined.
    """
    digest = identity_digest(identity)
    foreign = [str(result.cell) for result in results if result.identity not in ('', digest)]
    if foreign:
        more = f' and {len(foreign) - 3} more' if len(foreign) > 3 else ''
        raise MmsharpError(
            f'{path} holds cells of another evaluation than {IDENTITY} beside it: {", ".join(foreign[:3])}{more}; '
            'remove their lines to evaluate them again'
        )


def describe_differences(found: Any, wanted: Any, name: str = '') -> list[str]:
    """Name every leaf in which two identities differ, as ``name: was X, is Y``.

    Example:
        >>> describe_differences({'seed': 0, 'versions': {'torch': '2.11'}}, {'seed': 1, 'versions': {'torch': '2.11'}})
        ['seed: was 0, is 1']
    """
    if isinstance(found, dict) and isinstance(wanted, dict):
        keys = list(dict.fromkeys([*found, *wanted]))
        return [
            line
            for key in keys
            for line in describe_differences(found.get(key), wanted.get(key), f'{name}.{key}' if name else key)
        ]
    return [] if found == wanted else [f'{name}: was {_short(found)}, is {_short(wanted)}']


def _short(value: Any) -> str:
    text = str(value)
    return f'{text[:12]}...' if len(text) == SHA256_DIGITS else text


def _read(file: BinaryIO, path: Path) -> tuple[dict[Cell, CellResult], int, str | None]:
    """Return the finished cells, the number of bytes that hold whole lines, and the torn rest if there is one."""
    file.seek(0)
    finished: dict[Cell, CellResult] = {}
    sound_bytes = 0
    lines = file.read().splitlines(keepends=True)
    for number, line in enumerate(lines, start=1):
        try:
            if not line.endswith(b'\n'):
                raise ValueError('the line has no end')
            result = CellResult.from_line(line.decode())
        except ValueError as error:
            torn = line.decode(errors='replace')
            if number == len(lines):
                return finished, sound_bytes, torn
            raise MmsharpError(
                f'{path} line {number} is damaged ({error}): remove that line to evaluate its cell again'
            ) from error
        finished[result.cell] = result
        sound_bytes += len(line)
    return finished, sound_bytes, None
