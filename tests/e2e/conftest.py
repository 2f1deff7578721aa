"""The commands that users type, in processes of their own, and the small sets that they work on."""

from pathlib import Path

import pytest
from forked_command import run_forked

ROOT = Path(__file__).parents[2]


@pytest.fixture(scope='session')
def command():
    """A function that runs a script as a user would, from a folder, and gives back what it printed."""

    def call(script, *arguments, cwd, check=True):
        finished = run_forked(ROOT / script, [*map(str, arguments)], cwd)
        if check:
            assert finished.returncode == 0, f'{finished.stdout[-3000:]}\n{finished.stderr[-3000:]}'
        return finished

    return call


@pytest.fixture(scope='session')
def digits(tmp_path_factory, command):
    """A folder with ``data/`` in it, written by the converters: where the configs look when called from there."""
    folder = tmp_path_factory.mktemp('digits')
    converters = 'tools/dataset_converters'
    command(f'{converters}/digits_folder.py', 'data/digits_folder', '--copies', 1, cwd=folder)
    few = ('--train', 24, '--val', 4, '--test', 6)
    command(f'{converters}/digits_voc.py', 'data/digits_voc', *few, cwd=folder)
    return folder
