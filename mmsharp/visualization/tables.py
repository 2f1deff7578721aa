"""``summary.md`` and ``cells.csv``: a robustness evaluation for a README and for a spreadsheet."""

import csv
import io
from collections.abc import Iterable, Mapping
from pathlib import Path
from typing import Any

from mmsharp.files import write_text
from mmsharp.robustness import Cell, CellResult
from mmsharp.visualization.numbers import percent_text, top_of, value_text


def write_tables(folder: str | Path, summary: Mapping[str, Any], finished: Mapping[Cell, CellResult]) -> None:
    """Write both files into a folder.

    Args:
        folder: Exists.
        summary: The content of ``summary.json``; see :func:`mmsharp.robustness.summarize`.
        finished: The results with all metrics, per class too where the evaluator gives such.
    """
    write_text(Path(folder) / 'summary.md', summary_markdown(summary))
    write_text(Path(folder) / 'cells.csv', cells_csv(finished.values()))


def summary_markdown(summary: Mapping[str, Any]) -> str:
    """Scores, and the metric per corruption and severity, as Markdown."""
    scores, grid, top = summary['scores'], summary['grid'], top_of(summary)
    relative = summary.get('corruption_errors')
    subset = ' (over a subset of the benchmark)' if scores['subset'] else ''
    constants = f', constants {" and ".join(summary["constants"])}' if summary.get('constants') else ''
    lines = [f'{summary["metric"]}, {summary["images"]} images{subset}{constants}', '']
    head = ['clean P', 'mPC', 'rPC', *scores['families']]
    row = [value_text(scores['clean'], top=top), value_text(scores['mpc'], top=top), percent_text(scores['rpc'])]
    row += [value_text(value, top=top) for value in scores['families'].values()]
    if relative:
        head += [f'mCE ({relative["reference"]} = 100 %)', 'relative mCE']
        row += [percent_text(relative['mce']), percent_text(relative['relative_mce'])]
    lines += _table(head, [row])
    values = {(cell['corruption'], cell['severity']): cell['value'] for cell in summary['cells']}
    columns = ['corruption', *(f'severity {level}' for level in grid['severities']), 'mean']
    rows = []
    for name in grid['corruptions']:
        cells = [value_text(values.get((name, level)), top=top) for level in grid['severities']]
        row = [name, *cells, value_text(scores['corruptions'].get(name), top=top)]
        rows.append([*row, percent_text(relative['ce'].get(name))] if relative else row)
    lines += ['', *_table([*columns, 'CE'] if relative else columns, rows)]
    by_class = summary.get('by_class')
    if by_class:
        rows = [
            [name, *(value_text(found[key], top=top) for key in ('clean', 'mpc')), percent_text(found['rpc'])]
            for name, found in by_class['classes'].items()
        ]
        mean = f'mean of per-class rPC, over {by_class["over"]} classes'
        lines += ['', *_table(['class', 'clean P', 'mPC', 'rPC'], rows)]
        lines += ['', f'{mean}: {percent_text(by_class["mean_class_rpc"])}']
    if summary.get('left_out'):
        lines += ['', f'Images left out of every cell: {len(summary["left_out"])}', '']
        lines += [f'- {bad["reason"]}' for bad in summary['left_out']]
    if scores['missing']:
        lines += ['', f'Missing cells: {", ".join(scores["missing"])}']
    return '\n'.join(lines) + '\n'


def cells_csv(results: Iterable[CellResult]) -> str:
    """One line per cell and a column per metric, empty where it is undefined.

    Example:
        >>> print(cells_csv([CellResult(Cell('fog', 1), {'mAP': 0.5}, images=10, seconds=1.0)]).strip())
        corruption,severity,images,seconds,mAP
        fog,1,10,1.0,0.5
    """
    results = list(results)
    names = list(dict.fromkeys(name for result in results for name in result.metrics))
    text = io.StringIO()
    writer = csv.writer(text, lineterminator='\n')
    writer.writerow(['corruption', 'severity', 'images', 'seconds', *names])
    for result in results:
        values = [result.metrics.get(name) for name in names]
        writer.writerow(
            [
                result.cell.corruption,
                result.cell.severity,
                result.images,
                round(result.seconds, 3),
                *('' if value is None else value for value in values),
            ]
        )
    return text.getvalue()


def _table(head: list[str], rows: Iterable[list[str]]) -> list[str]:
    lines = [head, ['---', *['---:'] * (len(head) - 1)], *rows]
    return ['| ' + ' | '.join(cell.replace('|', '\\|') for cell in line) + ' |' for line in lines]
