"""``certification.md``, ``certification.csv`` and the text that a tool prints, with the draws beside every eps."""

from __future__ import annotations

import csv
import io
from collections.abc import Iterable, Mapping, Sequence
from pathlib import Path
from typing import Any

from mmsharp.files import write_text
from mmsharp.visualization.numbers import percent_text

UNSUPPORTED = '*'
"""Behind a failure rate that the draws cannot speak of."""
COLUMNS = (
    *('transform', 'images', 'clean_accuracy', 'empirical_robust_accuracy', 'grid_points', 'changed', 'eps', 'draws'),
    *('supported', 'pca', 'pca_capped', 'exact', 'confidence'),
)


def write_certification_tables(folder: str | Path, summary: Mapping[str, Any]) -> None:
    """Write both files into a folder.

    Args:
        folder: Exists.
        summary: The content of ``certification.json``.
    """
    write_text(Path(folder) / 'certification.md', certification_markdown(summary['transforms']))
    write_text(Path(folder) / 'certification.csv', certification_csv(summary['transforms']))


def rate_text(at: Mapping[str, Any]) -> str:
    """A failure rate, flagged where the draws do not support it.

    Args:
        at: ``eps`` and ``supported``.

    Example:
        >>> rate_text(dict(eps=0.001, supported=False)), rate_text(dict(eps=0.01, supported=True))
        ('0.001 *', '0.01')
    """
    return f'{at["eps"]:g}' + ('' if at['supported'] else f' {UNSUPPORTED}')


def certification_rows(transforms: Iterable[Mapping[str, Any]]) -> list[list[str]]:
    """One row of text per transform and failure rate.

    Args:
        transforms: What :meth:`mmsharp.robustness.CertificationScores.to_dict` gives for each.

    Example:
        >>> at = dict(eps=0.001, draws=1000, supported=False, pca=0.5, pca_capped=0.0, exact=0.0)
        >>> scores = dict(transform='blur:1', images=4, clean_accuracy=1.0, empirical_robust_accuracy=None, eps=[at])
        >>> certification_rows([scores])
        [['blur:1', '100.0 %', '–', '0.001 *', '1000', '50.0 %', '0.0 %', '0.0 %']]
    """
    return [
        [
            scores['transform'],
            percent_text(scores['clean_accuracy']),
            percent_text(scores['empirical_robust_accuracy']),
            rate_text(at),
            str(at['draws']),
            *(percent_text(at[name]) for name in ('pca', 'pca_capped', 'exact')),
        ]
        for scores in transforms
        for at in scores['eps']
    ]


def certification_head(confidence: float) -> list[str]:
    """What the columns of :func:`certification_rows` are.

    Example:
        >>> certification_head(0.999)[3:]
        ['eps', 'draws', 'PCA (CC-Cert)', 'PCA, capped', 'exact, 99.9 % confidence']
    """
    columns = ['transform', 'clean', 'on the grid', 'eps', 'draws', 'PCA (CC-Cert)', 'PCA, capped']
    return [*columns, f'exact, {100 * confidence:g} % confidence']


def certification_notes(transforms: Sequence[Mapping[str, Any]]) -> list[str]:
    """What has to be said under every table.

    Example:
        >>> at = dict(eps=0.001, draws=1000, supported=False)
        >>> certification_notes([dict(eps=[at])])[1]
        '* not supported by 1000 draws, which say nothing of rates below 5 / draws.'
    """
    notes = [
        'Clean: share of images that are classified rightly as they are; on the grid: so, and on all points of a grid '
        'over the parameters. PCA: share that is right and whose bound on the probability of another prediction is '
        'below eps. CC-Cert estimates that bound from the draws and can be below the truth; capped is the same with a '
        'limited temperature, by default so that it claims no rate below 5 / draws; exact is the Clopper-Pearson bound '
        'from the number of draws that are predicted otherwise, of each image by itself.'
    ]
    draws = sorted({at['draws'] for scores in transforms for at in scores['eps'] if not at['supported']})
    if draws:
        counts = ', '.join(f'{count}' for count in draws)
        notes.append(f'{UNSUPPORTED} not supported by {counts} draws, which say nothing of rates below 5 / draws.')
    return notes


