"""``report.html``: what a robustness evaluation found, in one file that can be sent to anybody."""

from collections.abc import Iterable, Mapping, Sequence
from itertools import groupby
from pathlib import Path
from typing import Any

from mmsharp.files import write_text
from mmsharp.robustness import FAMILY_MEMBERS
from mmsharp.visualization.certification_section import marked_section
from mmsharp.visualization.curves import severity_curves
from mmsharp.visualization.heat_map import heat_map, sequential
from mmsharp.visualization.numbers import count_text, milliseconds_text, percent_text, top_of, value_text
from mmsharp.visualization.page import card, escape, page, table
from mmsharp.visualization.pictures import SamplePicture, data_uri

ORIGINS = {
    'computed': 'Every corrupted pixel depends on seed, image, corruption and severity alone.',
    'tree': 'The corrupted images were read from a tree of pictures.',
    'arrays': 'The corrupted images were read from arrays.',
}
"""By the source of the corrupted images, in the identity."""
SEVERITIES_OF = {'imagenet': 'ImageNet-C', 'cifar': 'CIFAR-10-C (images of 32x32 pixels)'}
"""By the constants of the images."""


def write_report(
    path: str | Path,
    summary: Mapping[str, Any],
    pictures: Sequence[SamplePicture] = (),
    certification: Mapping[str, Any] | None = None,
) -> None:
    """Write the report of one evaluation: identity, scores, heat map, families, curves and sample pictures.

    The page holds everything inline, asks for nothing and runs no script.

    Args:
        path: Where to write.
        summary: The content of ``summary.json``; see :func:`mmsharp.robustness.summarize`.
        pictures: Sample pictures, those of one image in a row.
        certification: The content of ``certification.json``, where the same model was certified too.
    """
    title = f'Corruption robustness of {summary.get("checkpoint") or "a model"}'
    write_text(Path(path), page(title, _body(summary, pictures, certification)))


def _body(
    summary: Mapping[str, Any], pictures: Sequence[SamplePicture], certification: Mapping[str, Any] | None
) -> Iterable[str]:
    scores = summary['scores']
    grid, top = summary['grid'], top_of(summary) or 1.0
    values = {(cell['corruption'], cell['severity']): cell['value'] for cell in summary['cells']}
    config = f'config <code>{escape(summary["config"])}</code>, ' if summary.get('config') else ''
    yield f'<h1>Corruption robustness of <code>{escape(summary.get("checkpoint", "a model"))}</code></h1>'
    yield (
        f'<p class="soft">{config}metric <code>{escape(summary["metric"])}</code>, {summary["images"]} images, '
        f'{len(grid["corruptions"])} corruptions '
        f'at severities {escape(", ".join(map(str, grid["severities"])) or "none")}</p>'
    )
    yield _cards(summary)
    yield from _notes(summary)
    if grid['severities']:
        yield '<div class="two"><div><h2>Every corruption at every severity</h2>'
        clean = value_text(scores['clean'], top=top)
        yield f'<p class="soft">{escape(summary["metric"])}; the clean images give {clean}.</p>'
        yield heat_map(values, grid['corruptions'], grid['severities'], sequential(top), top=top)
        yield '</div><div><h2>By family</h2>'
        yield _family_table(scores, top)
        yield '<h2>Over severity</h2>'
        yield _curves(values, scores, grid)
        yield '</div></div>'
    if summary.get('by_class'):
        yield from _class_table(summary['by_class'], top)
    yield marked_section(certification)
    if pictures:
        yield '<h2>What the model sees and says</h2>'
        yield '<p class="soft">Test images as the model got them, with its own predictions.</p>'
        for image, group in groupby(pictures, key=lambda picture: picture.image):
            yield f'<h3>{escape(image)}</h3><div class="gallery">'
            yield from (_figure(picture) for picture in group)
            yield '</div>'
    yield '<h2>What these numbers are</h2>'
    yield (
        '<p>P is the metric on clean images. mPC is its mean over the corruptions and severities, clean not included; '
        'rPC = mPC / P (Michaelis et al. 2019, arXiv 1907.07484). Corruptions are those of ImageNet-C (Hendrycks and '
        f'Dietterich 2019, arXiv 1903.12261). {ORIGINS[summary["identity"].get("source", "computed")]}'
        f'{_severities(summary.get("constants") or ())}</p>'
    )
    yield _identity(summary)


def _severities(constants: Sequence[str]) -> str:
    names = ' and '.join(SEVERITIES_OF.get(name, name) for name in constants)
    return f' The severities are those of {escape(names)}.' if names else ''


