"""The file that keeps the rows."""

import json
from unittest import mock

import pytest

from mmsharp.engine.prunability import ProbeRecord
from mmsharp.errors import MmsharpError

SETTINGS = dict(ratio=0.5)
ROW = dict(toolbox='mmdet', config='b.py', status='pass')


def test_rows_outlive_the_process(tmp_path):
    """A record that is opened again has what was added, in order of the configs, each config once."""
    path = tmp_path / 'folder' / 'rows.json'
    record = ProbeRecord(path, SETTINGS)
    record.add(ROW)
    record.add(dict(ROW, config='a.py'))
    record.add(dict(ROW, status='fail'))
    rows = ProbeRecord(path, SETTINGS).rows
    assert [(row['config'], row['status']) for row in rows] == [('a.py', 'pass'), ('b.py', 'fail')]
    assert {'machine', 'versions', 'settings'} <= json.loads(path.read_text()).keys()


def test_a_write_that_fails_leaves_the_rows_before(tmp_path):
    """The file is whole at every moment, and nothing lies beside it."""
    path = tmp_path / 'rows.json'
    record = ProbeRecord(path, SETTINGS)
    record.add(ROW)
    with mock.patch('os.replace', side_effect=OSError('disk full')), pytest.raises(OSError, match='disk full'):
        record.add(dict(ROW, config='c.py'))
    assert [row['config'] for row in json.loads(path.read_text())['rows']] == ['b.py']
    assert list(tmp_path.iterdir()) == [path]


@pytest.mark.parametrize('name', ['settings', 'versions'])
def test_rows_of_other_settings_or_versions_do_not_mix(name, tmp_path):
    """A table holds what was measured alike."""
    path = tmp_path / 'rows.json'
    ProbeRecord(path, SETTINGS).add(ROW)
    content = json.loads(path.read_text())
    content[name] = dict(other=1)
    path.write_text(json.dumps(content))
    with pytest.raises(MmsharpError, match=f'measured with {name}'):
        ProbeRecord(path, SETTINGS)


def test_a_damaged_file_is_refused(tmp_path):
    """With the path and what to do."""
    (tmp_path / 'rows.json').write_text('{')
    with pytest.raises(MmsharpError, match='give another --json'):
        ProbeRecord(tmp_path / 'rows.json', SETTINGS)


def test_a_row_is_of_the_size_that_it_was_measured_with(tmp_path):
    """Another size is measured anew, and takes its place."""
    record = ProbeRecord(tmp_path / 'rows.json', SETTINGS)
    record.add(dict(ROW, size=64))
    assert record.has(ROW['toolbox'], ROW['config'])
    assert record.has(ROW['toolbox'], ROW['config'], 64)
    assert not record.has(ROW['toolbox'], ROW['config'], 128)
