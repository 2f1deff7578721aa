"""A figure of what pruning did over layers and time: sparsity ratio, pruning ratio, and the share that came back."""

from __future__ import annotations

import os
from collections.abc import Mapping, Sequence
from typing import Any

import numpy as np

from mmsharp.files import appearing_whole

DOTS_PER_INCH = 120
PANELS = (
    ('sparsity_ratio', 'sparsity ratio'),
    ('pruning_ratio', 'pruning ratio'),
    ('returned', 'came back, of the zeroed'),
)
STEPS_WITH_NAMES, GROUPS_WITH_NAMES = 12, 80


def ratios_over_time(
    lines: Sequence[Mapping[str, Any]],
) -> tuple[list[str], list[int], dict[str, list[list[float | None]]]]:
    """The lines of ``psap.jsonl`` as tables.

    Returns:
        Groups, iterations, and per quantity of :data:`PANELS` a row per group with a value per iteration; ``None``
        where there is none, such as a share of no channels.

    Example:
        >>> line = dict(iteration=4, group='stem', sparsity_ratio=0.25, pruning_ratio=0.5, zeroed=4, protected=1)
        >>> ratios_over_time([line])
        (['stem'], [4], {'sparsity_ratio': [[0.25]], 'pruning_ratio': [[0.5]], 'returned': [[0.25]]})
    """
    groups = list(dict.fromkeys(line['group'] for line in lines))
    iterations = sorted({line['iteration'] for line in lines})
    known = {(line['group'], line['iteration']): line for line in lines}

    def value(quantity: str, line: Mapping[str, Any] | None) -> float | None:
        if line is None:
            return None
        if quantity == 'returned':
            return line['protected'] / line['zeroed'] if line['zeroed'] else None
        return line[quantity]

    tables = {
        quantity: [[value(quantity, known.get((group, step))) for step in iterations] for group in groups]
        for quantity, _ in PANELS
    }
    return groups, iterations, tables


def draw_pruning_ratios(path: str | os.PathLike[str], lines: Sequence[Mapping[str, Any]]) -> None:
    """Draw three panels, groups down and steps across, as a PNG file that is written whole.

    Args:
        path: Where to write.
        lines: Of ``psap.jsonl``, at least one.
    """
    from matplotlib.backends.backend_agg import FigureCanvasAgg
    from matplotlib.figure import Figure

    groups, iterations, tables = ratios_over_time(lines)
    figure = Figure(figsize=(12.0, min(24.0, 2.0 + 0.18 * len(groups))), layout='constrained')
    FigureCanvasAgg(figure)
    panels = figure.subplots(1, len(PANELS), sharey=True)
    for axes, (quantity, title) in zip(panels, PANELS):
        values = np.array([[np.nan if v is None else v for v in row] for row in tables[quantity]], dtype=float)
        shown = axes.imshow(values, aspect='auto', cmap='viridis', vmin=0.0, vmax=1.0, interpolation='nearest')
        axes.set_title(title, fontsize=10)
        axes.set_xlabel('iteration of the pruning step')
        every = max(1, -(-len(iterations) // STEPS_WITH_NAMES))
        axes.set_xticks(range(0, len(iterations), every), [str(step) for step in iterations[::every]], rotation=90)
    if len(groups) <= GROUPS_WITH_NAMES:
        panels[0].set_yticks(range(len(groups)), groups, fontsize=7)
    figure.colorbar(shown, ax=panels, label='share')
    with appearing_whole(path) as part:
        figure.savefig(part, dpi=DOTS_PER_INCH, format='png')
