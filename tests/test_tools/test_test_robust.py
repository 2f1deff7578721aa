"""The command that users type: from a config and a checkpoint to scores, and from two runs to a table."""

import importlib.util
import json
import subprocess
import sys
from pathlib import Path

import pytest
import torch

from mmsharp.command_line import run

ROOT = Path(__file__).parents[2]
TOOL = ROOT / 'tools' / 'test_robust.py'

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


def test_detector_from_the_command_line(tmp_path, monkeypatch, capsys):
    """In a process of its own: the scores are printed and the files are there; an error is one line and status 2."""
    config = robust_data.detector_config(robust_data.write_voc(tmp_path / 'voc'))
    config.dump(tmp_path / 'tiny.py')
    checkpoint = robust_data.write_checkpoint(config, tmp_path / 'tiny.pth')
    command = [sys.executable, str(TOOL), str(tmp_path / 'tiny.py'), str(checkpoint), '--show-samples', '1']
    command += ['--corruptions', 'fog', '--severities', '0', '2', '--work-dir', str(tmp_path / 'run')]
    finished = subprocess.run(command, capture_output=True, text=True, check=False, cwd=tmp_path)
    assert finished.returncode == 0, finished.stderr
    assert 'pascal_voc/mAP, 4 images' in finished.stdout
    assert '[  2/2] fog/2' in finished.stderr
    for name in ('results.jsonl', 'identity.json', 'summary.json', 'report.html'):
        assert (tmp_path / 'run' / name).stat().st_size > 0
    monkeypatch.setattr(sys, 'argv', [*command[1:], '--seed', '1'])
    with pytest.raises(SystemExit) as refused:
        run(tool.main)
    assert refused.value.code == 2
    error = capsys.readouterr().err.strip().splitlines()[-1]
    assert error.startswith('error: ')
    assert 'seed: was 0, is 1' in error


def test_scores_of_a_classifier_and_comparison(classifier, tmp_path, monkeypatch, capsys):
    """Two runs, then one table of both, with files beside the first."""
    for seed in (0, 1):
        arguments = ['--work-dir', tmp_path / f'seed{seed}', '--seed', seed, '--show-samples', 0]
        arguments += ['--constants', 'imagenet', '--backend', 'imagecorruptions' if seed else 'mmsharp']
        _call(monkeypatch, *classifier, '--corruptions', 'impulse_noise', 'fog', '--severities', 0, 5, *arguments)
    summary = json.loads((tmp_path / 'seed0' / 'summary.json').read_text())
    printed = capsys.readouterr().out
    assert (summary['identity']['backend'], summary['identity']['constants']) == ('mmsharp', 'imagenet')
    assert f'{summary["scores"]["clean"]:.1f}' in printed
    assert 'over a subset of the benchmark' in printed
    assert 'noise' in printed
    runs = [tmp_path / 'seed0', tmp_path / 'seed1']
    _call(monkeypatch, '--compare', *runs, '--names', 'first', 'second', '--out', tmp_path / 'table')
    printed = capsys.readouterr().out
    assert 'second against first: seed: was 0, is 1' in printed
    assert 'second against first: backend: was mmsharp, is imagecorruptions' in printed
    assert [line.split()[0] for line in printed.splitlines()[3:5]] == ['first', 'second']
    comparison = json.loads((tmp_path / 'table' / 'compare.json').read_text())
    assert comparison['runs'][0]['scores']['mpc'] == summary['scores']['mpc']
    assert 'different times' not in printed
    once = {run['model']['latency_ms'] for run in comparison['runs']}
    assert summary['model']['latency_ms'] not in once  # measured anew, in turns
    for name in ('compare.md', 'compare.html'):
        assert 'second' in (tmp_path / 'table' / name).read_text()


def test_latencies_of_models_that_are_gone_are_those_of_the_runs(classifier, tmp_path, monkeypatch, capsys):
    """Another checkpoint under the name of the evaluated one is not timed in its place."""
    config, checkpoint = classifier
    own = tmp_path / 'own.pth'
    own.write_bytes(Path(checkpoint).read_bytes())
    for name in ('a', 'b'):
        _call(monkeypatch, config, own, '--work-dir', tmp_path / name, '--corruptions', 'fog', '--severities', 0)
    summary = json.loads((tmp_path / 'b/summary.json').read_text())
    content = torch.load(own, weights_only=True)
    torch.save({**content, 'other': 1}, own)
    _call(monkeypatch, '--compare', tmp_path / 'a', tmp_path / 'b', '--out', tmp_path / 'table')
    assert 'is another checkpoint by now' in capsys.readouterr().out
    comparison = json.loads((tmp_path / 'table' / 'compare.json').read_text())
    assert comparison['runs'][1]['model'] == summary['model']


def test_options_of_the_config_reach_the_evaluation(classifier, tmp_path, monkeypatch):
    """A missing data folder, set by --cfg-options, is refused by its name."""
    option = 'test_dataloader.dataset.data_root=/nowhere/at/all'
    with pytest.raises(ValueError, match='/nowhere/at/all'):
        _call(monkeypatch, *classifier, '--work-dir', tmp_path, '--cfg-options', option)


@pytest.mark.parametrize(
    'arguments',
    [
        [],
        ['config.py'],
        ['--compare', 'one'],
        ['config.py', 'a.pth', '--compare', 'a', 'b'],
        ['config.py', 'a.pth', '--show-samples', '-1'],
    ],
)
def test_half_a_command_is_a_usage_error(arguments, capsys):
    """Argparse explains and exits with status 2."""
    with pytest.raises(SystemExit) as caught:
        tool.parse_args(arguments)
    assert caught.value.code == 2
    assert 'usage:' in capsys.readouterr().err


def test_help_names_defaults_groups_and_corruptions(capsys):
    """Everything that can be chosen is in --help."""
    with pytest.raises(SystemExit):
        tool.parse_args(['--help'])
    text = capsys.readouterr().out
    for word in ('benchmark', 'holdout', 'jpeg_compression', 'saturate', 'default: 0 1 2 3 4 5', '--compare'):
        assert word in text


@pytest.mark.parametrize(
    ('arguments', 'said'),
    [
        (['config.py', 'a.pth', '--out', 'DIR'], '--out belongs to --compare, which is not given'),
        (['config.py', 'a.pth', '--names', 'a'], '--names belongs to --compare, which is not given'),
        (['--compare', 'a', 'b', '--severities', '1'], '--severities would change nothing'),
        (['--compare', 'a', 'b', '--corruptions', 'fog'], '--corruptions would change nothing'),
        (['--compare', 'a', 'b', '--work-dir', 'w'], '--work-dir would change nothing'),
        (['--compare', 'a', 'b', '--certify', 'blur:1'], '--certify would change nothing'),
        (['--compare', 'a', 'b', '--tta'], '--tta would change nothing'),
        (['--compare', 'a', 'b', '--seed', '1'], '--seed would change nothing'),
        (['--compare', 'a', 'b', '--launcher', 'pytorch'], '--launcher would change nothing'),
    ],
)
def test_what_has_no_effect_is_refused(arguments, said, capsys):
    """By its name, in every mode; the metric is one of a comparison, too."""
    with pytest.raises(SystemExit) as caught:
        tool.parse_args(arguments)
    assert caught.value.code == 2
    assert said in ' '.join(capsys.readouterr().err.split())
    assert tool.parse_args(['--compare', 'a', 'b', '--metric', 'accuracy/top1']).metric == 'accuracy/top1'
