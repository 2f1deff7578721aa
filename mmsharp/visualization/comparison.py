"""Models side by side: text for the terminal, Markdown for a README, HTML to look at, JSON to compute with."""

from collections.abc import Iterable, Mapping
from pathlib import Path
from typing import Any

from mmsharp.files import write_json, write_text
from mmsharp.visualization.certification_comparison import compared_html, compared_markdown, compared_text
from mmsharp.visualization.clean_against_corrupted import clean_against_corrupted
from mmsharp.visualization.heat_map import diverging, heat_map, sequential
from mmsharp.visualization.numbers import count_text, milliseconds_text, percent_text, top_of, value_text
from mmsharp.visualization.page import escape, page, table

HEAD = ('model', 'parameters', 'MACs', 'latency', 'clean P', 'mPC', 'rPC', 'Δ clean', 'Δ mPC', 'Δ rPC')
ERRORS = ('mCE', 'relative mCE')
"""Further columns where P is an accuracy: corruption errors relative to the first run's."""
PUBLISHED = 'mCE to AlexNet'
"""A further column on ImageNet: the published measure."""


def write_comparison(folder: str | Path, comparison: Mapping[str, Any]) -> None:
    """Write ``compare.json``, ``compare.md`` and ``compare.html``; see :func:`mmsharp.robustness.compare_runs`."""
    folder = Path(folder)
    folder.mkdir(parents=True, exist_ok=True)
    write_json(folder / 'compare.json', comparison)
    write_text(folder / 'compare.md', comparison_markdown(comparison))
    write_text(folder / 'compare.html', page('Corruption robustness compared', _body(comparison)))


def comparison_rows(comparison: Mapping[str, Any]) -> list[tuple[str, ...]]:
    """One row of texts per run, in the order of :func:`comparison_head`; sizes also as a share of the first run's."""
    first = comparison['runs'][0]['model']
    differences = [{}, *comparison['differences']]
    top = _top(comparison)
    rows: list[tuple[str, ...]] = []
    for run, difference in zip(comparison['runs'], differences, strict=True):
        model, scores = run['model'], run['scores']
        ratio = difference.get('rpc')
        relative = difference.get('corruption_errors') or dict.fromkeys(('mce', 'relative_mce'))
        errors = [percent_text(relative[key]) for key in ('mce', 'relative_mce')] if _has_errors(comparison) else []
        if _has_published_errors(comparison):
            errors.append(percent_text((run.get('corruption_errors') or {}).get('mce')))
        rows.append(
            (
                run['name'],
                _shared(count_text(model.get('parameters')), model.get('parameters'), first.get('parameters')),
                _shared(count_text(model.get('macs')), model.get('macs'), first.get('macs')),
                _shared(milliseconds_text(model.get('latency_ms')), model.get('latency_ms'), first.get('latency_ms')),
                value_text(scores['clean'], top=top),
                value_text(scores['mpc'], top=top),
                percent_text(scores['rpc']),
                value_text(difference.get('clean'), signed=True, top=top),
                value_text(difference.get('mpc'), signed=True, top=top),
                '–' if ratio is None else f'{100 * ratio:+.1f}',
                *errors,
            )
        )
    return rows


def comparison_head(comparison: Mapping[str, Any]) -> tuple[str, ...]:
    """The columns of the table."""
    errors = ERRORS if _has_errors(comparison) else ()
    return (*HEAD, *errors, *((PUBLISHED,) if _has_published_errors(comparison) else ()))


def _has_errors(comparison: Mapping[str, Any]) -> bool:
    return any(difference.get('corruption_errors') for difference in comparison['differences'])


def _has_published_errors(comparison: Mapping[str, Any]) -> bool:
    return any(run.get('corruption_errors') for run in comparison['runs'])


def comparison_text(comparison: Mapping[str, Any]) -> str:
    """The table for a terminal, with its notes."""
    head = comparison_head(comparison)
    rows = [head, *comparison_rows(comparison)]
    widths = [max(len(row[column]) for row in rows) for column in range(len(head))]
    lines = [
        '  '.join(text.ljust(width) if column == 0 else text.rjust(width) for column, (text, width) in enumerate(pairs))
        for pairs in (list(zip(row, widths, strict=True)) for row in rows)
    ]
    lines.insert(1, '-' * len(lines[0]))
    certified = comparison.get('certification')
    more = compared_text(certified) if certified else []
    return '\n'.join([_what(comparison), *lines, *(f'note: {note}' for note in comparison['notes']), *more, ''])


