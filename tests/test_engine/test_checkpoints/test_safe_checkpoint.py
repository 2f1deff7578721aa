"""Checkpoints are data: what would have to be unpickled never is."""

import os
import pickle
import shutil
import subprocess
import sys

import numpy as np
import pytest
import torch
from mmengine.logging import HistoryBuffer
from mmengine.model import PretrainedInit
from mmengine.runner import CheckpointLoader

from mmsharp.engine.checkpoints.safe_checkpoint import (
    UnsafeCheckpointError,
    check_checkpoint,
    check_config_checkpoints,
    plain_checkpoints,
)


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


def test_other_keys_that_name_weights_are_watched(tmp_path):
    """A teacher's checkpoint, and `Pretrained` given as a class as in pure-Python configs."""
    bad = tmp_path / 'teacher.pth'
    bad.write_bytes(b'no checkpoint')
    for model in (
        dict(teacher_ckpt=str(bad)),
        dict(backbone=dict(init_cfg=dict(type=PretrainedInit, checkpoint=str(bad)))),
    ):
        with pytest.raises(UnsafeCheckpointError, match='teacher'):
            check_config_checkpoints(None, False, 'nowhere', model)


def test_no_loader_unpickles_what_a_scheme_leads_to(tmp_path, monkeypatch):
    """MMEngine's loaders for its schemes, for downloads and for files, and torch's own call, asked to unpickle."""
    marker = tmp_path / 'ran'
    bad = tmp_path / 'resnet.pth'
    torch.save(dict(state_dict={}, payload=Payload(marker)), bad)
    monkeypatch.setenv('TORCH_FORCE_NO_WEIGHTS_ONLY_LOAD', '1')
    monkeypatch.setattr(torch.hub, 'download_url_to_file', lambda url, target, *_, **__: shutil.copy(bad, target))
    monkeypatch.setattr('torch.hub.get_dir', lambda: str(tmp_path / 'hub'))
    for load in (
        lambda: CheckpointLoader.load_checkpoint('torchvision://resnet18'),
        lambda: CheckpointLoader.load_checkpoint('https://example.invalid/resnet.pth'),
        lambda: CheckpointLoader.load_checkpoint(str(bad)),
        lambda: torch.load(bad, weights_only=False),
    ):
        with pytest.raises(UnsafeCheckpointError, match='run code'), plain_checkpoints():
            load()
    assert not marker.exists()
    assert os.environ['TORCH_FORCE_NO_WEIGHTS_ONLY_LOAD'] == '1'
    assert 'TORCH_FORCE_WEIGHTS_ONLY_LOAD' not in os.environ


def test_two_addresses_of_one_name_are_told_apart(tmp_path, monkeypatch):
    """torch.hub would give the first for the second: refused, with the file to remove; the first is found again."""
    weights = tmp_path / 'weights.pth'
    torch.save(dict(state_dict={}), weights)
    monkeypatch.setattr(torch.hub, 'download_url_to_file', lambda url, target, *_, **__: shutil.copy(weights, target))
    monkeypatch.setattr('torch.hub.get_dir', lambda: str(tmp_path / 'hub'))
    for _ in range(2):
        check_checkpoint('https://example.invalid/a/slim.pth')
    with pytest.raises(UnsafeCheckpointError, match=r'example\.invalid/a/slim\.pth before.*remove .*slim\.pth'):
        check_checkpoint('https://example.invalid/b/slim.pth')


def test_what_is_allowed_stays_so_after_a_load(tmp_path):
    """MMEngine's loader and our own check allow names for a while and take them back; the frame around them stays."""
    buffer = HistoryBuffer()
    buffer.update(np.float64(1.0))
    torch.save(dict(state_dict={}, message_hub=dict(loss=buffer)), tmp_path / 'epoch_1.pth')
    before = set(torch.serialization.get_safe_globals())
    with plain_checkpoints():
        for _ in range(2):
            check_checkpoint(tmp_path / 'epoch_1.pth')
            CheckpointLoader.load_checkpoint(str(tmp_path / 'epoch_1.pth'))
            assert torch.load(tmp_path / 'epoch_1.pth')['message_hub']['loss'].current() == 1.0
    assert set(torch.serialization.get_safe_globals()) == before


def test_getattr_of_anything_but_a_log_buffer_is_refused(tmp_path):
    """MMEngine's buffers pickle their methods by `getattr`; nothing else may be reached that way."""

    class Reach:
        def __reduce__(self):
            return getattr, (HistoryBuffer, '__init__')

    torch.save(dict(state_dict={}, reach=Reach()), tmp_path / 'reach.pth')
    with pytest.raises(UnsafeCheckpointError, match='not allowed'):
        check_checkpoint(tmp_path / 'reach.pth')


def test_mmengines_list_of_safe_names_is_not_needed(tmp_path):
    """The original mmengine has none: the module imports, and a training checkpoint is read."""
    buffer = HistoryBuffer()
    buffer.update(np.float64(1.0))
    torch.save(dict(state_dict={}, message_hub=dict(loss=buffer)), tmp_path / 'epoch_1.pth')
    program = (
        'import sys, mmengine.runner.checkpoint as checkpoint\n'
        "vars(checkpoint).pop('get_torch_safe_globals', None)\n"
        'from mmsharp.engine.checkpoints.safe_checkpoint import check_checkpoint\n'
        "print(check_checkpoint(sys.argv[1])['message_hub']['loss'].current())"
    )
    ended = subprocess.run(
        [sys.executable, '-c', program, str(tmp_path / 'epoch_1.pth')], capture_output=True, text=True, check=True
    )
    assert ended.stdout.strip() == '1.0'


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
