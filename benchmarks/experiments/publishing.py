"""Records in the documents: every script has ``DOCUMENT`` and ``render``, and every record a place by its name."""

from __future__ import annotations

import importlib
import re
from pathlib import Path
from types import ModuleType

from mmsharp.errors import MmsharpError
from mmsharp.files import read_json, replace_marked, write_text

from .record import read_runs

BENCHMARKS = Path(__file__).parents[1]
RECORDS = BENCHMARKS / 'results'


def publish(text: str, name: str, document: Path) -> None:
    """Print a rendered record and put it into its place in a document.

    Raises:
        MmsharpError: The document has no place for records of its benchmark.
    """
    print(text)
    put(text, name, document)


def put(text: str, name: str, document: Path) -> None:
    """Put a rendered record into its place, which for a new record is after the others of its benchmark.

    Records are called ``<script>_<machine>`` or ``<script>_<machine>_<condition>``: a new one goes after those of its
    condition, if there are any.

    Raises:
        MmsharpError: The document has no place for records of its benchmark.
    """
    there = document.read_text(encoding='utf-8')
    if f'<!-- {name} -->' not in there:
        script = script_of(Path(name))
        ends = {found[1]: found.end() for found in re.finditer(r'<!-- end of (\w+) -->\n', there)}
        others = [other for other in ends if _script_of(other) == script]
        if not others:
            raise MmsharpError(
                f'{document} has no place for a record of {script}: no line <!-- end of {script}_... -->'
            )
        alike = [other for other in others if _condition(other, script) == _condition(name, script)]
        end = ends[(alike or others)[-1]]
        write_text(document, f'{there[:end]}\n<!-- {name} -->\n<!-- end of {name} -->\n{there[end:]}')
    replace_marked(document, name, text)


def script_of(record: Path) -> str:
    """The script that wrote a record, the longest name of a benchmark that the record's begins with.

    Raises:
        MmsharpError: There is none.

    Example:
        >>> script_of(Path('psap_cifar10_cpu_scratch.jsonl'))
        'psap_cifar10'
    """
    script = _script_of(record.stem)
    if script is None:
        raise MmsharpError(f'no benchmark has written {record}; records are called <script>_<name>')
    return script


def _script_of(name: str) -> str | None:
    scripts = [path.stem for path in BENCHMARKS.glob('*.py') if name.startswith(f'{path.stem}_')]
    return max(scripts, key=len, default=None)


def _condition(name: str, script: str) -> str:
    """What stands behind the machine."""
    return name.removeprefix(f'{script}_').partition('_')[2]


def rendered(record: Path) -> tuple[Path, str]:
    """The document of a record, and what stands there of it.

    Raises:
        MmsharpError: The record is damaged, or of no benchmark.
        ImportError: A package is missing that the benchmark measures with.
    """
    script: ModuleType = importlib.import_module(script_of(record))
    if record.suffix == '.jsonl':
        return script.DOCUMENT, script.render(read_runs(record), record.stem)
    return script.DOCUMENT, script.render(read_json(record, 'measure it again'))