def comparison_markdown(comparison: Mapping[str, Any]) -> str:
    """The table and the means of every corruption as Markdown."""
    rows = comparison_rows(comparison)
    head = comparison_head(comparison)
    lines = [_what(comparison), '', _markdown_row(head), '|---|' + '---:|' * (len(head) - 1)]
    lines += [_markdown_row(row) for row in rows]
    names, top = [run['name'] for run in comparison['runs']], _top(comparison)
    lines += ['', _markdown_row(('corruption', *names)), '|---|' + '---:|' * len(names)]
    for corruption in comparison['grid']['corruptions']:
        found = (run['scores']['corruptions'].get(corruption) for run in comparison['runs'])
        values = [value_text(value, top=top) for value in found]
        lines.append(_markdown_row((corruption, *values)))
    lines += ['', *(f'- {note}' for note in comparison['notes'])]
    if comparison.get('certification'):
        lines += compared_markdown(comparison['certification'])
    return '\n'.join(lines).rstrip() + '\n'


def _markdown_row(cells: Iterable[str]) -> str:
    return '| ' + ' | '.join(cell.replace('|', '\\|') for cell in cells) + ' |'


def _what(comparison: Mapping[str, Any]) -> str:
    grid = comparison['grid']
    subset = ' (a subset of the benchmark)' if comparison['runs'][0]['scores']['subset'] else ''
    first = comparison['runs'][0]
    levels = ', '.join(map(str, grid['severities'])) or 'none'
    first = comparison['runs'][0]
    over, levels = len(first['scores']['over']), ', '.join(map(str, grid['severities'])) or 'none'
    return (
        f'P is {comparison["metric"]}; mPC over {over} corruptions at severities {levels}{subset}; '
        f'differences are to {first["name"]}{", whose corruption errors are 100 %" if _has_errors(comparison) else ""}'
    )


def _shared(text: str, value: float | None, first: float | None) -> str:
    if value is None or not first or value == first:
        return text
    return f'{text} ({value / first:.2f}x)'


def _body(comparison: Mapping[str, Any]) -> Iterable[str]:
    grid = comparison['grid']
    yield '<h1>Corruption robustness compared</h1>'
    yield f'<p class="soft">{escape(_what(comparison))}.</p>'
    yield table(comparison_head(comparison), ([escape(cell) for cell in row] for row in comparison_rows(comparison)))
    for note in comparison['notes']:
        yield f'<p class="note">{escape(note)}</p>'
    yield clean_against_corrupted(comparison['runs'])
    if comparison.get('certification'):
        yield from compared_html(comparison['certification'])
    if not grid['severities']:
        return
    first, top = comparison['runs'][0], _top(comparison)
    reach = max(
        (abs(cell['value']) for run in comparison['differences'] for cell in run['cells'] if cell['value'] is not None),
        default=1.0,
    )
    for run in comparison['differences']:
        yield f'<h2>{escape(run["name"])} less {escape(first["name"])}, per cell</h2>'
        yield '<p class="soft">Blue: better than the first run; red: worse.</p>'
        yield heat_map(_values(run['cells']), grid['corruptions'], grid['severities'], diverging(reach), True, top)
    for run in comparison['runs']:
        yield f'<details><summary>all values of {escape(run["name"])}</summary>'
        yield heat_map(_values(run['cells']), grid['corruptions'], grid['severities'], sequential(top), top=top)
        yield '</details>'


def _top(comparison: Mapping[str, Any]) -> float:
    """The largest value of all runs."""
    tops = [top_of(run) for run in comparison['runs']]
    return max((top for top in tops if top is not None), default=1.0)


def _values(cells: Iterable[Mapping[str, Any]]) -> dict[tuple[str, int], float | None]:
    return {(cell['corruption'], cell['severity']): cell['value'] for cell in cells}
