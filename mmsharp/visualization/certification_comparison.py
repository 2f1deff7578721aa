"""Certifications of compared models as text, Markdown and HTML."""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from typing import Any

from mmsharp.visualization.certification_tables import (
    UNSUPPORTED,
    certification_head,
    certification_notes,
    certification_rows,
)
from mmsharp.visualization.page import escape, table

TITLE = 'Certified under random transforms'


def compared_head(compared: Mapping[str, Any]) -> list[str]:
    """What the columns of :func:`compared_rows` are.

    Example:
        >>> compared_head(dict(transforms=[dict(transform='blur:1', runs=[dict(confidence=0.999)])]))[:4]
        ['transform', 'model', 'clean', 'on the grid']
    """
    transform, *rest = certification_head(_scores(compared)[0]['confidence'])
    return [transform, 'model', *rest]


def compared_rows(compared: Mapping[str, Any]) -> list[list[str]]:
    """One row of text per transform, failure rate and model, models that are to be compared one below the other.

    A model has no row for a rate that it was not certified at.

    Args:
        compared: What :func:`mmsharp.robustness.compare_certifications` gives, with one transform or more.

    Example:
        >>> at = dict(eps=0.01, draws=1000, supported=True, pca=0.5, pca_capped=0.25, exact=0.25)
        >>> shares = dict(clean_accuracy=1.0, empirical_robust_accuracy=None, eps=[at])
        >>> runs = [dict(shares, name=name) for name in ('dense', 'slim')]
        >>> [row[:3] for row in compared_rows(dict(transforms=[dict(transform='blur:1', runs=runs)]))]
        [['blur:1', 'dense', '100.0 %'], ['blur:1', 'slim', '100.0 %']]
    """
    rows = []
    for each in compared['transforms']:
        rates = sorted({at['eps'] for run in each['runs'] for at in run['eps']}, reverse=True)
        for rate in rates:
            for run in each['runs']:
                here = [at for at in run['eps'] if at['eps'] == rate]
                for transform, *rest in certification_rows([dict(run, transform=each['transform'], eps=here)]):
                    rows.append([transform, run['name'], *rest])
    return rows


def compared_text(compared: Mapping[str, Any]) -> list[str]:
    """Lines for a terminal."""
    lines = ['', TITLE]
    if compared['transforms']:
        rows = [compared_head(compared), *compared_rows(compared)]
        widths = [max(len(row[column]) for row in rows) for column in range(len(rows[0]))]
        for row in rows:
            pairs = enumerate(zip(row, widths, strict=True))
            lines.append('  '.join(cell.ljust(w) if at < 2 else cell.rjust(w) for at, (cell, w) in pairs))
    return [*lines, *(f'note: {note}' for note in _notes(compared)[1:])]


def compared_markdown(compared: Mapping[str, Any]) -> list[str]:
    """Lines of Markdown."""
    lines = ['', f'## {TITLE}', '']
    if compared['transforms']:
        head = compared_head(compared)
        rows = [head, ['---', '---', *['---:'] * (len(head) - 2)]]
        rows += [[_plain(cell.replace('|', '\\|')) for cell in row] for row in compared_rows(compared)]
        lines += ['| ' + ' | '.join(row) + ' |' for row in rows]
        lines.append('')
    return [*lines, *(f'- {_plain(note)}' for note in _notes(compared))]


def compared_html(compared: Mapping[str, Any]) -> Iterable[str]:
    """Parts of a page."""
    yield f'<h2>{TITLE}</h2>'
    if compared['transforms']:
        yield table(compared_head(compared), ([escape(cell) for cell in row] for row in compared_rows(compared)))
    for note in _notes(compared):
        yield f'<p class="soft">{escape(note)}</p>'


def _plain(text: str) -> str:
    """Markdown would take the mark for emphasis."""
    return text.replace(UNSUPPORTED, f'\\{UNSUPPORTED}')


def _scores(compared: Mapping[str, Any]) -> list[Mapping[str, Any]]:
    return [dict(run, transform=each['transform']) for each in compared['transforms'] for run in each['runs']]


def _notes(compared: Mapping[str, Any]) -> list[str]:
    """What the columns are, then what keeps the models from being comparable."""
    scores = _scores(compared)
    about = certification_notes(scores) if scores else ['no transform was certified in all of them']
    return [*about, *compared['notes']]
