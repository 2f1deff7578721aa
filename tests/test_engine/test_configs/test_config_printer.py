"""Processes that start together on a new machine do not fall over the cache that one of them is writing."""

import subprocess
import sys
import threading

import pytest

from mmsharp.engine.configs.config_printer import import_config_printer

PROGRAM = 'from mmsharp.engine.configs.config_printer import import_config_printer; import_config_printer({seconds})'


def _caches(home):
    return [path for path in home.rglob('*.pickle') if path.is_file()]


def _import(home, seconds):
    environment = {'HOME': str(home), 'XDG_CACHE_HOME': str(home / 'cache')}
    program = PROGRAM.format(seconds=seconds)
    return subprocess.run([sys.executable, '-c', program], env=environment, capture_output=True, text=True, check=False)


@pytest.fixture
def home_with_torn_caches(tmp_path):
    """A home with whole caches by path, which are then cut."""
    assert _import(tmp_path, 0).returncode == 0
    whole = {path: path.read_bytes() for path in _caches(tmp_path)}
    assert whole, 'yapf keeps no cache any more: import_config_printer has no purpose'
    for path, content in whole.items():
        path.write_bytes(content[:0])
    return tmp_path, whole


def test_a_cache_that_is_being_written_is_waited_for(home_with_torn_caches):
    """Whole again after a moment, it is read."""
    home, whole = home_with_torn_caches
    writer = threading.Timer(3.0, lambda: [path.write_bytes(content) for path, content in whole.items()])
    writer.start()
    assert _import(home, 60).returncode == 0
    writer.join()


def test_a_cache_that_stays_torn_is_an_error(home_with_torn_caches):
    """After the time that it was given."""
    home, _ = home_with_torn_caches
    found = _import(home, 0.2)
    assert found.returncode != 0
    assert 'EOFError' in found.stderr


def test_here_it_is_imported():
    """The ordinary case."""
    import_config_printer()
    assert 'yapf' in sys.modules
