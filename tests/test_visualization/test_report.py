"""Reports are one file, escape what comes from outside, and print every value."""

import re
import shutil
import subprocess
from html.parser import HTMLParser

import numpy as np
import pytest

from mmsharp.files import write_json
from mmsharp.robustness import Cell, CellResult, Grid, ResultStore, compare_runs, summarize
from mmsharp.visualization import SamplePicture, write_comparison, write_report

VOID = {'meta', 'link', 'img', 'br'}


class Outline(HTMLParser):
    """Fails where tags do not match, and collects tags, attributes and text."""

    def __init__(self):
        super().__init__()
        self.open, self.tags, self.addresses, self.text = [], [], [], []

    def handle_starttag(self, tag, attrs):
        self.tags.append(tag)
        self.addresses += [value for name, value in attrs if name in ('src', 'href', 'srcset', 'action')]
        if tag not in VOID:
            self.open.append(tag)

    def handle_startendtag(self, tag, attrs):
        self.tags.append(tag)

    def handle_endtag(self, tag):
        assert self.open.pop() == tag, tag

    def handle_data(self, data):
        self.text.append(data)


def _summary(corruptions='all', severities=range(6), missing=(), scale=1.0):
    grid = Grid.of(corruptions, severities)
    finished = {
        cell: CellResult(cell, {'pascal_voc/mAP': scale * (0.8 - 0.1 * cell.severity)}, 10, 1.0)
        for cell in grid.cells
        if str(cell) not in missing
    }
    summary = summarize(finished, grid, {'seed': 0, 'versions': {'torch': '2.11.0'}})
    cost = {'parameters': 9_100_000, 'macs': 1.2e9, 'latency_ms': 31.4, 'device': 'cpu'}
    return summary | {'config': 'a<script>alert(1)</script>.py', 'checkpoint': 'b&c.pth', 'model': cost}


def _outline(path):
    outline = Outline()
    outline.feed(path.read_text(encoding='utf-8'))
    outline.close()
    assert outline.open == []
    return outline


@pytest.mark.parametrize(
    'summary',
    [
        _summary(),
        _summary(scale=100.0),
        _summary('fog', [0, 3]),
        _summary('noise', [1, 2], missing=('shot_noise/2',)),
        _summary('fog', [0]),
    ],
    ids=['whole', 'per cent', 'one cell', 'gap and no clean', 'clean only'],
)
def test_well_formed_self_contained_and_harmless(tmp_path, summary):
    """Tags match; nothing is fetched, nothing runs; names from outside appear as text."""
    pixels = np.zeros((32, 32, 3), np.uint8)
    pictures = [SamplePicture(Cell('fog', 3), '<i>.jpg', pixels, '"x" & <y>')]
    write_report(tmp_path / 'report.html', summary, pictures)
    outline = _outline(tmp_path / 'report.html')
    assert 'script' not in outline.tags
    assert 'i' not in outline.tags
    assert all(address.startswith('data:') for address in outline.addresses)
    text = ''.join(outline.text)
    assert 'a<script>alert(1)</script>.py' in text
    assert '"x" & <y>' in text
    style = (tmp_path / 'report.html').read_text()
    assert 'url(' not in style
    assert '@import' not in style
    assert 'prefers-color-scheme: dark' in style


def test_every_value_of_the_grid_is_printed(tmp_path):
    """95 cells and 19 means stand in the heat map as numbers, not only as colours."""
    write_report(tmp_path / 'report.html', _summary())
    cells = re.findall(r'<td class="(?:mean)?" style="background:[^"]*" title="[^"]*">([^<]*)</td>', _text(tmp_path))
    assert len(cells) == 19 * 6
    assert set(cells) == {'0.700', '0.600', '0.500', '0.400', '0.300'}


def test_a_gap_is_shown_as_a_gap(tmp_path):
    """The missing cell and its row's mean are dashes, and a note names the cell."""
    write_report(tmp_path / 'report.html', _summary('noise', [0, 1, 2], missing=('shot_noise/2',)))
    text = _text(tmp_path)
    assert text.count('class="missing"') == 2
    assert 'making it undefined: shot_noise/2' in text


def test_a_subset_is_called_one(tmp_path):
    """Only the whole benchmark is without the note."""
    write_report(tmp_path / 'report.html', _summary('fog', [0, 3]))
    assert 'not comparable with published' in _text(tmp_path)
    write_report(tmp_path / 'report.html', _summary())
    assert 'not comparable with published' not in _text(tmp_path)


def _write_pictured(folder):
    """A report with a picture in every corruption."""
    pixels = np.random.RandomState(0).randint(0, 256, (60, 80, 3), dtype=np.uint8)
    cells = Grid.of('all', [0, 3]).cells
    write_report(
        folder / 'page.html', _summary(), [SamplePicture(cell, 'one', pixels, '2 detections') for cell in cells]
    )


def _write_compared(folder):
    """A comparison of two runs."""
    for name, scale in (('dense', 1.0), ('slim', 0.9)):
        summary = _summary(scale=scale)
        with ResultStore(folder / name, summary['identity']) as store:
            for cell in summary['cells']:
                place = Cell(cell['corruption'], cell['severity'])
                store.append(CellResult(place, {'pascal_voc/mAP': cell['value']}, 10, 1.0))
        write_json(folder / name / 'summary.json', summary)
    write_comparison(folder, compare_runs([folder / 'dense', folder / 'slim']))
    (folder / 'compare.html').rename(folder / 'page.html')


@pytest.mark.slow
@pytest.mark.skipif(shutil.which('chromium') is None, reason='needs chromium')
@pytest.mark.parametrize('write', [_write_pictured, _write_compared])
def test_a_browser_renders_it_without_errors_or_requests(tmp_path, write):
    """Headless Chromium draws the page, logs no error and asks no host for anything."""
    write(tmp_path)
    options = ['--headless', '--no-sandbox', '--disable-gpu', '--no-first-run', '--disable-background-networking']
    options += ['--disable-component-update', '--disable-sync', f'--user-data-dir={tmp_path / "profile"}']
    options += ['--enable-logging=stderr', f'--screenshot={tmp_path / "page.png"}', '--window-size=1300,1400']
    page = f'file://{tmp_path / "page.html"}'
    finished = subprocess.run(['chromium', *options, page], capture_output=True, text=True, check=True, timeout=120)
    assert (tmp_path / 'page.png').stat().st_size > 50_000
    assert 'CONSOLE' not in finished.stderr
    addresses = _outline(tmp_path / 'page.html').addresses
    assert all(address.startswith(('data:', '#')) for address in addresses)


def _text(folder):
    return (folder / 'report.html').read_text(encoding='utf-8')
