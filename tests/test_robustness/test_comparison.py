"""Compared runs are scored over the same cells, and what keeps them from being comparable is said."""

import pytest

from mmsharp.errors import MmsharpError
from mmsharp.files import write_json
from mmsharp.robustness import SEVERITIES, Cell, CellResult, Grid, ResultStore, compare_runs, load_results, summarize
from mmsharp.visualization import comparison_text


def _write(folder, values, corruptions, severities, seed=0, checkpoint='a'):
    grid = Grid.of(corruptions, severities)
    with ResultStore(folder, {'checkpoint_sha256': checkpoint, 'seed': seed}) as store:
        for cell in grid.cells:
            store.append(CellResult(cell, {'coco/bbox_mAP': values(cell)}, 10, 1.0))
        summary = summarize(store.finished, grid, store.identity)
    write_json(folder / 'summary.json', summary | {'model': {'parameters': 100}})
    return folder


def _dense(cell):
    return 0.5 - 0.05 * cell.severity


def _slim(cell):
    return 0.4 - (0.02 if cell.corruption == 'fog' else 0.04) * cell.severity


def test_differences_are_to_the_first_run_cell_by_cell(tmp_path):
    """Scores and cells, longhand."""
    first = _write(tmp_path / 'dense', _dense, ['fog', 'snow'], [0, 1, 2])
    second = _write(tmp_path / 'slim', _slim, ['fog', 'snow'], [0, 1, 2], checkpoint='b')
    comparison = compare_runs([first, second])
    assert [run['name'] for run in comparison['runs']] == ['dense', 'slim']
    difference = comparison['differences'][0]
    assert difference['clean'] == pytest.approx(-0.1)
    assert comparison['runs'][0]['scores']['mpc'] == pytest.approx(0.425)
    assert difference['mpc'] == pytest.approx((0.38 + 0.36 + 0.36 + 0.32) / 4 - 0.425)
    assert difference['rpc'] == pytest.approx(0.355 / 0.4 - 0.425 / 0.5)
    cells = {(cell['corruption'], cell['severity']): cell['value'] for cell in difference['cells']}
    assert cells[('fog', 2)] == pytest.approx(0.36 - 0.40)
    assert cells[('clean', 0)] == pytest.approx(-0.1)
    assert comparison['notes'] == []


def test_different_grids_are_compared_over_what_they_share(tmp_path):
    """Both are scored anew over the common cells, and a note says so."""
    first = _write(tmp_path / 'a', _dense, ['fog', 'snow'], [0, 1, 2])
    second = _write(tmp_path / 'b', _slim, ['fog', 'frost'], [0, 2, 3], seed=1)
    comparison = compare_runs([first, second], names=['x', 'y'])
    assert comparison['grid'] == {'corruptions': ['fog'], 'severities': [2], 'clean': True}
    assert comparison['runs'][0]['scores']['mpc'] == pytest.approx(_dense(Cell('fog', 2)))
    assert comparison['notes'] == [
        'the runs were evaluated over different cells; compared are those that all of them have',
        'y against x: seed: was 0, is 1',
    ]


def test_what_cannot_be_compared_is_refused(tmp_path):
    """Unfinished runs, foreign folders, no common cell, wrong numbers of names, unknown metrics."""
    first = _write(tmp_path / 'a', _dense, ['fog'], [0, 1])
    second = _write(tmp_path / 'b', _dense, ['snow'], [0, 1])
    with pytest.raises(MmsharpError, match='share no cell'):
        compare_runs([first, second])
    with pytest.raises(MmsharpError, match=r'no finished robustness evaluation.*summary.json'):
        compare_runs([first, tmp_path])
    with pytest.raises(MmsharpError, match='1 names for 2 runs'):
        compare_runs([first, first], names=['a'])
    with pytest.raises(MmsharpError, match='not all different'):
        compare_runs([first, first], names=['a', 'a'])
    with pytest.raises(MmsharpError, match=r"run 'x': metric 'mAP' was not evaluated"):
        compare_runs([first, first], names=['x', 'y'], metric='mAP')


