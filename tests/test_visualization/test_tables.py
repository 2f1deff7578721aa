"""Tables of an evaluation: every value at its place, gaps as gaps, and what spreadsheets read back."""

import csv
import io

from mmsharp.robustness import Cell, CellResult, Grid, summarize
from mmsharp.visualization import cells_csv, summary_markdown, write_tables

GRID = Grid.of(['fog', 'shot_noise'], [0, 1, 5])


def _finished(metric, missing=()):
    return {
        cell: CellResult(
            cell, {metric: 80.0 - 10 * cell.severity, f'{metric}_cat, "tabby"': None}, images=10, seconds=1.2345
        )
        for cell in GRID.cells
        if str(cell) not in missing
    }


def _cells(line):
    return [cell.strip() for cell in line.strip('|').split('|')]


def test_markdown_of_an_imagenet_classifier():
    """Scores, AlexNet's ratio, and one row per corruption with its mean and its CE."""
    lines = summary_markdown(summarize(_finished('accuracy/top1'), GRID, {}, 'accuracy/top1', True)).splitlines()
    assert 'accuracy/top1' in lines[0]
    scores = dict(zip(_cells(lines[2]), _cells(lines[4])))
    assert (scores['clean P'], scores['mPC'], scores['rPC']) == ('80.0', '50.0', '62.5 %')
    fog, shot = (0.3 + 0.7) / (0.67474 + 0.94500), (0.3 + 0.7) / (0.71224 + 0.99146)
    assert scores['mCE (AlexNet = 100 %)'] == f'{50 * (fog + shot):.1f} %'
    rows = {_cells(line)[0]: _cells(line)[1:] for line in lines[8:10]}
    assert rows['fog'] == ['70.0', '30.0', '50.0', f'{100 * fog:.1f} %']
    assert set(rows) == {'fog', 'shot_noise'}


def test_markdown_of_anything_else():
    """No reference, no ratio; a gap is a dash and is named."""
    text = summary_markdown(summarize(_finished('pascal_voc/mAP', ['fog/5']), GRID, {}, 'pascal_voc/mAP', True))
    assert 'CE' not in text
    assert '| fog | 70.0 | – | – |' in text
    assert 'Missing cells: fog/5' in text


def test_csv_is_read_back(tmp_path):
    """Every metric of every cell, awkward names included; nothing where a value is undefined."""
    finished = _finished('accuracy/top1')
    write_tables(tmp_path, summarize(finished, GRID, {}, 'accuracy/top1'), finished)
    rows = list(csv.DictReader(io.StringIO((tmp_path / 'cells.csv').read_text())))
    assert len(rows) == len(GRID.cells)
    for row, cell in zip(rows, GRID.cells):
        assert Cell(row['corruption'], int(row['severity'])) == cell
        assert float(row['accuracy/top1']) == finished[cell].metrics['accuracy/top1']
        assert row['accuracy/top1_cat, "tabby"'] == ''
    assert (tmp_path / 'summary.md').read_text().startswith('accuracy/top1, 10 images')
    assert cells_csv([]).splitlines() == ['corruption,severity,images,seconds']
