"""``tools/test_robust.py --certify``: from a config and a checkpoint to tables and a report."""

import importlib.util
import json
import sys
from pathlib import Path

import pytest

from mmsharp.command_line import run

ROOT = Path(__file__).parents[2]
TOOL = ROOT / 'tools' / 'test_robust.py'
QUICK = ('--draws', 10, '--groups', 2, '--grid', 3)

pytestmark = pytest.mark.filterwarnings('ignore')  # the toolboxes warn of their own optional parts


def _module(name, path):
    spec = importlib.util.spec_from_file_location(name, path)
    module = importlib.util.module_from_spec(spec)
    spec.loader.exec_module(module)
    return module


robust_data = _module('robust_data', ROOT / 'tests' / 'robust_data.py')
tool = _module('tool_test_robust', TOOL)


@pytest.fixture(scope='module')
def classifier(tmp_path_factory):
    """Paths of a config and of a checkpoint."""
    folder = tmp_path_factory.mktemp('classifier')
    config = robust_data.classifier_config(robust_data.write_class_folders(folder / 'images'))
    config.dump(folder / 'small.py')
    return folder / 'small.py', robust_data.write_checkpoint(config, folder / 'classifier.pth', steps=20)


def _call(monkeypatch, *arguments):
    monkeypatch.setattr(sys, 'argv', [str(TOOL), *map(str, arguments)])
    tool.main()


def test_a_classifier_from_the_command_line(classifier, tmp_path, monkeypatch, capsys):
    """Table, files and progress; another seed in the folder is one line and status 2."""
    command = [*classifier, '--certify', 'rotation:10', 'rotation:10+brightness:0.4', *QUICK]
    command += ['--eps', 0.5, 0.01, '--images', 5, '--work-dir', tmp_path / 'run']
    _call(monkeypatch, *command)
    printed = capsys.readouterr()
    assert '5 images' in printed.out
    assert '0.01 *     20' in printed.out
    assert '* not supported by 20 draws' in printed.out
    for line in ('[1/2] rotation:10  1/5 images, ', '[2/2] rotation:10+brightness:0.4  1/5 images, '):
        assert line in printed.err
    assert '[2/2] rotation:10+brightness:0.4 ' in printed.err.splitlines()[-1]
    for name in ('certification.json', 'certification.md', 'certification.csv', 'report.html'):
        assert (tmp_path / 'run' / name).stat().st_size > 0
    summary = json.loads((tmp_path / 'run/certification.json').read_text())
    assert summary['checkpoint'] == 'classifier.pth'
    assert [scores['images'] for scores in summary['transforms']] == [5, 5]
    assert [scores['grid_points'] for scores in summary['transforms']] == [3, 9]
    monkeypatch.setattr(sys, 'argv', [str(TOOL), *map(str, command), '--seed', '1'])
    with pytest.raises(SystemExit) as refused:
        run(tool.main)
    assert refused.value.code == 2
    errors = capsys.readouterr().err
    assert 'seed: was 0, is 1' in errors
    assert 'Traceback' not in errors


def test_corruptions_too_where_they_are_asked_for(classifier, tmp_path, monkeypatch, capsys):
    """One command, one report."""
    corruptions = ('--corruptions', 'fog', '--severities', 0, 1, '--show-samples', 0)
    _call(monkeypatch, *classifier, '--certify', 'blur:1', *QUICK, *corruptions, '--work-dir', tmp_path)
    printed = capsys.readouterr().out
    assert 'mPC' in printed
    assert 'blur:1' in printed
    report = (tmp_path / 'report.html').read_text()
    assert 'Certified under' in report
    assert 'mPC' in report


def test_certifications_are_compared_with_the_grids(classifier, tmp_path, monkeypatch, capsys):
    """Two runs with other seeds, in every form of the comparison."""
    corruptions = ('--corruptions', 'fog', '--severities', 0, 1, '--show-samples', 0)
    runs = [tmp_path / 'first', tmp_path / 'second']
    for seed, folder in enumerate(runs):
        _call(
            monkeypatch,
            *(*classifier, '--certify', 'blur:1', *QUICK, '--images', 4, *corruptions),
            *('--seed', seed, '--work-dir', folder),
        )
    capsys.readouterr()
    _call(monkeypatch, '--compare', *runs, '--out', tmp_path / 'table')
    printed = capsys.readouterr().out
    comparison = json.loads((tmp_path / 'table/compare.json').read_text())['certification']
    of_first = json.loads((runs[0] / 'certification.json').read_text())['transforms'][0]
    assert [each['transform'] for each in comparison['transforms']] == ['blur:1']
    assert comparison['transforms'][0]['runs'][0]['eps'] == of_first['eps']
    assert 'second was certified otherwise than first: seed: was 0, is 1' in comparison['notes']
    for text in (printed, *((tmp_path / 'table' / f'compare.{kind}').read_text() for kind in ('md', 'html'))):
        assert 'Certified under random transforms' in text
        assert 'seed: was 0, is 1' in text


