"""Laws of the list of steps: it goes on after a kill, and refuses what is not its own."""

import pytest

from mmsharp.engine.pruning.soft_pruning.pruning_log import PruningLog
from mmsharp.errors import MmsharpError

LINES = [dict(iteration=iteration, group='stem', protected=0) for iteration in (3, 6, 9)]


@pytest.fixture
def log(tmp_path):
    """Three lines in a folder that was not there."""
    log = PruningLog(tmp_path / 'run')
    log.write(LINES)
    return log


def test_a_torn_last_line_is_left_out_and_gone_on_without(log):
    """As a kill leaves it, in the midst of a number or of an object."""
    whole = log.path.read_text()
    for cut in (1, 2, 10):
        log.path.write_text(whole[:-cut])
        assert log.read() == LINES[:2]
        log.begin(9)
        log.write(LINES[2:])
        assert log.path.read_text() == whole


@pytest.mark.parametrize('line', ['{"iteration": 4', '[4]', '4', '{"group": "stem"}', '{"iteration": null}', ''])
def test_any_other_line_of_another_kind_is_refused(log, line):
    """With the file and its number."""
    first, *others = log.path.read_text().splitlines()
    log.path.write_text('\n'.join([first, line, *others]) + '\n')
    with pytest.raises(MmsharpError, match=r"psap.jsonl', line 2, is not one that mmsharp has written; remove"):
        log.read()
    with pytest.raises(MmsharpError, match='line 2'):
        log.begin(100)


def test_a_run_begins_where_there_is_no_list(tmp_path):
    """Nothing is made before the first line."""
    PruningLog(tmp_path / 'run').begin(0)
    assert not (tmp_path / 'run').exists()
