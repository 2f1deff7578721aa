"""The certification in ``report.html``: a section between marks, put into a report that is there or into a new one."""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from pathlib import Path
from typing import Any

from mmsharp.errors import MmsharpError
from mmsharp.files import replace_marked, write_text
from mmsharp.robustness.certification import smallest_supported_rate
from mmsharp.visualization.certification_tables import (
    UNSUPPORTED,
    certification_head,
    certification_notes,
    certification_rows,
)
from mmsharp.visualization.certified_curves import certified_curves, curve_legend
from mmsharp.visualization.page import escape, page, table

MARK = 'certification'
ALONE = 'certification.html'
"""Beside a report that has no place for the section."""


def write_certification_report(path: str | Path, summary: Mapping[str, Any]) -> None:
    """Put the section into a report of a corruption grid, or write a report of its own where there is none.

    Args:
        path: The report.
        summary: The content of ``certification.json``, with ``config``, ``checkpoint`` where they are known.
    """
    path = Path(path)
    if path.is_file():
        try:
            replace_marked(path, MARK, certification_section(summary))
            return
        except MmsharpError:
            path = path.with_name(ALONE)  # a report without a place for it, of an earlier version, is kept
    model = summary.get('checkpoint') or 'a model'
    config = f'config <code>{escape(summary["config"])}</code>' if summary.get('config') else ''
    body = [
        f'<h1>Robustness of <code>{escape(model)}</code></h1>',
        f'<p class="soft">{config}</p>',
        marked_section(summary),
    ]
    write_text(path, page(f'Robustness of {model}', body))


def marked_section(summary: Mapping[str, Any] | None) -> str:
    r"""The section, or its empty place, between the marks.

    Example:
        >>> marked_section(None)
        '<!-- certification -->\n<!-- end of certification -->'
    """
    section = f'{certification_section(summary)}\n' if summary else ''
    return f'<!-- {MARK} -->\n{section}<!-- end of {MARK} -->'


def certification_section(summary: Mapping[str, Any]) -> str:
    """Heading, curves and table of a certification, as HTML."""
    return '\n'.join(_parts(summary))


def _parts(summary: Mapping[str, Any]) -> Iterable[str]:
    transforms = summary['transforms']
    settings = summary['settings']
    draws = transforms[0]['draws']
    yield '<h2>Certified under random transforms</h2>'
    yield (
        f'<p class="soft">{transforms[0]["images"]} images; {draws} draws each ({settings["groups"]} groups of '
        f'{settings["draws"]}), which say nothing of failure rates below {smallest_supported_rate(draws):g}; seed '
        f'{settings["seed"]}.</p>'
    )
    if settings.get('compat'):
        yield (
            '<p class="note">CC-Cert’s bound is computed as in the published code, with its temperatures and in '
            'float32, to be put beside published numbers.</p>'
        )
    yield '<div class="two">'
    for scores in transforms:
        rate = smallest_supported_rate(scores['draws'])
        yield f'<figure><figcaption><b>{escape(scores["transform"])}</b></figcaption>'
        yield certified_curves(scores['bounds'], scores['images'], rate, scores['transform'])
        yield '</figure>'
    yield '</div>'
    yield curve_legend()
    rows = []
    for row in certification_rows(transforms):
        cells = [escape(cell) for cell in row]
        if UNSUPPORTED in cells[3]:
            cells[3:6] = [f'<span class="soft">{cell}</span>' for cell in cells[3:6]]
        rows.append(cells)
    yield table(certification_head(transforms[0]['confidence']), rows)
    for note in certification_notes(transforms):
        yield f'<p class="soft">{escape(note)}</p>'
    yield (
        '<p>CC-Cert: Pautov et al. 2022, arXiv 2109.10696. Its bound replaces an expectation by the mean of the draws '
        'and is no guarantee; read the exact column where it matters.</p>'
    )
