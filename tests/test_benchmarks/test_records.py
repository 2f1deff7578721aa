"""What the documents say was measured is what the committed records hold."""

import shutil
from pathlib import Path

import pytest

from mmsharp.errors import MmsharpError
from mmsharp.files import marked

ROOT = Path(__file__).parents[2]
RECORDS = sorted((ROOT / 'benchmarks' / 'results').glob('*.json*'))
ELSEWHERE = {'prunability.json', 'demo_digits_voc.json', 'demo_digits_folder.json'}
"""Records of a tool and of the demonstrations, which have tests of their own."""

pytestmark = pytest.mark.filterwarnings('ignore')  # the toolboxes warn of their own optional parts


@pytest.mark.parametrize('record', [path for path in RECORDS if path.name not in ELSEWHERE], ids=lambda path: path.stem)
def test_a_document_shows_its_record(record, benchmark, tmp_path, monkeypatch):
    """Its tables are rendered anew and stand there, figures are drawn, and every figure that is shown is there."""
    publishing = benchmark('experiments.publishing')
    try:
        script = benchmark(publishing.script_of(record))
    except ImportError as error:
        pytest.skip(f'a package is missing that this benchmark measures with: {error}')
    document = script.DOCUMENT
    shutil.copytree(document.parent, tmp_path / 'docs')
    monkeypatch.setattr(script, 'DOCUMENT', tmp_path / 'docs' / document.name)
    where, text = publishing.rendered(record)
    assert where == tmp_path / 'docs' / document.name
    assert marked(document, record.stem) == text.strip()
    shown = [line.split('](')[1].rstrip(')') for line in text.splitlines() if line.startswith('![')]
    assert all((tmp_path / 'docs' / name).stat().st_size > 0 for name in shown)
    assert all((document.parent / name).is_file() for name in shown)


def test_all_records_are_rendered_by_one_command(benchmark):
    """But for those that are not of the benchmarks."""
    found = benchmark('render_records').records()
    assert {path.name for path in found} == {path.name for path in RECORDS} - ELSEWHERE


def test_a_record_of_nobody_is_named(benchmark):
    """With how records are called."""
    with pytest.raises(MmsharpError, match=r'no benchmark has written .*other_cpu\.json'):
        benchmark('experiments.publishing').script_of(Path('other_cpu.json'))
