import subprocess
import sys
from importlib.metadata import PathDistribution
from pathlib import Path

import pytest
from environment import folders
from environment.errors import SetUpError
from environment.headless_opencv import has_foreign_opencv, pinned_version, write_stand_in


def test_the_stand_in_installs_as_opencv_python_without_files(tmp_path: Path) -> None:
    """pip accepts the wheel; it answers to the name, requires the headless build and brings no cv2."""
    wheel = write_stand_in('4.12.0.88', tmp_path)
    target = tmp_path / 'site'
    command = [sys.executable, '-m', 'pip', 'install', '-q', '--no-index', '--no-deps', '--target', target, wheel]
    subprocess.run(command, check=True)
    installed = PathDistribution(next(target.glob('*.dist-info')))
    assert installed.metadata['Name'] == 'opencv-python'
    assert installed.requires == ['opencv-python-headless==4.12.0.88']
    assert not (target / 'cv2').exists()
    assert not has_foreign_opencv(target)


def test_the_real_one_is_foreign(tmp_path: Path) -> None:
    """opencv-python and its contrib build are found; the headless build is not taken for one."""
    (tmp_path / 'opencv_python_headless-4.12.0.88.dist-info').mkdir()
    assert not has_foreign_opencv(tmp_path)
    (tmp_path / 'opencv_python-4.12.0.88.dist-info').mkdir()
    assert has_foreign_opencv(tmp_path)


def test_writing_twice_gives_the_same_wheel(tmp_path: Path) -> None:
    """The wheel depends on the version alone."""
    first = write_stand_in('4.12.0.88', tmp_path / 'a').read_bytes()
    assert write_stand_in('4.12.0.88', tmp_path / 'b').read_bytes() == first


def test_the_pin_is_read_from_the_constraints(tmp_path: Path) -> None:
    """The constraints are the one place with the version; without it set-up says so."""
    assert pinned_version(folders.REQUIREMENTS / 'constraints.txt').startswith('4.')
    (tmp_path / 'constraints.txt').write_text('numpy==2.2.6\n')
    with pytest.raises(SetUpError, match='does not pin opencv-python-headless'):
        pinned_version(tmp_path / 'constraints.txt')
