import os
import subprocess
import sys

import pytest

PUBLIC = (
    'mmsharp, mmsharp.apis, mmsharp.datasets.transforms, mmsharp.engine.hooks, mmsharp.engine.optim_wrappers, '
    'mmsharp.evaluation, mmsharp.models, mmsharp.pruning, mmsharp.robustness, mmsharp.sharpness, mmsharp.visualization'
)


def run(program: str) -> None:
    """Run a program in a fresh interpreter; its error output is the reason of a failure."""
    command = [sys.executable, '-W', 'ignore', '-c', program]
    done = subprocess.run(command, capture_output=True, text=True, env={**os.environ, 'OMP_NUM_THREADS': '1'})
    assert done.returncode == 0, done.stderr


@pytest.mark.parametrize('absent', ['mmdet', 'mmpretrain'])
def test_either_toolbox_may_be_absent(absent: str) -> None:
    """With one toolbox not installed, everything still imports: the other's users notice nothing."""
    run(f'import sys; sys.modules[{absent!r}] = None; import {PUBLIC}')


def test_the_pure_packages_load_no_toolbox() -> None:
    """Importing the plain torch and NumPy parts brings neither mmdet nor mmpretrain in."""
    run(
        'import sys, mmsharp.sharpness, mmsharp.pruning, mmsharp.robustness; '
        'loaded = {"mmdet", "mmpretrain"} & set(sys.modules); assert not loaded, loaded'
    )