def _cards(summary: Mapping[str, Any]) -> str:
    scores, model, top = summary['scores'], summary.get('model') or {}, top_of(summary)
    cards = [
        card(value_text(scores['clean'], top=top), 'clean P'),
        card(value_text(scores['mpc'], top=top), 'mPC' + (' (subset)' if scores['subset'] else '')),
        card(percent_text(scores['rpc']), 'rPC = mPC / P'),
    ]
    relative = summary.get('corruption_errors')
    if relative:
        cards.append(card(percent_text(relative['mce']), f'mCE, {escape(relative["reference"])} = 100 %'))
    if model:
        cards += [
            card(count_text(model.get('parameters')), 'parameters'),
            card(count_text(model.get('macs')), 'MACs per image'),
            card(milliseconds_text(model.get('latency_ms')), f'per image on {model.get("device", "?")}'),
        ]
    return f'<div class="cards">{"".join(cards)}</div>'


def _notes(summary: Mapping[str, Any]) -> Iterable[str]:
    scores = summary['scores']
    if scores['subset']:
        names = ', '.join(scores['over'])
        yield (
            f'<p class="note">mPC and rPC are means over a chosen part of the benchmark ({escape(names)}; severities '
            f'{escape(", ".join(scores["severities"]) or "none")}), so they are not comparable with published '
            'figures.</p>'
        )
    if scores['missing']:
        cells = escape(', '.join(scores['missing']))
        yield f'<p class="note">Missing cells, left out of no average but making it undefined: {cells}.</p>'
    left_out = summary.get('left_out')
    if left_out:
        reasons = ''.join(f'<li>{escape(bad["reason"])}</li>' for bad in left_out)
        yield f'<p class="note">Left out of every cell, {len(left_out)} images:</p><ul>{reasons}</ul>'


def _class_table(by_class: Mapping[str, Any], top: float) -> Iterable[str]:
    rows = [
        (escape(name), *(value_text(found[key], top=top) for key in ('clean', 'mpc')), percent_text(found['rpc']))
        for name, found in by_class['classes'].items()
    ]
    yield '<h2>Classes</h2>'
    yield table(('class', 'clean P', 'mPC', 'rPC'), rows)
    yield (
        f'<p>Mean of per-class rPC over {by_class["over"]} classes: {percent_text(by_class["mean_class_rpc"])}. '
        'The rPC above is the ratio of means, another number.</p>'
    )


def _family_table(scores: Mapping[str, Any], top: float) -> str:
    clean = scores['clean']
    rows = []
    named = {**scores['families'], **({'holdout': scores['holdout']} if scores['holdout'] is not None else {})}
    for name, value in named.items():
        kept = value / clean if value is not None and clean else None
        width = 0 if kept is None else min(max(kept, 0.0), 1.2) * 7
        bar = f'<span class="bar" style="width:{width:.2f}rem;background:var(--{name})"></span>'
        rows.append((escape(name), value_text(value, top=top), percent_text(kept), f'<span class="soft">{bar}</span>'))
    return table(('family', 'mean', 'of clean', ''), rows)


def _curves(values: Mapping[tuple[str, int], float | None], scores: Mapping[str, Any], grid: Mapping[str, Any]) -> str:
    def curve(names: Sequence[str]) -> dict[int, float | None]:
        points: dict[int, float | None] = {0: scores['clean']} if grid['clean'] else {}
        for level in grid['severities']:
            row = [values.get((name, level)) for name in names]
            known = [value for value in row if value is not None]
            points[level] = sum(known) / len(known) if known and len(known) == len(row) else None
        return points

    members = {family: [name for name in names if name in scores['over']] for family, names in FAMILY_MEMBERS.items()}
    curves = {family: curve(names) for family, names in members.items() if names}
    curves['mean'] = curve(scores['over'])
    return severity_curves(curves, {name: f'var(--{name})' for name in curves})


def _figure(picture: SamplePicture) -> str:
    return (
        f'<figure><img src="{data_uri(picture.pixels)}" alt="{escape(picture.cell)}" loading="lazy">'
        f'<figcaption><b>{escape(picture.cell)}</b> {escape(picture.caption)}</figcaption></figure>'
    )


def _identity(summary: Mapping[str, Any]) -> str:
    rows = []
    for name, value in summary['identity'].items():
        if isinstance(value, Mapping):
            value = ', '.join(f'{key} {version}' for key, version in value.items())
        rows.append((escape(name), f'<code>{escape(value)}</code>'))
    notes = (summary.get('model') or {}).get('notes')
    extra = f'<p class="soft">{escape(notes)}</p>' if notes else ''
    return f'<details open><summary>Identity of this evaluation</summary>{table(("", ""), rows)}{extra}</details>'
