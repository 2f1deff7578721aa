"""A survey of small configs: two that pass, one that crashes and one that never ends; killed and started again."""

import importlib.util
import json
import shutil
import sys
from pathlib import Path

import pytest

from mmsharp.command_line import run
from mmsharp.engine.prunability import ProbeRecord, Settings
from mmsharp.engine.prunability.survey import Subject, measured_row, packaged_subjects, subject_of
from mmsharp.errors import MmsharpError

ROOT = Path(__file__).parents[3]

pytestmark = pytest.mark.filterwarnings('ignore')  # the toolboxes warn of their own optional parts


def _module(name, path):
    spec = importlib.util.spec_from_file_location(name, path)
    module = importlib.util.module_from_spec(spec)
    spec.loader.exec_module(module)
    return module


robust_data = _module('robust_data', ROOT / 'tests' / 'robust_data.py')
tool = _module('tool_prunability', ROOT / 'tools' / 'analysis_tools' / 'prunability.py')


@pytest.fixture
def configs(tmp_path):
    """A classifier, a detector, a config that ends its process and one that never ends."""
    robust_data.classifier_config(tmp_path).dump(tmp_path / 'classifier.py')
    robust_data.detector_config(tmp_path).dump(tmp_path / 'detector.py')
    (tmp_path / 'crashing.py').write_text('import os\n\nos.abort()\n')
    (tmp_path / 'endless.py').write_text('import time\n\ntime.sleep(600)\n')
    return tmp_path


@pytest.mark.parametrize(('toolbox', 'name'), [('mmpretrain', 'classifier.py'), ('mmdet', 'detector.py')])
def test_a_row_of_a_config_that_passes(toolbox, name, configs):
    """Every figure is there, and half of every group is about three quarters of the parameters."""
    row = measured_row(Subject(toolbox, '', name, configs / name, 64), Settings())
    assert row['status'] == 'pass', row
    assert 0.6 < row['params_removed'] < 0.8
    assert 0.6 < row['macs_removed'] < 0.8
    assert row['backbone_in_groups'] == 1
    assert row['difference'] <= 1e-5
    assert row['rebuilt_difference'] <= 1e-5
    assert row['loss'] > 0
    assert row['input_shape'] == [1, 3, 64, 64]
    assert [entry['reason'] for entry in row['dense']] == ["reaches the model's outputs"]
    json.dumps(row, allow_nan=False)


def test_failures_are_rows_and_a_second_start_skips_them(configs, monkeypatch, capsys):
    """A crash and a time-out have their stage and reason; the rows are on the disk, and nothing is measured twice."""

    def survey(*names):
        arguments = [str(configs / name) for name in names]
        monkeypatch.setattr(
            sys, 'argv', ['prunability.py', '--toolbox', 'mmdet', *arguments, '--json', str(path), '--timeout', '8']
        )
        run(tool.main)
        return {Path(row['config']).name: row for row in json.loads(path.read_text())['rows']}

    path = configs / 'rows.json'
    rows = survey('crashing.py', 'endless.py')
    assert (rows['crashing.py']['status'], rows['crashing.py']['stage']) == ('fail', 'build')
    assert 'SIGABRT' in rows['crashing.py']['reason']
    assert rows['endless.py']['reason'] == 'took more than 8 seconds'
    assert '0 of 2 configs pass' in capsys.readouterr().out
    monkeypatch.setattr('mmsharp.engine.prunability.survey.measured_row', lambda *_: pytest.fail('measured again'))
    assert survey('crashing.py', 'endless.py') == rows


def test_an_interrupted_survey_keeps_its_rows(configs, monkeypatch):
    """What was finished before the interruption is in the file."""
    survey = sys.modules['mmsharp.engine.prunability.survey']
    subjects = [Subject('mmdet', '', name, configs / name, 64) for name in ('a.py', 'b.py')]
    record = ProbeRecord(configs / 'rows.json', {})

    def measured(subject, settings):
        if subject.config == 'b.py':
            raise KeyboardInterrupt
        return dict(toolbox=subject.toolbox, config=subject.config, status='pass')

    monkeypatch.setattr(survey, 'measured_row', measured)
    with pytest.raises(KeyboardInterrupt):
        survey.run_survey(subjects, Settings(), record)
    assert [row['config'] for row in json.loads((configs / 'rows.json').read_text())['rows']] == ['a.py']


def test_subjects_are_families_packaged_configs_and_files(configs):
    """A family's name and its config mean the same; a file is taken as it is."""
    pytest.importorskip('mmpretrain')
    by_name = subject_of('resnet', 'mmpretrain')
    assert by_name == subject_of('resnet/resnet18_8xb32_in1k.py', 'mmpretrain')
    assert subject_of(str(configs / 'detector.py'), 'mmdet').family == ''
    assert by_name in list(packaged_subjects(['mmpretrain']))


def test_named_configs_may_want_other_images(configs, monkeypatch, capsys):
    """As SSD512 does, whose last map would have no pixel; without a name the option says nothing."""
    arguments = ['prunability.py', '--json', 'rows.json', '--size', '320', '--toolbox', 'mmdet']
    monkeypatch.setattr(sys, 'argv', [*arguments, str(configs / 'detector.py')])
    assert [subject.size for subject in tool._subjects(tool.parse_args())] == [320]
    monkeypatch.setattr(sys, 'argv', arguments)
    with pytest.raises(SystemExit):
        tool.parse_args()
    assert '--size' in capsys.readouterr().err


@pytest.mark.parametrize(
    ('config', 'words'), [('nowhere.py', 'neither a file nor a family'), ('glip', 'out of scope: takes text')]
)
def test_what_is_no_subject_is_refused(config, words):
    """With what is accepted."""
    pytest.importorskip('mmdet')
    with pytest.raises(MmsharpError, match=words):
        subject_of(config, 'mmdet')


@pytest.mark.parametrize(('settings', 'words'), [(dict(ratio=1.0), 'ratio is 1.0'), (dict(timeout=0), 'timeout is 0')])
def test_settings_are_checked(settings, words):
    """A ratio that leaves nothing, and no time at all, are refused."""
    with pytest.raises(MmsharpError, match=words):
        Settings(**settings)


def test_the_page_is_the_record_rendered(configs, monkeypatch):
    """The documentation's table is nothing but the committed record."""
    record = ROOT / 'benchmarks' / 'results' / 'prunability.json'
    page = configs / 'page.md'
    shutil.copy(record, configs / 'record.json')
    monkeypatch.setattr(sys, 'argv', ['prunability.py', '--json', str(configs / 'record.json'), '--page', str(page)])
    run(tool.main)
    assert page.read_text() == (ROOT / 'docs' / 'prunability.md').read_text()
