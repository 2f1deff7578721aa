"""A finished cell is never lost, a torn line never counted, a foreign result never mixed in."""

import errno
import json
import math
import multiprocessing
import os
import time

import pytest

from mmsharp import files
from mmsharp.errors import MmsharpError
from mmsharp.robustness import Cell, CellResult, ResultStore, load_results

IDENTITY = {'checkpoint': {'sha256': 'aa'}, 'seed': 0, 'versions': {'torch': '2.11.0'}}


def _result(name, severity, value=0.5):
    return CellResult(Cell(name, severity), {'coco/bbox_mAP': value}, images=3, seconds=1.25)


def _fill(folder):
    with ResultStore(folder, IDENTITY) as store:
        for severity in (1, 2, 3):
            store.append(_result('fog', severity, severity / 10))
    return folder / 'results.jsonl'


def test_written_cells_come_back(tmp_path):
    """Everything of a result survives the file; undefined values become null, not NaN."""
    with ResultStore(tmp_path, IDENTITY) as store:
        store.append(_result('fog', 1))
        store.append(_result('snow', 2, math.nan))
    identity, finished = load_results(tmp_path)
    assert identity == IDENTITY
    assert finished == {Cell('fog', 1): _result('fog', 1), Cell('snow', 2): _result('snow', 2, None)}
    assert 'NaN' not in (tmp_path / 'results.jsonl').read_text()


def test_any_cut_of_the_last_line_loses_that_cell_only(tmp_path):
    """Cut the file at each byte of its last line: the cells before stay, and the next append makes it whole."""
    path = _fill(tmp_path)
    whole = path.read_bytes()
    last = whole.rstrip(b'\n').rfind(b'\n') + 1
    for end in range(last + 1, len(whole)):
        path.write_bytes(whole[:end])
        with ResultStore(tmp_path, IDENTITY) as store:
            assert list(store.finished) == [Cell('fog', 1), Cell('fog', 2)]
            assert store.torn == whole[last:end].decode()
            store.append(_result('fog', 3, 0.3))
        assert path.read_bytes() == whole


def test_a_damaged_line_in_the_middle_is_an_error(tmp_path):
    """Only the last line can be torn by a kill; damage elsewhere is named with its line number."""
    path = _fill(tmp_path)
    lines = path.read_text().splitlines(keepends=True)
    path.write_text(''.join([lines[0], '{"corruption": "fog"\n', lines[2]]))
    with pytest.raises(MmsharpError, match='line 2 is damaged'), ResultStore(tmp_path, IDENTITY):
        pass


@pytest.mark.parametrize(
    ('change', 'message'),
    [
        ({'seed': 1}, 'seed: was 0, is 1'),
        ({'checkpoint': {'sha256': 'bb'}}, 'checkpoint.sha256: was aa, is bb'),
        ({'versions': {'torch': '2.12.0'}}, 'versions.torch: was 2.11.0, is 2.12.0'),
    ],
)
def test_another_identity_is_refused_by_name(tmp_path, change, message):
    """What differs is named, what to do is said, and the results stay as they are."""
    path = _fill(tmp_path)
    before = path.read_bytes()
    with pytest.raises(MmsharpError, match=f'{message}.*another --work-dir'), ResultStore(tmp_path, IDENTITY | change):
        pass
    assert path.read_bytes() == before
    assert json.loads((tmp_path / 'identity.json').read_text()) == IDENTITY


@pytest.mark.skipif(not os.path.exists('/dev/full'), reason='needs /dev/full')
def test_a_full_disk_is_reported_with_what_is_kept(tmp_path):
    """The message says how many cells are safe and which one is not, also where closing the file fails as well."""
    _fill(tmp_path)

    def append_on_a_full_disk():
        with ResultStore(tmp_path, IDENTITY) as store:
            store._file.close()
            store._file = open('/dev/full', 'wb')  # noqa: SIM115 - closed by the store; buffered, as its own
            store.append(_result('fog', 4))

    with pytest.raises(MmsharpError, match=r'No space left.*3 finished cells before fog/4 are kept'):
        append_on_a_full_disk()
    assert list(load_results(tmp_path)[1]) == [Cell('fog', severity) for severity in (1, 2, 3)]


def test_a_folder_without_a_finished_cell_belongs_to_nobody(tmp_path):
    """A run that failed before its first result does not keep the folder from the corrected one."""
    with ResultStore(tmp_path, IDENTITY):
        pass
    with ResultStore(tmp_path, IDENTITY | {'seed': 1}) as store:
        store.append(_result('fog', 1))
    assert load_results(tmp_path)[0]['seed'] == 1