@pytest.mark.parametrize(
    ('file', 'content'),
    [
        ('identity.json', '{"seed": '),
        ('identity.json', '[]'),
        ('summary.json', '{"metric": "coco'),
        ('summary.json', '[1, 2]'),
        ('summary.json', '{}'),
        ('summary.json', '{"metric": 1, "grid": {"corruptions": [], "severities": [], "clean": true}}'),
        ('summary.json', '{"metric": "mAP", "grid": []}'),
        ('summary.json', '{"metric": "mAP", "grid": {"corruptions": ["fog"]}}'),
        ('summary.json', '{"metric": "mAP", "grid": {"corruptions": [["fog"]], "severities": [1], "clean": true}}'),
        ('summary.json', '{"metric": "mAP", "grid": {"corruptions": [], "severities": [], "clean": true}, "model": 1}'),
        (
            'summary.json',
            '{"metric": "mAP", "grid": {"corruptions": [], "severities": [], "clean": true}, "model": {"macs": "9"}}',
        ),
    ],
)
def test_a_damaged_file_of_a_run_is_named(tmp_path, file, content):
    """On one line, with what to do about it."""
    first = _write(tmp_path / 'a', _dense, ['fog'], [0, 1])
    second = _write(tmp_path / 'b', _dense, ['fog'], [0, 1])
    (second / file).write_text(content)
    with pytest.raises(MmsharpError, match='again in this folder') as caught:
        compare_runs([first, second])
    assert str(second / file) in str(caught.value)
    assert '\n' not in str(caught.value)


def test_cells_that_a_run_lacks_are_noted(tmp_path):
    """A torn last line is no result; the averages that need it are undefined, and the table says why and what to do."""
    first = _write(tmp_path / 'a', _dense, ['fog'], [0, 1])
    second = _write(tmp_path / 'b', _dense, ['fog'], [0, 1])
    lines = (second / 'results.jsonl').read_text()
    (second / 'results.jsonl').write_text(lines[:-20])
    compared = compare_runs([first, second])
    assert compared['runs'][1]['scores']['mpc'] is None
    (note,) = compared['notes']
    assert note.startswith('b lacks 1 of the 2 compared cells (fog/1)')
    assert str(second) in note


def test_corruption_errors_are_relative_to_the_first_run(tmp_path):
    """For accuracies, longhand; for other metrics there are none."""
    grid = Grid.of(['fog', 'snow'], [0, 1, 2])
    runs = {'dense': {0: 90.0, 1: 80.0, 2: 60.0}, 'slim': {0: 80.0, 1: 70.0, 2: 60.0}}
    for name, values in runs.items():
        with ResultStore(tmp_path / name, {'seed': 0}) as store:
            for cell in grid.cells:
                store.append(CellResult(cell, {'accuracy/top1': values[cell.severity]}, 10, 1.0))
            write_json(
                tmp_path / name / 'summary.json', summarize(store.finished, grid, store.identity) | {'model': {}}
            )
    difference = compare_runs([tmp_path / 'dense', tmp_path / 'slim'])['differences'][0]['corruption_errors']
    assert difference['reference'] == 'dense'
    assert difference['mce'] == pytest.approx((0.3 + 0.4) / (0.2 + 0.4))
    assert difference['relative_mce'] == pytest.approx((0.7 - 2 * 0.2) / (0.6 - 2 * 0.1))
    first = _write(tmp_path / 'a', _dense, ['fog'], [0, 1])
    assert compare_runs([first, first], ['x', 'y'])['differences'][0]['corruption_errors'] is None


def test_on_imagenet_the_published_measure_stands_beside(tmp_path):
    """Relative to AlexNet, as in each run's own summary; for other data there is none."""
    grid = Grid.of('benchmark', [0, *SEVERITIES])
    for name, is_imagenet in (('a', True), ('b', True), ('other', False)):
        with ResultStore(tmp_path / name, {'seed': 0}) as store:
            for cell in grid.cells:
                store.append(CellResult(cell, {'accuracy/top1': 76.0 if cell.is_clean else 40.0}, 10, 1.0))
            summary = summarize(store.finished, grid, store.identity, is_imagenet=is_imagenet) | {'model': {}}
            write_json(tmp_path / name / 'summary.json', summary)
    compared = compare_runs([tmp_path / 'a', tmp_path / 'b'])
    expected = summarize(load_results(tmp_path / 'b')[1], grid, {}, is_imagenet=True)['corruption_errors']['mce']
    assert [run['corruption_errors']['mce'] for run in compared['runs']] == [expected, expected]
    assert 'mCE to AlexNet' in comparison_text(compared)
    assert f'{100 * expected:.1f}' in comparison_text(compared)
    other = compare_runs([tmp_path / 'other', tmp_path / 'b'])
    assert other['runs'][0]['corruption_errors'] is None
