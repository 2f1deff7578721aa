import subprocess
import sys
import time
from pathlib import Path

from environment import folders
from environment.lock import exclusive

HOLD = """
import sys, time
sys.path.insert(0, sys.argv[1])
from pathlib import Path
from environment.lock import exclusive
with exclusive(Path(sys.argv[2]), 'a test'):
    print('held', flush=True)
    time.sleep(float(sys.argv[3]))
"""


def hold(path: Path, seconds: float) -> 'subprocess.Popen[str]':
    """Start a process that holds the lock and return it once it does."""
    command = [sys.executable, '-c', HOLD, str(folders.ROOT / 'scripts'), str(path), str(seconds)]
    process = subprocess.Popen(command, stdout=subprocess.PIPE, text=True)
    assert process.stdout is not None
    assert process.stdout.readline() == 'held\n'
    return process


def test_the_second_waits_for_the_first(tmp_path: Path, capsys) -> None:
    """Entering takes as long as another process holds the lock, and says what it waits for."""
    with hold(tmp_path / 'lock', 1.0) as other:
        started = time.monotonic()
        with exclusive(tmp_path / 'lock', 'another set-up'):
            assert time.monotonic() - started > 0.5
        other.wait()
    assert 'waiting for another set-up' in capsys.readouterr().err


def test_a_killed_holder_leaves_no_lock(tmp_path: Path) -> None:
    """A lock file without a living holder does not stop anybody."""
    with hold(tmp_path / 'lock', 60) as other:
        other.kill()
        other.wait()
    started = time.monotonic()
    with exclusive(tmp_path / 'lock', 'another set-up'):
        assert time.monotonic() - started < 5


def test_a_step_that_outlives_its_set_up_keeps_the_lock(tmp_path: Path) -> None:
    """A child process that inherited the descriptor holds the lock until it ends."""
    with exclusive(tmp_path / 'lock', 'x') as lock:
        child = subprocess.Popen([sys.executable, '-c', 'import time; time.sleep(1)'], pass_fds=(lock,))
        probe = subprocess.run(['flock', '--nonblock', str(tmp_path / 'lock'), 'true'], check=False)
        assert probe.returncode == 1
    child.wait()
