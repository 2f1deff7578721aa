"""The table of compared runs says the same in text, Markdown, HTML and JSON."""

import json

from mmsharp.robustness import Grid, score
from mmsharp.visualization import comparison_markdown, comparison_text, write_comparison
from mmsharp.visualization.comparison import comparison_rows


def _run(name, shift, parameters):
    grid = Grid.of(['fog', 'snow'], [0, 1])
    values = {cell: 0.5 + shift - 0.1 * cell.severity for cell in grid.cells}
    cells = [{'corruption': c.corruption, 'severity': c.severity, 'value': values[c]} for c in grid.cells]
    return {
        'name': name,
        'model': {'parameters': parameters, 'macs': None, 'latency_ms': 10.0},
        'scores': score(values, grid).to_dict(),
        'cells': cells,
    }


COMPARISON = {
    'metric': 'coco/bbox_mAP',
    'grid': {'corruptions': ['snow', 'fog'], 'severities': [1], 'clean': True},
    'runs': [_run('dense', 0.0, 1000), _run('<slim|>', 0.1, 400)],
    'differences': [
        {
            'name': '<slim|>',
            **{'clean': 0.1, 'mpc': 0.1, 'rpc': 0.5 / 0.6 - 0.4 / 0.5},
            'cells': [{**cell, 'value': 0.1} for cell in _run('', 0.0, 0)['cells']],
        }
    ],
    'notes': ['seed: was 0, is 1'],
}


def test_rows_longhand():
    """Sizes with their share of the first run's, scores, and signed differences in points."""
    first, second = comparison_rows(COMPARISON)
    assert first == ('dense', '1.00 k', '–', '10.0 ms', '0.500', '0.400', '80.0 %', '–', '–', '–')
    assert second[:4] == ('<slim|>', '400 (0.40x)', '–', '10.0 ms')
    assert second[4:] == ('0.600', '0.500', '83.3 %', '+0.100', '+0.100', '+3.3')


def test_text_and_markdown_hold_every_row_and_note():
    """Bars in names do not break the Markdown table."""
    text = comparison_text(COMPARISON)
    assert 'dense' in text
    assert 'note: seed: was 0, is 1' in text
    markdown = comparison_markdown(COMPARISON)
    assert '<slim\\|>' in markdown
    assert '- seed: was 0, is 1' in markdown


def test_files_are_written_and_escaped(tmp_path):
    """JSON as given; names as text in HTML."""
    write_comparison(tmp_path / 'new', COMPARISON)
    assert json.loads((tmp_path / 'new' / 'compare.json').read_text()) == COMPARISON
    page = (tmp_path / 'new' / 'compare.html').read_text()
    assert '&lt;slim|&gt; less dense, per cell' in page
    assert '<slim' not in page
    assert page.count('+0.100') >= 4
