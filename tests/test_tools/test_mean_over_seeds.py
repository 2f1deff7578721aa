"""The command that puts the seeds of one method together."""

import importlib.util
import sys
from pathlib import Path

import pytest

from mmsharp.command_line import run
from mmsharp.files import write_json
from mmsharp.robustness import Cell, CellResult, Grid, ResultStore, summarize

TOOL = Path(__file__).parents[2] / 'tools/analysis_tools/mean_over_seeds.py'


@pytest.fixture
def call(monkeypatch):
    """The tool with these arguments, as users call it."""
    spec = importlib.util.spec_from_file_location('tool_mean_over_seeds', TOOL)
    tool = importlib.util.module_from_spec(spec)
    spec.loader.exec_module(tool)

    def with_arguments(*arguments):
        monkeypatch.setattr(sys, 'argv', [str(TOOL), *map(str, arguments)])
        run(tool.main)

    return with_arguments


def _write(folder: Path, clean: float) -> Path:
    """A finished run, with half of the clean value on corrupted images."""
    grid = Grid.of(['fog'], [0, 3])
    with ResultStore(folder, {'checkpoint_sha256': folder.name}) as store:
        for cell in grid.cells:
            value = clean if cell == Cell('clean', 0) else clean / 2
            store.append(CellResult(cell, {'coco/bbox_mAP': value}, 10, 1.0))
        summary = summarize(store.finished, grid, store.identity)
    write_json(folder / 'summary.json', summary)
    return folder


def test_a_row_per_method(tmp_path, call, capsys):
    """From the folders of the runs to a table, printed and written."""
    clean = dict(dense=0.5, sgd_seed0=0.30, sgd_seed1=0.34, sgd_seed2=0.38)
    runs = [_write(tmp_path / name, value) for name, value in clean.items()]
    call(*runs, '--out', tmp_path / 'tables/seeds.md')
    printed = capsys.readouterr().out
    assert '| dense | 1 | 0.500 | 0.250 | 50.0 % |\n' in printed
    assert '| sgd | 3 | 0.340 ± 0.040 | 0.170 ± 0.020 | 50.0 ± 0.0 % |\n' in printed
    assert (tmp_path / 'tables/seeds.md').read_text(encoding='utf-8') in printed


def test_bad_input_is_one_line(tmp_path, call, capsys):
    """Runs without seeds in their names, and folders without a run."""
    runs = [_write(tmp_path / name, 0.5) for name in ('dense', 'slim')]
    for arguments, said in ((runs, 'sgd_seed0'), ([tmp_path], 'holds no finished robustness evaluation')):
        with pytest.raises(SystemExit) as ended:
            call(*arguments)
        assert ended.value.code == 2
        assert said in capsys.readouterr().err
