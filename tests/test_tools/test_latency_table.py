"""From a config to a latency table, and from the table to a detector pruned to a share of its time."""

import importlib.util
import json
import sys
from pathlib import Path

import pytest

from mmsharp.command_line import run
from mmsharp.engine.configs.building_model import build_model
from mmsharp.engine.configs.config import load_config
from mmsharp.engine.costs.latency_measurement import measure_config
from mmsharp.errors import MmsharpError
from mmsharp.pruning.latency import LatencyTable

ROOT = Path(__file__).parents[2]

pytestmark = pytest.mark.filterwarnings('ignore')  # the toolboxes warn of their own optional parts


def _module(name, path):
    spec = importlib.util.spec_from_file_location(name, path)
    module = importlib.util.module_from_spec(spec)
    spec.loader.exec_module(module)
    return module


robust_data = _module('robust_data', ROOT / 'tests' / 'robust_data.py')
tool = _module('tool_latency_table', ROOT / 'tools' / 'analysis_tools' / 'latency_table.py')


@pytest.fixture(scope='module')
def config(tmp_path_factory):
    folder = tmp_path_factory.mktemp('latency')
    robust_data.detector_config(folder).dump(folder / 'small.py')
    return folder / 'small.py'


def _call(monkeypatch, *arguments):
    monkeypatch.setattr(sys, 'argv', ['latency_table.py', *map(str, arguments)])
    run(tool.main)


@pytest.mark.parametrize('engine', ['pytorch', 'onnxruntime'])
def test_from_a_config_to_a_table(engine, config, tmp_path, monkeypatch, capsys):
    """The file fits the model, says how it was measured, and the slowest layers and the errors are printed."""
    out = tmp_path / 'table.json'
    fast = ('--points', 2, '--repeats', 1, '--threads', 1)
    _call(monkeypatch, config, '--shape', 64, 80, '--out', out, '--engine', engine, *fast)
    table = LatencyTable.load(out)
    table.check_fits(build_model(load_config(config)))
    assert table.about['engine'] == engine
    assert table.about['input_shape'] == [1, 3, 64, 80]
    assert table.about['threads'] == 1
    assert table.about['machine']['cores'] >= 1
    assert {'backbone.conv1', 'bbox_head.retina_reg'} <= set(table.layers)
    printed = capsys.readouterr().out
    assert 'backbone.conv1' in printed
    assert 'not fitted to' in printed
    assert table.about['timed_share'] == pytest.approx(1.0)  # a detector of convolutions alone
    assert 'they do 100% of the multiply-accumulates' in printed
    assert 'warning' not in printed


def test_a_poor_prediction_is_told(config, tmp_path, monkeypatch, capsys):
    """A table from a busy machine is written, with the advice to measure again; so is what the layers do not cover."""
    table = LatencyTable.from_dict(
        {
            'format': 'mmsharp.latency_table',
            'version': 1,
            'about': {
                'error': 0.4,
                'timed_share': 0.7,
                'networks': [{'measured': 1.0, 'predicted': 1.4, 'fitted': False}],
            },
            'scale': 1.0,
            'per_element': 0.0,
            'constant': 0.0,
            'layers': {'fc': {'type': 'Linear', 'axes': {'out': [4]}, 'seconds': [1.0], 'elements': 1}},
        }
    )
    monkeypatch.setattr(tool, 'measure_config', lambda *_: table)
    _call(monkeypatch, config, '--shape', 64, '--out', tmp_path / 'table.json')
    printed = capsys.readouterr().out
    assert 'measure again when it is idle' in printed
    assert 'they do 70% of the multiply-accumulates' in printed
    assert 'warning: the rest is not timed alone' in printed
    assert json.loads((tmp_path / 'table.json').read_text())['about']['error'] == 0.4


@pytest.mark.parametrize(
    ('settings', 'words'),
    [
        (dict(engine='tensorrt'), 'accepted: pytorch, onnxruntime'),
        (dict(engine='onnxruntime', device='cuda'), 'on the CPU'),
        (dict(device='abacus'), "device 'abacus'"),
        (dict(batch=0), 'batch is 0'),
        (dict(threads=-1), 'threads is -1'),
        (dict(threads=0), 'threads is 0'),
        (dict(shape=(3, 0, 8)), 'height is 0'),
    ],
)
def test_bad_settings_are_named(settings, words, config):
    """Before anything is built or timed where that can be known."""
    with pytest.raises(MmsharpError, match=words):
        measure_config(load_config(config), **{'shape': (3, 64, 64), **settings})


def test_a_missing_folder_is_named_first(config, monkeypatch, capsys):
    """Not after minutes of timing."""
    with pytest.raises(SystemExit) as stopped:
        _call(monkeypatch, config, '--shape', 64, '--out', '/nowhere/table.json')
    assert stopped.value.code == 2
    assert 'there is no such folder' in capsys.readouterr().err
