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


def test_a_new_record_is_put_after_the_others_of_its_benchmark(benchmark, tmp_path):
    """Also one of another machine; the rest stays as it was, and what is there is replaced."""
    put = benchmark('experiments.publishing').put
    path = tmp_path / 'results.md'
    before = '# A\n<!-- psap_cifar10_cpu -->\nold\n<!-- end of psap_cifar10_cpu -->\n'
    after = 'text\n<!-- csam_cifar10_cpu -->\n<!-- end of csam_cifar10_cpu -->\n'
    path.write_text(before + after)
    for text in ('first', 'second'):
        put(text, 'psap_cifar10_gpu', path)
    place = '\n<!-- psap_cifar10_gpu -->\nsecond\n<!-- end of psap_cifar10_gpu -->\n'
    assert path.read_text() == before + place + after


@pytest.mark.parametrize(
    ('name', 'behind'),
    [
        ('adasap_bccd_gpu', 'adasap_bccd_cpu'),
        ('adasap_bccd_sweep_gpu', 'adasap_bccd_sweep_cpu'),
        ('adasap_sweep_gpu', 'adasap_sweep_cpu'),
        ('adasap_sweep_gpu_rate', 'adasap_sweep_cpu_rate'),
        ('adasap_sweep_gpu_other', 'adasap_sweep_cpu_rate'),
    ],
)
def test_a_new_record_is_not_put_among_those_of_others(benchmark, tmp_path, name, behind):
    """Of a benchmark whose name begins alike, or of another condition; one of no known condition comes last."""
    names = ['adasap_bccd_cpu', 'adasap_bccd_sweep_cpu', 'adasap_sweep_cpu', 'adasap_sweep_cpu_rate']
    path = tmp_path / 'results.md'
    path.write_text(''.join(f'<!-- {other} -->\n<!-- end of {other} -->\n' for other in names))
    benchmark('experiments.publishing').put('text', name, path)
    assert f'<!-- end of {behind} -->\n\n<!-- {name} -->\ntext\n' in path.read_text()


def test_a_document_without_a_place_is_named(benchmark, tmp_path):
    """With the line that is missing."""
    (tmp_path / 'results.md').write_text('# A\n')
    with pytest.raises(
        MmsharpError, match=r'results\.md has no place for a record of psap_cifar10: no line <!-- end of'
    ):
        benchmark('experiments.publishing').put('text', 'psap_cifar10_gpu', tmp_path / 'results.md')