@pytest.mark.parametrize(
    'arguments',
    [
        ['config.py', 'a.pth', '--draws', '10'],
        ['config.py', 'a.pth', '--images', '10'],
        ['--certify', 'blur:1', '--compare', 'a', 'b'],
        ['config.py', 'a.pth', '--certify'],
        ['config.py', 'a.pth', '--certify', 'blur:1', '--cap', 'high'],
        ['config.py', 'a.pth', '--certify', 'blur:1', '--compat', 'paper'],
    ],
)
def test_half_a_command_is_a_usage_error(arguments, capsys):
    """Argparse explains and exits with status 2."""
    with pytest.raises(SystemExit) as caught:
        tool.parse_args(arguments)
    assert caught.value.code == 2
    assert 'usage:' in capsys.readouterr().err


@pytest.mark.parametrize(
    ('options', 'said'),
    [
        (['--corrupted', 'DIR'], '--corrupted is of the corruption grid'),
        (['--metric', 'foo'], '--metric is of the corruption grid'),
        (['--classwise'], '--classwise is of the corruption grid'),
        (['--on-bad-image', 'skip'], '--on-bad-image is of the corruption grid'),
        (['--tta'], '--tta is of the corruption grid'),
        (['--channel-order', 'rgb'], '--channel-order is of the corruption grid'),
        (['--image-order', 'auto'], '--image-order is of the corruption grid'),
        (['--position', 'auto'], '--position is of the corruption grid'),
        (['--backend', 'mmsharp'], '--backend is of the corruption grid'),
        (['--constants', 'auto'], '--constants is of the corruption grid'),
        (['--samples', '0'], '--samples is of the corruption grid'),
        (['--names', 'a', 'b'], '--names belongs to --compare'),
        (['--out', 'DIR'], '--out belongs to --compare'),
        (['--launcher', 'pytorch'], '--certify runs in one process'),
        (['--images', '-1'], '--images -1 cannot be certified; give a whole number, 0 for all'),
    ],
)
def test_what_has_no_effect_on_a_certification_is_refused(options, said, capsys):
    """By its name, and never silently without effect."""
    with pytest.raises(SystemExit) as caught:
        tool.parse_args(['config.py', 'a.pth', '--certify', 'blur:1', *options])
    assert caught.value.code == 2
    assert said in ' '.join(capsys.readouterr().err.split())


def test_every_option_has_an_effect_on_a_certification_or_is_refused():
    """Also one that is added later: it is of the grid, of the certification, of both or of neither."""
    both = {'work_dir', 'seed', 'cfg_options', 'launcher', 'corruptions', 'severities'}
    assert set(tool.SETTINGS) == both | set(tool.OF_THE_GRID)
    known = {*tool.SETTINGS, *tool.CERTIFICATION, 'images', 'certify', 'config', 'checkpoint'}
    assert set(vars(tool.parse_args(['config.py', 'a.pth']))) - known == {'compare', 'names', 'out', 'local_rank'}


@pytest.mark.parametrize('grid', [('--corruptions', 'fog'), ('--severities', '1')])
def test_options_of_the_grid_are_taken_where_it_is_measured_too(grid):
    """They have an effect there."""
    args = tool.parse_args(['config.py', 'a.pth', '--certify', 'blur:1', '--tta', '--metric', 'foo', *grid])
    assert (args.tta, args.metric) == (True, 'foo')


def test_an_unknown_transform_is_refused_before_the_model_is_built(classifier, tmp_path, monkeypatch):
    """By its name, with those that exist."""
    with pytest.raises(ValueError, match='accepted are blur'):
        _call(monkeypatch, *classifier, '--certify', 'fog:1', '--work-dir', tmp_path)
    assert list(tmp_path.iterdir()) == []


def test_help_names_every_transform(capsys):
    """Everything that can be chosen is in --help."""
    with pytest.raises(SystemExit):
        tool.parse_args(['--help'])
    text = ' '.join(capsys.readouterr().out.split())
    for word in (*tool.transform_names(), '--certify', '1000 draws an image', 'default: 0.999', 'Clopper-Pearson'):
        assert word in text


def test_grid_and_certification_share_folder_and_seed_of_the_config(tmp_path):
    """So that both are in one report; the command line goes before."""
    path = tmp_path / 'config.py'
    path.write_text("model = dict(type='A')\nrobustness = dict(evaluation=dict(work_dir='robust/mine', seed=7))\n")
    arguments = [str(path), 'a.pth', '--certify', 'blur:1']
    assert tool._decided(tool.parse_args(arguments)) == (Path('robust/mine'), dict(seed=7))
    folder, _ = tool._decided(tool.parse_args([*arguments, '--work-dir', 'other']))
    assert folder == Path('other')
    path.write_text("model = dict(type='A')\n")
    assert tool._decided(tool.parse_args(arguments)) == (Path('work_dirs/config/robustness'), {})
