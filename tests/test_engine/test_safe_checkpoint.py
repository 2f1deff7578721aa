"""Checkpoints are data: what would have to be unpickled never is."""

import pickle

import numpy as np
import pytest
import torch
from mmengine.logging import HistoryBuffer

from mmsharp.engine.safe_checkpoint import UnsafeCheckpointError, check_checkpoint, check_config_checkpoints


class Payload:
    """Unpickling it would leave a file behind."""

    def __init__(self, marker):
        self.marker = marker

    def __reduce__(self):
        return open, (str(self.marker), 'w')


def test_an_ordinary_mmengine_checkpoint_is_accepted(tmp_path):
    """HistoryBuffers and NumPy scalars are on MMEngine's allow-list."""
    buffer = HistoryBuffer()
    buffer.update(np.float64(1.0))
    path = tmp_path / 'epoch_1.pth'
    torch.save(dict(state_dict=dict(weight=torch.ones(2)), meta=dict(epoch=1), message_hub=dict(loss=buffer)), path)
    assert torch.equal(check_checkpoint(path)['state_dict']['weight'], torch.ones(2))


def test_code_in_a_checkpoint_does_not_run(tmp_path):
    """It is refused by name, and its payload leaves no trace."""
    marker = tmp_path / 'ran'
    path = tmp_path / 'stranger.pth'
    torch.save(dict(state_dict={}, payload=Payload(marker)), path)
    with pytest.raises(UnsafeCheckpointError, match=r'stranger\.pth.*run code'):
        check_checkpoint(path)
    assert not marker.exists()


@pytest.mark.parametrize('content', [b'', b'not a checkpoint', pickle.dumps([1, 2, 3])])
def test_files_that_are_no_checkpoints_are_refused(tmp_path, content):
    """Empty, text, or a bare pickle."""
    path = tmp_path / 'broken.pth'
    path.write_bytes(content)
    with pytest.raises(UnsafeCheckpointError, match=r'broken\.pth'):
        check_checkpoint(path)


def test_a_truncated_checkpoint_is_refused(tmp_path):
    """Half a file, as a full disk or a broken download leaves it."""
    path = tmp_path / 'half.pth'
    torch.save(dict(state_dict=dict(weight=torch.randn(1000))), path)
    path.write_bytes(path.read_bytes()[: path.stat().st_size // 2])
    with pytest.raises(UnsafeCheckpointError, match=r'half\.pth.*damaged'):
        check_checkpoint(path)


def test_every_door_of_a_run_is_watched(tmp_path):
    """load_from, an explicit resume, auto-resume, and the init_cfg of a part of the model."""
    bad = tmp_path / 'epoch_1.pth'
    bad.write_bytes(b'no checkpoint')
    (tmp_path / 'last_checkpoint').write_text(str(bad))
    model = dict(backbone=dict(init_cfg=[dict(type='Pretrained', checkpoint=str(bad))]))
    doors = [
        dict(load_from=str(bad), resume=False, work_dir='nowhere'),
        dict(load_from=None, resume=True, work_dir=str(tmp_path)),
        dict(load_from=None, resume=False, work_dir='nowhere', model=model),
    ]
    for door in doors:
        with pytest.raises(UnsafeCheckpointError, match='epoch_1'):
            check_config_checkpoints(**door)
    check_config_checkpoints(None, True, str(tmp_path / 'empty'))
    check_config_checkpoints('torchvision://resnet18', False, 'nowhere')


def test_a_missing_checkpoint_is_named(tmp_path):
    """With what to do."""
    with pytest.raises(UnsafeCheckpointError, match=r'epoch_9\.pth.*does not exist'):
        check_checkpoint(tmp_path / 'epoch_9.pth')


def test_a_colon_in_a_name_does_not_open_the_door(tmp_path, monkeypatch):
    """`a:b.pth` is a local file, not a scheme, and `~` is the home folder, as MMEngine reads it."""
    monkeypatch.setenv('HOME', str(tmp_path))
    monkeypatch.chdir(tmp_path)
    marker = tmp_path / 'ran'
    torch.save(dict(payload=Payload(marker)), tmp_path / 'a:b.pth')
    for name in ('a:b.pth', '~/a:b.pth'):
        with pytest.raises(UnsafeCheckpointError, match='run code'):
            check_config_checkpoints(name, False, 'nowhere')
    assert not marker.exists()