def certification_markdown(transforms: Sequence[Mapping[str, Any]]) -> str:
    r"""The table with its notes, as Markdown.

    Example:
        >>> at = dict(eps=0.001, draws=1000, supported=False, pca=0.5, pca_capped=0.0, exact=0.0)
        >>> scores = dict(transform='blur:1', images=4, clean_accuracy=1.0, empirical_robust_accuracy=None, eps=[at])
        >>> print(certification_markdown([dict(scores, confidence=0.999)]))
        4 images
        <BLANKLINE>
        | transform | clean | on the grid | eps | draws | PCA (CC-Cert) | PCA, capped | exact, 99.9 % confidence |
        ...
        | blur:1 | 100.0 % | – | 0.001 \* | 1000 | 50.0 % | 0.0 % | 0.0 % |
        ...
    """
    head = certification_head(transforms[0]['confidence'])
    rows = [row.copy() for row in certification_rows(transforms)]
    for row in rows:
        row[3] = row[3].replace(UNSUPPORTED, f'\\{UNSUPPORTED}')
    rule = ['---', *['---:'] * (len(head) - 1)]
    lines = ['| ' + ' | '.join(row) + ' |' for row in [head, rule, *rows]]
    notes = [note.replace(UNSUPPORTED, f'\\{UNSUPPORTED}') for note in certification_notes(transforms)]
    return '\n'.join([f'{transforms[0]["images"]} images', '', *lines, '', *notes]) + '\n'


def certification_text(transforms: Sequence[Mapping[str, Any]]) -> str:
    """The table for a terminal.

    Example:
        >>> at = dict(eps=0.001, draws=1000, supported=False, pca=0.5, pca_capped=0.0, exact=0.0)
        >>> scores = dict(transform='blur:1', images=4, clean_accuracy=1.0, empirical_robust_accuracy=None, eps=[at])
        >>> print(certification_text([dict(scores, confidence=0.999)]))
        4 images
        transform    clean  on the grid      eps  draws  PCA (CC-Cert)  PCA, capped  exact, 99.9 % confidence
        blur:1     100.0 %            –  0.001 *   1000         50.0 %        0.0 %                     0.0 %
        * not supported by 1000 draws, which say nothing of rates below 5 / draws.
    """
    rows = [certification_head(transforms[0]['confidence']), *certification_rows(transforms)]
    widths = [max(len(row[column]) for row in rows) for column in range(len(rows[0]))]
    lines = [
        '  '.join(cell.ljust(width) if column == 0 else cell.rjust(width) for column, (cell, width) in enumerate(pairs))
        for pairs in (list(zip(row, widths, strict=True)) for row in rows)
    ]
    flags = certification_notes(transforms)[1:]
    return '\n'.join([f'{transforms[0]["images"]} images', *lines, *flags])


def certification_csv(transforms: Iterable[Mapping[str, Any]]) -> str:
    """One line per transform and failure rate, with numbers as numbers.

    Example:
        >>> at = dict(eps=0.001, draws=1000, supported=False, pca=0.5, pca_capped=0.0, exact=0.0)
        >>> scores = dict(transform='blur:1', images=4, clean_accuracy=1.0, empirical_robust_accuracy=None, eps=[at])
        >>> print(certification_csv([scores]))
        transform,images,clean_accuracy,empirical_robust_accuracy,grid_points,changed,eps,draws,supported,pca,...
        blur:1,4,1.0,,,,0.001,1000,False,0.5,0.0,0.0,
    """
    text = io.StringIO()
    writer = csv.DictWriter(text, COLUMNS, lineterminator='\n', extrasaction='ignore')
    writer.writeheader()
    for scores in transforms:
        for at in scores['eps']:
            writer.writerow({**scores, **at})
    return text.getvalue()
