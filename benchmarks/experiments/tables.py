"""What a record says, as Markdown."""

from __future__ import annotations

from collections.abc import Iterable, Mapping, Sequence
from pathlib import Path
from statistics import mean, mode, stdev
from typing import Any

from .figures import draw_gain_over_cost, draw_over_parameters
from .gains import BASELINE, gains
from .methods import METHODS
from .performing import BALL, SHARPNESS_BATCHES


def table(found: Sequence[Mapping[str, Any]], methods: Iterable[str] = tuple(METHODS)) -> str:
    """Mean and standard deviation over the seeds, per budget, criterion and method, as Markdown.

    The gain is that in mPC over plain training with the same seeds, so far as both have run with them.
    """
    lines = [
        '| parameters kept | MACs kept | criterion | method | seeds | clean | mPC | gain | rPC | sharpness '
        '| cost of training |',
        '|---:|---:|---|---|---:|---:|---:|---:|---:|---|---:|',
    ]
    keys = sorted({(line['budget'], line['criterion']) for line in found}, reverse=True)
    for budget, criterion in keys:
        here = [line for line in found if (line['budget'], line['criterion']) == (budget, criterion)]
        plain = [training_cost(line) for line in here if line['method'] == BASELINE]
        for method in methods:
            lots = [line for line in here if line['method'] == method]
            if not lots:
                continue
            costs = [dict(ratio=training_cost(line) / mean(plain)) for line in lots] if plain else []
            cells = [
                *(f'{mean(line[kept] for line in lots):.1%}' for kept in ('parameters', 'macs')),
                criterion,
                method,
                str(len(lots)),
                spread(lots, 'clean'),
                spread(lots, 'mpc'),
                _gain(found, method, criterion, budget),
                f'{100 * mean(line["rpc"] for line in lots):.1f} %',
                _sharpness(lots),
                spread(costs, 'ratio', 2) + 'x' if costs else '',
            ]
            lines.append(f'| {" | ".join(cells)} |')
    return '\n'.join(lines)


def _gain(found: Sequence[Mapping[str, Any]], method: str, criterion: str, budget: float) -> str:
    added = [] if method == BASELINE else gains(found, method, criterion, budget)
    if not added:
        return ''
    digits = 3 if max(line['mpc'] for line in found) <= 1 else 2
    text = f'{mean(added):+.{digits}f}'
    return f'{text} ± {stdev(added):.{digits}f}' if len(added) > 1 else text


def _sharpness(lines: Sequence[Mapping[str, Any]]) -> str:
    """From phase to phase, where every line has it."""
    known = [line['sharpness'] for line in lines if line.get('sharpness')]
    if len(known) < len(lines):
        return ''
    return ', '.join(spread(known, phase, 3 if len(known) == 1 else 1) for phase in known[0])


def render(
    found: Sequence[Mapping[str, Any]],
    name: str,
    document: Path,
    methods: Iterable[str] = tuple(METHODS),
    images: str = 'test images',
) -> str:
    """What the lines were measured on, their table, and their figures, which are drawn into files beside a document.

    Args:
        found: Lines of a record.
        name: Of the record and of the figures.
        document: The Markdown file that will hold the text.
        methods: The order of the rows.
        images: What was evaluated on.
    """
    parts = [setup(found, images), table(found, methods)]
    if len({line['method'] for line in found}) > 1:
        unit = '%' if max(line['mpc'] for line in found) > 1 else 'mAP'
        figures = document.parent / 'figures'
        draw_gain_over_cost(found, figures / f'{name}_cost.svg', 'points' if unit == '%' else unit, training_cost)
        parts.append(f'![gain over cost](figures/{name}_cost.svg)')
        if len({line['budget'] for line in found}) > 1:
            draw_over_parameters(found, figures / f'{name}_parameters.svg', unit)
            parts.append(f'![mPC over parameters](figures/{name}_parameters.svg)')
    return '\n\n'.join(parts)


def setup(found: Sequence[Mapping[str, Any]], images: str = 'test images') -> str:
    """On what and how the lines of a record were measured, as a sentence.

    Example:
        >>> line = dict(method='SGD', data='10 images', epochs=2, seed=0, images=5, cells=[{}], wrapper={})
        >>> setup([dict(line, machine=dict(gpu=None, processor='Z80', cores=1), versions=dict(torch='2.11'))])
        'Z80, 1 cores, torch 2.11, float32; 10 images, 2 epochs, seeds 0; 5 test images, 1 cells.'
    """
    first = found[0]
    machines = {_name(line['machine']) for line in found}
    epochs = {line['method']: line['epochs'] for line in found}
    usual = mode(epochs.values())
    longer = ', '.join(f'{method}: {count}' for method, count in epochs.items() if count != usual)
    precision = 'mixed precision' if 'Amp' in first['wrapper'].get('type', '') else 'float32'
    return (
        f'{", ".join(sorted(machines))}, {first["machine"]["cores"]} cores, torch {first["versions"]["torch"]}, '
        f'{precision}; {first["data"]}, {usual} epochs{longer and f" ({longer})"}, '
        f'seeds {", ".join(map(str, sorted({line["seed"] for line in found})))}; {first["images"]} {images}, '
        f'{len(first["cells"])} cells.{_about_sharpness(first)}'
    )


def _name(machine: Mapping[str, Any]) -> str:
    if machine['gpu']:
        return str(machine['gpu'])
    vectors = machine.get('vectors')
    return f'{machine["processor"]} ({vectors})' if vectors else str(machine['processor'])


def _about_sharpness(line: Mapping[str, Any]) -> str:
    if not line.get('sharpness'):
        return ''
    return (
        f" Sharpness: {', '.join(line['sharpness'])}; in ASAM's ball of radius {BALL['rho']}, on {SHARPNESS_BATCHES} "
        'batches of training data.'
    )


def training_cost(line: Mapping[str, Any]) -> float:
    """Seconds: of the clock with a GPU, of the processors without, where other work would count otherwise."""
    return line['train_seconds'] if line['machine'].get('gpu') else line['train_cpu_seconds']


def spread(lines: Sequence[Mapping[str, Any]], key: str, digits: int | None = None) -> str:
    """Mean, with the standard deviation where there are several; by default two digits, and three of fractions.

    Example:
        >>> spread([dict(mpc=70.0), dict(mpc=72.0)], 'mpc')
        '71.00 ± 1.41'
    """
    values = [float(line[key]) for line in lines]
    if digits is None:
        digits = 3 if max(values) <= 1 else 2
    text = f'{mean(values):.{digits}f}'
    return f'{text} ± {stdev(values):.{digits}f}' if len(values) > 1 else text
