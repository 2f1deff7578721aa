import os
import signal
import subprocess
import sys
import time
from pathlib import Path

import pytest
from environment import folders, running
from environment.errors import SetUpError


@pytest.fixture(autouse=True)
def logs(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """Send the logs of a test to its own folder."""
    monkeypatch.setattr(folders, 'ROOT', tmp_path)
    monkeypatch.setattr(folders, 'LOGS', tmp_path / 'logs')
    return tmp_path / 'logs'


def test_a_step_returns_and_logs_what_it_printed(logs: Path) -> None:
    """Both streams arrive in the log, of every call, and the call returns its own part."""
    for word in ('one', 'two'):
        program = f'import sys; print("{word}"); print("aside", file=sys.stderr)'
        output = running.run_step('say', [sys.executable, '-c', program], 'say', cwd=logs.parent)
        assert sorted(output.split()) == ['aside', word]
    assert 'one' in (logs / 'say.log').read_text()


def test_a_failed_step_names_itself_its_status_and_its_log(logs: Path, capsys: pytest.CaptureFixture[str]) -> None:
    """The message is one line; the end of the log is shown before it."""
    program = 'print("the reason"); raise SystemExit(7)'
    with pytest.raises(SetUpError) as caught:
        running.run_step('compile', [sys.executable, '-c', program], 'compile', cwd=logs.parent)
    assert '"compile" (exit status 7)' in str(caught.value)
    assert 'logs/compile.log' in str(caught.value)
    assert '\n' not in str(caught.value)
    assert 'the reason' in capsys.readouterr().err


def test_an_interruption_ends_the_step_and_its_children(logs: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """Nothing that a step started outlives an interrupted set-up."""
    pids: list[int] = []

    def interrupt(_: running.Progress, log: Path) -> None:
        words = running.tail(log).split()
        if words[-2:-1] == ['pid']:
            pids.append(int(words[-1]))
            raise KeyboardInterrupt

    monkeypatch.setattr(running.Progress, 'show', interrupt)
    with pytest.raises(KeyboardInterrupt):
        running.run_step('sleep', ['sh', '-c', 'sleep 60 & echo pid $!; wait'], 'sleep', cwd=logs.parent)
    deadline = time.monotonic() + 10
    while time.monotonic() < deadline and is_running(pids[0]):
        time.sleep(0.05)
    assert not is_running(pids[0])


def is_running(pid: int) -> bool:
    """Say whether a process exists and is no zombie."""
    state = subprocess.run(['ps', '-o', 'stat=', '-p', str(pid)], capture_output=True, text=True).stdout.strip()
    return bool(state) and not state.startswith('Z')


def test_what_redirects_pip_does_not_reach_a_step(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    """A user's PIP_USER or PYTHONPATH must not lead packages out of .venv; an index or a proxy passes."""
    for name in ('PYTHONPATH', 'PIP_TARGET', 'PIP_REQUIRE_VIRTUALENV'):
        monkeypatch.setenv(name, 'x')
    monkeypatch.setenv('PIP_USER', '1')
    monkeypatch.setenv('PIP_INDEX_URL', 'https://example.org/simple')
    environment = running.clean_environment(tmp_path / '.venv')
    assert not {'PYTHONPATH', 'PIP_TARGET', 'PIP_REQUIRE_VIRTUALENV'} & set(environment)
    assert environment['PIP_USER'] == '0'
    assert environment['PIP_INDEX_URL'] == 'https://example.org/simple'
    assert environment['PATH'].split(os.pathsep)[0] == str(tmp_path / '.venv' / 'bin')


def test_activity_of_a_build_is_its_file_count() -> None:
    """ninja's newest count wins over the compiler's long lines; without one the last line is shown."""
    assert running.activity('[1/9] c++ a\n[2/9] c++ b\nwarning: something\n') == 'file 2 of 9'
    assert running.activity('\n') == ''


def test_a_terminated_set_up_says_that_it_can_go_on(tmp_path: Path) -> None:
    """SIGTERM ends the program with status 130 and a word, not with a traceback."""
    program = (
        'import sys, time; sys.path.insert(0, sys.argv[1]); import set_up\n'
        'set_up.set_up = lambda: (print("ready", flush=True), time.sleep(60)); sys.exit(set_up.main())'
    )
    scripts = Path(__file__).parents[2] / 'scripts'
    process = subprocess.Popen(
        [sys.executable, '-c', program, str(scripts)], stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True
    )
    assert process.stdout is not None
    assert process.stdout.readline() == 'ready\n'
    process.send_signal(signal.SIGTERM)
    _, errors = process.communicate(timeout=30)
    assert process.returncode == 130
    assert errors == 'set-up was interrupted; the next call goes on where it stopped\n'
