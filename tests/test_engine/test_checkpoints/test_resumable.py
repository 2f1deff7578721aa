"""A killed run goes on from its newest whole checkpoint, whatever the kill has torn."""

import os

import pytest
import torch

from mmsharp.engine.checkpoints.resumable import newest_resumable
from mmsharp.engine.checkpoints.safe_checkpoint import UnsafeCheckpointError


class Payload:
    """Not plain data."""

    def __reduce__(self):
        return print, ('ran',)


def write(folder, epoch, **extra):
    path = folder / f'epoch_{epoch}.pth'
    torch.save(dict(state_dict=dict(weight=torch.ones(64)), meta=dict(epoch=epoch, iter=epoch), **extra), path)
    os.utime(path, (epoch, epoch))
    return path


def tear(path):
    content = path.read_bytes()
    path.write_bytes(content[: len(content) // 2])
    os.utime(path, (99, 99))


@pytest.fixture
def run(tmp_path):
    """A folder with two checkpoints and MMEngine's note of the later one."""
    for epoch in (1, 2):
        path = write(tmp_path, epoch)
    (tmp_path / 'last_checkpoint').write_text(str(path))
    return tmp_path


def test_the_noted_checkpoint_is_taken(run, tmp_path_factory):
    """Also from another folder, and where a newer file lies beside it."""
    write(run, 3)
    assert newest_resumable(run) == str(run / 'epoch_2.pth')
    elsewhere = write(tmp_path_factory.mktemp('elsewhere'), 7)
    (run / 'last_checkpoint').write_text(str(elsewhere))
    assert newest_resumable(run) == str(elsewhere)


@pytest.mark.parametrize('note', [None, '', ' \n', 'gone.pth', '.', b'\xff\x00'])
def test_without_a_note_the_newest_is_taken(run, note):
    """The note is missing, empty, damaged, or of a file that is not there."""
    (run / 'last_checkpoint').unlink()
    if note is not None:
        (run / 'last_checkpoint').write_bytes(note if isinstance(note, bytes) else note.encode())
    assert newest_resumable(run) == str(run / 'epoch_2.pth')


def test_half_a_checkpoint_is_skipped_by_name(run):
    """Whether noted or the newest."""
    tear(run / 'epoch_2.pth')
    assert newest_resumable(run) == str(run / 'epoch_1.pth')
    (run / 'last_checkpoint').write_text('')
    assert newest_resumable(run) == str(run / 'epoch_1.pth')
    (run / 'epoch_3.pth').write_bytes(b'')
    (run / 'epoch_4.pth').write_bytes(bytes(1000))
    assert newest_resumable(run) == str(run / 'epoch_1.pth')


def test_the_skipped_file_is_named(run, monkeypatch):
    """In a warning."""
    lines = []
    monkeypatch.setattr(
        'mmsharp.engine.checkpoints.resumable.print_log', lambda message, logger, level: lines.append(message)
    )
    tear(run / 'epoch_2.pth')
    newest_resumable(run)
    [line] = lines
    assert str(run / 'epoch_2.pth') in line
    assert 'not resumed' in line


def test_what_training_cannot_go_on_from_is_no_candidate(run):
    """Weights alone, and the best checkpoints, which lack the state of the optimizer."""
    for name in ('epoch_1.pth', 'epoch_2.pth'):
        (run / name).unlink()
    torch.save(dict(state_dict=dict(weight=torch.ones(2))), run / 'dense.pth')
    write(run, 3).rename(run / 'best_epoch_3.pth')
    assert newest_resumable(run) is None
    assert newest_resumable(run / 'not_there') is None


@pytest.mark.parametrize('noted', [True, False])
def test_a_whole_file_that_is_unsafe_is_refused(run, noted):
    """No kill writes it; going on from another would hide it."""
    write(run, 3, extra=Payload())
    (run / 'last_checkpoint').write_text(str(run / 'epoch_3.pth') if noted else '')
    with pytest.raises(UnsafeCheckpointError, match=r'epoch_3\.pth'):
        newest_resumable(run)
