"""Records in the documents: every script has ``DOCUMENT`` and ``render``, and every record a place by its name."""

from __future__ import annotations

import importlib
from pathlib import Path
from types import ModuleType

from mmsharp.errors import MmsharpError
from mmsharp.files import read_json, replace_marked

from .record import read_runs

BENCHMARKS = Path(__file__).parents[1]
RECORDS = BENCHMARKS / 'results'


def publish(text: str, name: str, document: Path) -> None:
    """Print a rendered record and put it into its place in a document.

    Raises:
        MmsharpError: The document has no place of that name.
    """
    print(text)
    replace_marked(document, name, text)


def script_of(record: Path) -> str:
    """The script that wrote a record, the longest name of a benchmark that the record's begins with.

    Raises:
        MmsharpError: There is none.

    Example:
        >>> script_of(Path('psap_cifar10_cpu_scratch.jsonl'))
        'psap_cifar10'
    """
    scripts = [path.stem for path in BENCHMARKS.glob('*.py') if record.stem.startswith(f'{path.stem}_')]
    if not scripts:
        raise MmsharpError(f'no benchmark has written {record}; records are called <script>_<name>')
    return max(scripts, key=len)


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
