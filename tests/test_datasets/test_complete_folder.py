"""A made set is complete, or it is named as what it is."""

import pytest

from mmsharp.datasets.complete_folder import appearing_at_once, holds_complete_set
from mmsharp.errors import MmsharpError

SETTINGS = dict(version=1, seed=0)


@pytest.fixture
def made(tmp_path):
    """A set of two files in one folder."""
    target = tmp_path / 'set'
    with appearing_at_once(target, 'set.json', SETTINGS) as partial:
        (partial / 'images').mkdir()
        for name in ('a', 'b'):
            (partial / 'images' / name).write_text(name)
    return target


def test_a_finished_set_is_taken_as_it_is(made):
    """The same settings, all files."""
    assert holds_complete_set(made, 'set.json', SETTINGS)
    assert not holds_complete_set(made.parent / 'other', 'set.json', SETTINGS)


def test_a_set_that_lost_or_won_files_is_named(made):
    """How many there are and how many there were."""
    (made / 'images' / 'c').write_text('c')
    with pytest.raises(MmsharpError, match='holds 3 files, and 2 when it was made'):
        holds_complete_set(made, 'set.json', SETTINGS)
    for name in 'abc':
        (made / 'images' / name).unlink()
    with pytest.raises(MmsharpError, match='holds 0 files, and 2 when it was made'):
        holds_complete_set(made, 'set.json', SETTINGS)


def test_another_set_is_refused(made):
    """The setting that differs is named; so is a folder of something else."""
    with pytest.raises(MmsharpError, match='seed=0, not 1'):
        holds_complete_set(made, 'set.json', dict(SETTINGS, seed=1))
    (made / 'set.json').unlink()
    with pytest.raises(MmsharpError, match=r'has no set\.json'):
        holds_complete_set(made, 'set.json', SETTINGS)


def test_an_interrupted_making_leaves_nothing(tmp_path):
    """The target is as before."""
    making = appearing_at_once(tmp_path / 'set', 'set.json', SETTINGS)
    (making.__enter__() / 'a').write_text('a')
    assert not making.__exit__(KeyboardInterrupt, KeyboardInterrupt(), None)
    assert not (tmp_path / 'set').exists()
