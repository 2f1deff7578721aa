"""How often bounds on a failure probability fall below it, on cases whose probability is known.

    python benchmarks/certification_bound.py [--repeats 500] [--record NAME]

A repeat draws 1,000 discrepancies Z, in 10 groups of 100 as CC-Cert's published script does, from a distribution for
which P(Z >= d) is known, and bounds that probability five ways: CC-Cert in float64 with geometric temperatures (ours),
as in the published code, with temperatures up to 100, with temperatures up to what the draws support (ours), and by
Clopper and Pearson from the number of Z >= d at 99.9 % confidence. Three distributions:

    jump    Z = 0.6 with probability p, else 0.05; d = 0.4: a transform that changes everything, rarely
    tail    Z ~ Beta(1, 20), d = 1 - p^(1/20): a smooth tail
    edge    Z = U / 2 with U ~ U(0, 1), d = (1 - p) / 2: failures at the end of a range, as of an angle

What is recorded is the share of repeats in which the bound is below p, for which an image would be certified at
eps = p though it is not, and the median bound. ``--record`` writes benchmarks/results/certification_bound_NAME.json and
its table into docs/certify.md.
"""

from __future__ import annotations

import argparse
from pathlib import Path
from typing import Any

import numpy as np
import torch
from tqdm import tqdm

from mmsharp.command_line import run
from mmsharp.engine.costs.machine import machine, versions
from mmsharp.files import replace_marked, write_json
from mmsharp.robustness.certification import (
    capped_temperatures,
    chernoff_bound,
    clopper_pearson_upper,
    smallest_supported_rate,
)

ROOT = Path(__file__).parents[1]
DOCUMENT = ROOT / 'docs' / 'certify.md'
DRAWS, GROUPS, SEED, CONFIDENCE = 100, 10, 0, 0.999
RATES = (1e-1, 1e-2, 1e-3, 1e-4)
CASES = ('jump', 'tail', 'edge')
BOUNDS = {
    'ours': 'CC-Cert',
    'official': "CC-Cert, `compat='official'`",
    'cap_100': 'capped at 100',
    'supported': "capped, `'supported'`",
    'exact': 'Clopper-Pearson',
}
PIECE = 50
"""Repeats at a time, which bounds the memory."""


def sample(case: str, rate: float, repeats: int, generator: np.random.Generator) -> tuple[np.ndarray, float]:
    """Discrepancies of shape (repeats, groups, draws), and the margin that they reach with the given probability."""
    shape = (repeats, GROUPS, DRAWS)
    if case == 'jump':
        return np.where(generator.random(shape) < rate, 0.6, 0.05), 0.4
    if case == 'tail':
        return generator.beta(1, 20, shape), 1 - rate ** (1 / 20)
    return generator.random(shape) / 2, (1 - rate) / 2


def bounds(discrepancies: np.ndarray, margin: float) -> dict[str, np.ndarray]:
    """Every bound of every repeat."""
    Z = torch.from_numpy(discrepancies)
    d = torch.full((len(Z),), margin, dtype=torch.float64)
    total = DRAWS * GROUPS
    return {
        'ours': chernoff_bound(Z, d).numpy(),
        'official': chernoff_bound(Z, d, compat='official').double().numpy(),
        'cap_100': chernoff_bound(Z, d, temperatures=capped_temperatures(d, total, 100.0)).numpy(),
        'supported': chernoff_bound(Z, d, temperatures=capped_temperatures(d, total, 'supported')).numpy(),
        'exact': clopper_pearson_upper((discrepancies >= margin).sum(axis=(1, 2)), total, CONFIDENCE),
    }


def measure(repeats: int) -> list[dict[str, Any]]:
    """One entry per distribution and rate."""
    entries = []
    cells = [(case, rate) for case in CASES for rate in RATES]
    for number, (case, rate) in enumerate(tqdm(cells, unit='case')):
        generator = np.random.default_rng([SEED, number])
        found: dict[str, list[np.ndarray]] = {name: [] for name in BOUNDS}
        for start in range(0, repeats, PIECE):
            Z, margin = sample(case, rate, min(PIECE, repeats - start), generator)
            for name, values in bounds(Z, margin).items():
                found[name].append(values)
        joined = {name: np.concatenate(values) for name, values in found.items()}
        entries.append(
            dict(
                case=case,
                rate=rate,
                below={name: float((values < rate).mean()) for name, values in joined.items()},
                median={name: float(np.median(values)) for name, values in joined.items()},
            )
        )
    return entries


def render(record: dict[str, Any]) -> str:
    """The record as a table in Markdown."""
    total = record['draws'] * record['groups']
    lines = [
        '| eps = true rate | distribution | ' + ' | '.join(BOUNDS.values()) + ' |',
        '|---:|---|' + '---:|' * len(BOUNDS),
    ]
    for rate in RATES:
        mark = '' if rate >= smallest_supported_rate(total) else ' \\*'
        for entry in record['entries']:
            if entry['rate'] == rate:
                cells = [f'{100 * entry["below"][name]:.1f} % ({entry["median"][name]:.2g})' for name in BOUNDS]
                lines.append(f'| {rate:g}{mark} | {entry["case"]} | ' + ' | '.join(cells) + ' |')
    lines += [
        '',
        f'Share of {record["repeats"]} repeats whose bound is below the true rate, and the median bound; '
        f'{record["draws"]} draws in each of {record["groups"]} groups, delta 0.9, Clopper-Pearson at '
        f'{100 * record["confidence"]:g} % confidence, seed {record["seed"]}. \\* not supported by {total} draws. '
        f'Machine: {record["machine"]["processor"]}, torch {record["versions"]["torch"]}, scipy '
        f'{record["versions"]["scipy"]}.',
    ]
    return '\n'.join(lines)


def parse_args() -> argparse.Namespace:
    """Read the command line."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument('--repeats', type=int, default=500, help='of every case (default: 500)')
    parser.add_argument('--record', metavar='NAME', help='write the record and the table of the document')
    args = parser.parse_args()
    if args.repeats < 1:
        parser.error('--repeats has to be at least 1')
    return args


def main() -> None:
    """Measure and print; write where asked."""
    args = parse_args()
    record = dict(
        machine=machine(),
        versions=versions(('torch', 'numpy', 'scipy')),
        repeats=args.repeats,
        draws=DRAWS,
        groups=GROUPS,
        confidence=CONFIDENCE,
        seed=SEED,
        entries=measure(args.repeats),
    )
    print(render(record))
    if args.record:
        write_json(ROOT / 'benchmarks' / 'results' / f'certification_bound_{args.record}.json', record)
        replace_marked(DOCUMENT, f'certification_bound_{args.record}', render(record))


if __name__ == '__main__':
    run(main)
