"""Write every table and figure of the documents anew from the committed records; nothing is measured.

    python benchmarks/render_records.py [RECORD ...]

Records are files of benchmarks/results; by default all that a benchmark of this folder wrote.
"""

from __future__ import annotations

import argparse
from pathlib import Path

from experiments.publishing import RECORDS, put, rendered, script_of

from mmsharp.command_line import run
from mmsharp.errors import MmsharpError


def records() -> list[Path]:
    """All that a benchmark wrote; those of the tools and demonstrations are theirs."""
    return [path for path in sorted(RECORDS.glob('*.json*')) if _is_of_a_benchmark(path)]


def _is_of_a_benchmark(path: Path) -> bool:
    try:
        script_of(path)
    except MmsharpError:
        return False
    return True


def main() -> None:
    """Render each, a line for each."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument('records', nargs='*', type=Path, metavar='RECORD', help='(default: all)')
    for record in parser.parse_args().records or records():
        document, text = rendered(record)
        put(text, record.stem, document)
        print(f'{record.name} -> {document.name}')


if __name__ == '__main__':
    run(main)