def test_two_runs_cannot_write_at_the_same_time(tmp_path):
    """A second store on a held folder is refused; after the first has closed it is not."""
    with (
        ResultStore(tmp_path, IDENTITY),
        pytest.raises(MmsharpError, match='another run is writing'),
        ResultStore(tmp_path, IDENTITY),
    ):
        pass
    with ResultStore(tmp_path, IDENTITY):
        pass


def test_a_forked_worker_does_not_hold_the_folder(tmp_path):
    """Data-loading workers may outlive a killed run for seconds; the folder is free at once all the same."""
    context = multiprocessing.get_context('fork')
    running = context.Event()

    def work():
        running.set()
        time.sleep(60)

    with ResultStore(tmp_path, IDENTITY) as store:
        worker = context.Process(target=work)
        worker.start()
        assert running.wait(30)
        # What the kernel does for a killed process: the file is closed, no clean-up of ours runs.
        store._file.close()
        store._file = None
    try:
        with ResultStore(tmp_path, IDENTITY) as store:
            store.append(_result('fog', 1))
    finally:
        worker.kill()
        worker.join()
    assert list(load_results(tmp_path)[1]) == [Cell('fog', 1)]


@pytest.mark.parametrize('damage', [None, '', '{"seed": ', '[]'])
def test_a_lost_identity_is_known_by_the_lines(tmp_path, damage):
    """Every line carries the digest of what it depends on: the same evaluation goes on, another is refused."""
    _fill(tmp_path)
    path = tmp_path / 'identity.json'
    path.unlink()
    if damage is not None:
        path.write_text(damage)
    with (
        pytest.raises(MmsharpError, match=r'identity\.json.*not those'),
        ResultStore(tmp_path, {**IDENTITY, 'seed': 1}),
    ):
        pass
    with ResultStore(tmp_path, IDENTITY) as store:
        assert len(store.finished) == 3
    assert load_results(tmp_path)[0] == IDENTITY


def test_lines_of_unknown_origin_are_refused(tmp_path):
    """Neither an identity beside them nor a digest in them."""
    _result_line = _result('fog', 1).to_line()
    (tmp_path / 'results.jsonl').write_text(_result_line + '\n')
    with pytest.raises(MmsharpError, match=r'identity\.json'), ResultStore(tmp_path, IDENTITY):
        pass


def test_a_foreign_folder_is_refused_when_reading(tmp_path):
    """Comparing needs folders that hold results."""
    with pytest.raises(MmsharpError, match='no folder of robustness results'):
        load_results(tmp_path)


@pytest.mark.parametrize(
    'change', [dict(metrics={'mAP': 'high'}), dict(metrics={'mAP': [1]}), dict(images='x'), dict(seconds=None)]
)
def test_a_line_with_other_values_than_numbers_is_damaged(change):
    """It is told apart when it is read, and not by whoever adds it up."""
    line = dict(corruption='fog', severity=1, metrics={'mAP': 0.5}, images=4, seconds=1.0)
    assert CellResult.from_line(json.dumps(line)).images == 4
    with pytest.raises(ValueError, match='result line'):
        CellResult.from_line(json.dumps({**line, **change}))
    with pytest.raises(ValueError, match='result line'):
        CellResult.from_line('[' * 100000)


def test_a_file_system_without_locks_is_no_other_run(tmp_path, monkeypatch):
    """Some network file systems have none."""

    def refuse(file, operation):
        raise OSError(errno.ENOLCK, 'No locks available')

    monkeypatch.setattr(files.fcntl, 'flock', refuse)
    with ResultStore(tmp_path, {'seed': 0}) as store:
        store.append(CellResult(Cell('fog', 1), {'mAP': 0.5}, 10, 1.0))
    assert Cell('fog', 1) in load_results(tmp_path)[1]


def test_cells_of_another_evaluation_among_the_lines_are_refused(tmp_path):
    """As where two files were joined: the last line of a cell would win, whoever's it is."""
    for name, seed in (('mine', 0), ('other', 1)):
        with ResultStore(tmp_path / name, {'seed': seed}) as store:
            store.append(CellResult(Cell('fog', 1), {'mAP': 0.5 + seed}, 10, 1.0))
    path = tmp_path / 'mine/results.jsonl'
    own = path.read_text()
    path.write_text(own + (tmp_path / 'other/results.jsonl').read_text())
    with pytest.raises(MmsharpError, match=r'cells of another evaluation than identity\.json beside it: fog/1; remove'):
        load_results(tmp_path / 'mine')
    with pytest.raises(MmsharpError, match='fog/1'), ResultStore(tmp_path / 'mine', {'seed': 0}):
        pass
    path.write_text(own + own)
    assert load_results(tmp_path / 'mine')[1][Cell('fog', 1)].metrics == {'mAP': 0.5}
