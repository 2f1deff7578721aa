"""The record of a survey as a page of the documentation."""

from __future__ import annotations

import math
from collections.abc import Mapping
from statistics import median
from typing import Any

from mmsharp.engine.prunability.families import FAMILIES, TOOLBOXES

ENOUGH = 0.4
"""The share of parameters that is to be removable at the ratio of the survey."""
QUICK = 10.0
"""Seconds that finding the groups of a network of ResNet-50's size may take."""
RESNET50 = 26e6
"""Parameters of a network of that size."""


def render(record: Mapping[str, Any]) -> str:
    """The whole page, in Markdown; the same record gives the same page."""
    parts = [_introduction(record), _summary(record)]
    for toolbox in TOOLBOXES:
        rows = [row for row in record['rows'] if row['toolbox'] == toolbox]
        if rows:
            parts.append(_table(toolbox, rows))
    parts += [_explained(record['rows']), _slow(record['rows']), _changes(record['rows']), _outside()]
    return '\n\n'.join(part for part in parts if part) + '\n'


def _introduction(record: Mapping[str, Any]) -> str:
    place, settings = record['machine'], record['settings']
    packages = ', '.join(f'{name} {version}' for name, version in record['versions'].items() if version)
    sizes = ', '.join(f'{size} ({toolbox})' for toolbox, size in settings['sizes'].items())
    return f"""# Prunability

<!-- rendered from benchmarks/results/prunability.json by tools/analysis_tools/prunability.py; do not edit -->

One config of every family in the toolboxes' packaged config folders: the narrowest and shallowest network that has the
part the family is named after. Each is built with random weights (nothing is left at zero or one), its channel groups
are found, the share {settings['ratio']:g} of the channels of every group is masked, at random, and it passes if

1. the masked and the slim network give the same outputs, up to 1e-5 of their scale, in float64 (in float32 where an
   operator has no other);
2. the slim network takes a training step with `mmsharp.SAMOptimWrapper` on fabricated annotations, with a finite loss;
3. a new process that builds it from config and recipe gets the same outputs.

*Parameters* and *MACs* are the shares removed; *backbone* is the share of the backbone's parameters that lie in some
group; *seconds* is the processor time of finding the groups in one thread, how long it takes on an idle core. Images
have {sizes} pixels a side (or what the network insists on), batches are not padded further, and a region
proposal network hands on at most 50 proposals, boxes without area among them; MACs are counted at that size.

Machine: {place['processor']}, {place['cores']} cores, one thread per process, {place['system']}, Python
{place['python']}; {packages}; seed {settings['seed']}."""


def _summary(record: Mapping[str, Any]) -> str:
    lines = [
        '| | families | pass | of these with at least 40 % of the parameters removed | groups found in at most 10 s |',
        '|---|---:|---:|---:|---:|',
    ]
    for toolbox in TOOLBOXES:
        rows = [row for row in record['rows'] if row['toolbox'] == toolbox]
        passed = [row for row in rows if row['status'] == 'pass']
        enough = [row for row in passed if row['params_removed'] >= ENOUGH]
        if rows:
            quick = [row for row in rows if (row.get('seconds_for_groups') or math.inf) <= QUICK]
            lines.append(f'| {toolbox} | {len(rows)} | {len(passed)} | {len(enough)} | {len(quick)} |')
    return '\n'.join(lines)


def _table(toolbox: str, rows: list[dict[str, Any]]) -> str:
    lines = [
        f'## {toolbox}',
        '',
        '| config | result | parameters | MACs | backbone | difference | seconds |',
        '|---|---|---:|---:|---:|---:|---:|',
    ]
    for row in rows:
        result = 'pass' if row['status'] == 'pass' else f'**fails** ({row["stage"]})'
        shares = [_share(row.get(key)) for key in ('params_removed', 'macs_removed', 'backbone_in_groups')]
        difference = '' if row.get('difference') is None else f'{row["difference"]:.0e}'
        seconds = '' if row.get('seconds_for_groups') is None else f'{row["seconds_for_groups"]:.1f}'
        lines.append(f'| {row["config"]} | {result} | {" | ".join(shares)} | {difference} | {seconds} |')
    return '\n'.join(lines)


def _share(value: float | None) -> str:
    return '' if value is None else f'{value:.0%}'


