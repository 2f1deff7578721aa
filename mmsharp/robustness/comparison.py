"""Compare evaluated models: the same cells, the same metric, and the difference to the first of them."""

from collections.abc import Sequence
from pathlib import Path
from textwrap import shorten
from types import NoneType
from typing import Any

from mmsharp.errors import MmsharpError
from mmsharp.files import read_json
from mmsharp.robustness.corruption_errors import corruption_errors, errors_from_accuracies, is_accuracy
from mmsharp.robustness.corruptions import NAMES
from mmsharp.robustness.grid import Cell, Grid
from mmsharp.robustness.results import AGAIN, CellResult, describe_differences, is_number, load_results
from mmsharp.robustness.summary import choose_metric, summarize

SUMMARY = 'summary.json'
MAY_DIFFER = ('checkpoint_sha256', 'config_sha256')
"""What is expected to differ between compared models; any other difference of identity is noted."""


def compare_runs(
    folders: Sequence[str | Path], names: Sequence[str] | None = None, metric: str | None = None
) -> dict[str, Any]:
    """Read finished runs and compare them over the cells that all of them evaluated.

    Args:
        folders: Results folders; the first is the baseline.
        names: What to call the runs; by default the folders' names.
        metric: The metric to compare; by default the one that the first run was scored by.

    Returns:
        In JSON types: ``metric``, ``grid``, ``runs`` (per run ``name``, ``folder``, ``checkpoint``,
        ``source``, ``identity``, ``model``, ``scores``, ``cells``, ``constants``),
        ``differences`` (per further run ``clean``, ``mpc``, ``rpc`` and ``cells``, each less the first run's, and for
        accuracies ``corruption_errors`` relative to the first run's), and ``notes`` on what keeps the runs from being
        comparable.

    Raises:
        MmsharpError: If a folder holds no finished run or a damaged file, if names and folders differ in number or a
            name comes twice, or if the runs share no cell or lack the metric.
    """
    paths = [Path(folder) for folder in folders]
    titles = list(names) if names else _default_names(paths)
    if len(titles) != len(paths):
        raise MmsharpError(f'{len(titles)} names for {len(paths)} runs; give one name per run')
    if len(set(titles)) != len(titles):
        raise MmsharpError(f'the names {", ".join(titles)} are not all different; give --names')
    summaries = [_load_summary(path) for path in paths]
    loaded = [load_results(path) for path in paths]
    wanted = metric or summaries[0]['metric']
    for title, (_, finished) in zip(titles, loaded, strict=True):
        try:
            choose_metric(dict.fromkeys(name for result in finished.values() for name in result.metrics), wanted)
        except MmsharpError as error:
            raise MmsharpError(f'run {title!r}: {error}') from error
    grid, notes = _common_grid(titles, summaries)
    for title, (identity, _) in zip(titles[1:], loaded[1:], strict=True):
        notes += [
            f'{title} against {titles[0]}: {difference}'
            for difference in describe_differences(_comparable(loaded[0][0]), _comparable(identity))
        ]
    runs = [
        _run(title, path, summary, identity, finished, grid, wanted)
        for title, path, summary, (identity, finished) in zip(titles, paths, summaries, loaded, strict=True)
    ]
    first = runs[0]['constants']  # unknown of earlier versions' runs and of released trees
    notes += [_other_constants(run, runs[0]) for run in runs[1:] if first and run['constants'] not in ((), [], first)]
    notes += [_gaps(run, grid) for run in runs if run['scores']['missing']]
    return {
        'metric': wanted,
        'grid': {'corruptions': list(grid.corruptions), 'severities': list(grid.severities), 'clean': grid.clean},
        'runs': runs,
        'differences': [_difference(run, runs[0], grid, wanted) for run in runs[1:]],
        'notes': notes,
    }


def _run(
    name: str,
    folder: Path,
    summary: dict[str, Any],
    identity: dict[str, Any],
    finished: dict[Cell, CellResult],
    grid: Grid,
    metric: str,
) -> dict[str, Any]:
    known = summary.get('corruption_errors')
    is_imagenet = isinstance(known, dict) and known.get('reference') == 'AlexNet'
    fresh = summarize(finished, grid, identity, metric, is_imagenet)
    return {
        'name': name,
        'folder': str(folder),
        'checkpoint': summary.get('checkpoint'),
        'source': summary.get('source') or {},
        'identity': identity,
        'model': summary.get('model') or {},
        'scores': fresh['scores'],
        'corruption_errors': fresh['corruption_errors'],
        'cells': fresh['cells'],
        'constants': fresh['constants'],
    }


