import re
from pathlib import Path

from environment import folders

ROOT = Path(__file__).parents[2]


def requirements(name: str) -> dict[str, str]:
    """Map the distributions of ``requirements/<name>.txt`` to their version conditions."""
    lines = (ROOT / 'requirements' / f'{name}.txt').read_text(encoding='utf-8').splitlines()
    parsed = [re.match(r'([A-Za-z0-9_.-]+)([^;]*)', line) for line in lines if line and not line.startswith('#')]
    return {found[1].lower().replace('_', '-'): found[2].strip() for found in parsed if found}


def test_the_package_itself_names_no_torch_and_no_toolbox() -> None:
    """`pip install .` must leave the toolboxes of an existing environment alone, the original ones included."""
    for name in requirements('runtime'):
        assert name not in ('torch', 'torchvision')
        assert not name.startswith(('mm', 'onedl'))


def test_the_toolboxes_are_pinned_together() -> None:
    """The extra holds the tested versions of all four, exactly."""
    pinned = {**requirements('toolboxes'), **requirements('mmcv')}
    assert sorted(pinned) == ['onedl-mmcv', 'onedl-mmdetection', 'onedl-mmengine', 'onedl-mmpretrain']
    assert all(condition.startswith('==') for condition in pinned.values())


def test_every_requirement_has_a_tested_version() -> None:
    """Whatever set-up installs is pinned, in place or in the constraints."""
    constraints = requirements('constraints')
    for file in ('build', 'runtime', 'demo', 'export', 'tests'):
        for name, condition in requirements(file).items():
            if name != 'setuptools':
                assert condition.startswith('==') or constraints.get(name, '').startswith('=='), f'{file}: {name}'


def test_constraints_agree_with_the_pins() -> None:
    """A version that is pinned in two places is the same in both."""
    constraints = requirements('constraints')
    for file in ('runtime', 'toolboxes', 'mmcv', 'demo', 'export', 'tests'):
        for name, condition in requirements(file).items():
            if condition.startswith('==') and name in constraints:
                assert constraints[name] == condition, name


def test_the_set_up_knows_where_it_is() -> None:
    """The folders are those of this clone."""
    assert folders.ROOT == ROOT
    assert (folders.INSIDE / 'verify_mmcv.py').is_file()