def _explained(rows: list[dict[str, Any]]) -> str:
    """By name: what failed and why, and what keeps the parameters of those below the target."""
    failed = [row for row in rows if row['status'] != 'pass']
    short = [row for row in rows if row['status'] == 'pass' and row['params_removed'] < ENOUGH]
    lines: list[str] = []
    if failed:
        lines += ['## What fails', '', '| config | stage | reason |', '|---|---|---|']
        lines += [f'| {row["config"]} | {row["stage"]} | {_cell(row["reason"])} |' for row in failed]
    if short:
        lines += ['', '## What stays dense', '']
        lines += ['Networks that lose less than 40 % of their parameters, and what holds most of the rest.', '']
        lines += ['| config | parameters removed | held by |', '|---|---:|---|']
        for row in short:
            held = '; '.join(
                f'{entry["reason"]} ({entry["layers"]} layer{"s"[: entry["layers"] > 1]}, '
                f'{entry["parameters"] / row["parameters"]:.0%} of the parameters)'
                for entry in row['dense'][:3]
            )
            note = _note(row)
            lines.append(f'| {row["config"]} | {row["params_removed"]:.0%} | {_cell(held)}{note and f". {note}"} |')
    return '\n'.join(lines).strip()


def _slow(rows: list[dict[str, Any]]) -> str:
    """By name and size: whose groups took longer than they should."""
    timed = [row for row in rows if row.get('seconds_for_groups') is not None]
    slow = sorted((row for row in timed if row['seconds_for_groups'] > QUICK), key=lambda row: row['config'])
    if not slow:
        return ''
    small = sorted(
        (row for row in timed if row['parameters'] <= RESNET50), key=lambda row: row['seconds_for_groups'], reverse=True
    )
    lines = [
        f'## Groups found in more than {QUICK:g} s',
        '',
        'Groups are tried out on slim copies in float64, so that the time goes with the size of the network and the '
        "number of groups. Networks of at most ResNet-50's 26 million parameters take "
        + (_longest(small) if small else 'less.'),
        '',
        '| config | seconds | parameters | MACs | groups |',
        '|---|---:|---:|---:|---:|',
    ]
    for row in slow:
        macs = '' if row.get('macs') is None else f'{row["macs"] / 1e9:.1f} G'
        size = f'{row["parameters"] / 1e6:.0f} M | {macs} | {row["groups"]}'
        lines.append(f'| {row["config"]} | {row["seconds_for_groups"]:.1f} | {size} |')
    return '\n'.join(lines)


def _longest(rows: list[dict[str, Any]]) -> str:
    """The median, and the longest by name; rows come with the longest first."""
    seconds = [row['seconds_for_groups'] for row in rows]
    macs = '' if rows[0].get('macs') is None else f', which computes {rows[0]["macs"] / 1e9:.1f} G'
    return f'{median(seconds):.1f} s in the median and at most {seconds[0]:.1f} s ({rows[0]["config"]}{macs}).'


def _note(row: Mapping[str, Any]) -> str:
    """What the family's architecture is to blame for."""
    family = FAMILIES[row['toolbox']].get(row.get('family', ''))
    return '' if family is None or family.note is None else family.note


def _changes(rows: list[dict[str, Any]]) -> str:
    """What was changed in configs that the toolbox itself, or a step of two passes, does not take as they are."""
    changed = [row for row in rows if row.get('options')]
    if not changed:
        return ''
    lines = [
        '## Changed configs',
        '',
        'The toolbox itself does not build (without a download), run or train these as they are, or a step of two '
        'passes refuses them.',
        '',
    ]
    lines += ['| config | change |', '|---|---|']
    for row in changed:
        options = ', '.join(f'`{name}={value}`' for name, value in row['options'].items())
        lines.append(f'| {row["config"]} | {options} |')
    return '\n'.join(lines)


def _cell(text: str) -> str:
    """Text that cannot break a table: one line, no bars, not endless."""
    text = ' '.join(text.split()).replace('|', '\\|').replace('<', '&lt;')
    return text if len(text) <= 300 else f'{text[:297]}...'


def _outside() -> str:
    lines = ['## Out of scope', '', '| family | reason |', '|---|---|']
    for toolbox in TOOLBOXES:
        for name, family in FAMILIES[toolbox].items():
            if family.config is None:
                lines.append(f'| {toolbox}: {name} | {family.reason} |')
    return '\n'.join(lines)