def _other_constants(run: dict[str, Any], first: dict[str, Any]) -> str:
    used = [' and '.join(each['constants']) for each in (run, first)]
    return f'{run["name"]} was corrupted with the constants {used[0]}, {first["name"]} with {used[1]}'


def _gaps(run: dict[str, Any], grid: Grid) -> str:
    missing = run['scores']['missing']
    names = shorten(', '.join(missing), 80)
    return (
        f'{run["name"]} lacks {len(missing)} of the {len(grid.cells)} compared cells ({names}), and every average over '
        f'them; start tools/test_robust.py again in {run["folder"]}'
    )


def _difference(run: dict[str, Any], first: dict[str, Any], grid: Grid, metric: str) -> dict[str, Any]:
    relative = None
    if is_accuracy(metric):
        errors = [errors_from_accuracies(_cell_values(each), metric) for each in (run, first)]
        relative = corruption_errors(errors[0], errors[1], grid, first['name']).to_dict()
    return {
        'name': run['name'],
        'corruption_errors': relative,
        **{key: _minus(run['scores'][key], first['scores'][key]) for key in ('clean', 'mpc', 'rpc')},
        'cells': [
            {**cell, 'value': _minus(cell['value'], base['value'])}
            for cell, base in zip(run['cells'], first['cells'], strict=True)
        ],
    }


def _cell_values(run: dict[str, Any]) -> dict[Cell, float | None]:
    return {Cell(cell['corruption'], cell['severity']): cell['value'] for cell in run['cells']}


def _minus(value: float | None, base: float | None) -> float | None:
    return None if value is None or base is None else value - base


def _default_names(paths: Sequence[Path]) -> list[str]:
    """The folders' own names or, where these are equal, with the folder above."""
    names = [path.resolve().name for path in paths]
    return names if len(set(names)) == len(names) else ['/'.join(path.resolve().parts[-2:]) for path in paths]


def _load_summary(folder: Path) -> dict[str, Any]:
    path = folder / SUMMARY
    if not path.is_file():
        raise MmsharpError(
            f'{folder} holds no finished robustness evaluation (no {SUMMARY}); run tools/test_robust.py to its end'
        )
    summary = read_json(path, AGAIN, keys=('metric', 'grid'))
    grid, model = summary['grid'], summary.get('model') or {}
    sound = isinstance(summary['metric'], str) and _is_grid(grid) and _is_model(model)
    if not sound or not isinstance(summary.get('checkpoint'), (str, NoneType)):
        raise MmsharpError(f'{str(path)!r} is no summary of tools/test_robust.py; {AGAIN}')
    return summary


def _is_model(model: Any) -> bool:
    """Whether it is what is known of a model's size: a number or nothing under each name."""
    if not isinstance(model, dict):
        return False
    values = [model.get(key) for key in ('parameters', 'macs', 'latency_ms')]
    return all(value is None or is_number(value) for value in values)


def _is_grid(grid: Any) -> bool:
    """Whether it is what :func:`summarize` writes under ``grid``."""
    if not isinstance(grid, dict) or not isinstance(grid.get('clean'), bool):
        return False
    kinds = {'corruptions': str, 'severities': int}
    return all(
        isinstance(grid.get(key), list) and all(isinstance(item, kind) for item in grid[key])
        for key, kind in kinds.items()
    )


def _common_grid(titles: Sequence[str], summaries: Sequence[dict[str, Any]]) -> tuple[Grid, list[str]]:
    grids = [summary['grid'] for summary in summaries]
    corruptions = set.intersection(*(set(grid['corruptions']) for grid in grids))
    severities = set.intersection(*(set(grid['severities']) for grid in grids))
    if not corruptions or (not severities and any(grid['severities'] for grid in grids)):
        raise MmsharpError(f'the runs {", ".join(titles)} share no cell; evaluate them over the same corruptions')
    clean = all(grid['clean'] for grid in grids)
    common = Grid(tuple(name for name in NAMES if name in corruptions), tuple(sorted(severities)), clean)
    notes = []
    if any(set(grid['corruptions']) != corruptions or set(grid['severities']) != severities for grid in grids):
        notes.append('the runs were evaluated over different cells; compared are those that all of them have')
    return common, notes


def _comparable(identity: dict[str, Any]) -> dict[str, Any]:
    return {key: value for key, value in identity.items() if key not in MAY_DIFFER}
