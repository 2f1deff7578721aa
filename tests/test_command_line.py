"""The door that every tool goes through."""

import argparse
import errno

import pytest

from mmsharp.command_line import TRACEBACK, Options, run
from mmsharp.errors import MmsharpError


def failing(error: BaseException):
    def main() -> None:
        raise error

    return main


@pytest.mark.parametrize(
    ('error', 'status', 'words'),
    [
        (MmsharpError('rho=-1 is not a radius'), 2, 'error: rho=-1 is not a radius'),
        (OSError(errno.ENOSPC, 'No space left on device', 'slim.pth'), 2, 'slim.pth'),
        (KeyboardInterrupt(), 130, 'interrupted'),
    ],
)
def test_expected_ends_are_one_line_and_a_status(capsys, error, status, words):
    """A refusal, a full disk or an interrupt: one line on stderr, no traceback."""
    with pytest.raises(SystemExit) as ended:
        run(failing(error))
    assert ended.value.code == status
    printed = capsys.readouterr().err
    assert words in printed
    assert printed.count('\n') == 1


@pytest.mark.parametrize('error', [RuntimeError('a defect'), OSError(errno.EIO, 'broken')])
def test_defects_keep_their_traceback(error):
    """What nobody expected is not hidden."""
    with pytest.raises(type(error)):
        run(failing(error))


def test_the_traceback_of_a_refusal_on_request(monkeypatch):
    """For those who write the part that refuses."""
    monkeypatch.setenv(TRACEBACK, '1')
    with pytest.raises(MmsharpError, match='no radius'):
        run(failing(MmsharpError('no radius')))


def test_options_are_pairs(capsys):
    """Values are read as the toolboxes read them; what is no pair ends with the usage, not with a traceback."""
    parser = argparse.ArgumentParser()
    parser.add_argument('--cfg-options', nargs='+', action=Options)
    options = parser.parse_args(['--cfg-options', 'a.b=[1,2]', 'c=d=e']).cfg_options
    assert options == {'a.b': [1, 2], 'c': 'd=e'}
    with pytest.raises(SystemExit) as ended:
        parser.parse_args(['--cfg-options', 'foo'])
    assert ended.value.code == 2
    assert "'foo' is no key=value" in capsys.readouterr().err
