"""The vocabulary is one ordered list, and strings become names of it once, at the door."""

import imagecorruptions
import pytest

from mmsharp.errors import MmsharpError
from mmsharp.robustness import BENCHMARK, CORRUPTIONS, FAMILIES, FAMILY_MEMBERS, GROUPS, HOLDOUT, NAMES, select


@pytest.mark.parametrize(
    ('ours', 'theirs'),
    [('all', 'all'), ('benchmark', 'common'), ('holdout', 'validation'), *((name, name) for name in FAMILIES)],
)
def test_groups_are_those_of_the_reference_library(ours, theirs):
    """Every group holds the names of the reference library's subset, in its order."""
    assert list(GROUPS[ours]) == imagecorruptions.get_corruption_names(theirs)


def test_sizes_of_the_vocabulary():
    """Fifteen benchmark and four held-out corruptions; the families partition the benchmark."""
    assert (len(NAMES), len(BENCHMARK), len(HOLDOUT)) == (19, 15, 4)
    assert tuple(name for family in FAMILIES for name in FAMILY_MEMBERS[family]) == BENCHMARK
    assert {item.family for item in CORRUPTIONS if item.holdout} == set(FAMILIES)


@pytest.mark.parametrize('corruption', CORRUPTIONS, ids=lambda item: item.name)
def test_each_name_selects_itself(corruption):
    """A name alone selects exactly itself."""
    assert select(corruption.name) == (corruption.name,)


def test_groups_and_names_combine_in_the_order_of_the_vocabulary():
    """All that is asked for is selected, each once, whatever the order of asking."""
    assert select(['fog', 'weather', 'saturate', 'noise']) == (*GROUPS['noise'], *GROUPS['weather'], 'saturate')
    assert select(['noise', 'saturate', 'weather']) == select(['fog', 'weather', 'saturate', 'noise'])
    assert select(['holdout', 'benchmark']) == NAMES


@pytest.mark.parametrize(('wrong', 'hint'), [('gausian_noise', 'gaussian_noise'), ('benchmrk', 'benchmark')])
def test_unknown_name_lists_close_matches(wrong, hint):
    """A misspelt name is refused with what was probably meant."""
    with pytest.raises(MmsharpError, match=f'{wrong}.*{hint}'):
        select(['fog', wrong])


def test_nothing_selected_is_refused():
    """An empty choice is an error, not an empty grid."""
    with pytest.raises(MmsharpError, match='no corruption chosen'):
        select([])
