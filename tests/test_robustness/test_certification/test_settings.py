"""What can be chosen, and what is refused at once."""

import pytest

from mmsharp.errors import MmsharpError
from mmsharp.robustness import CertificationSettings


def test_the_published_numbers_are_the_defaults():
    """n = 100, k = 10, delta = 0.9: 1,000 draws, which cannot speak of rates below 5e-3."""
    settings = CertificationSettings()
    assert (settings.draws, settings.groups, settings.delta, settings.total_draws) == (100, 10, 0.9, 1000)
    assert [settings.supports(eps) for eps in settings.eps] == [True, True, False, False]
    assert settings.supports(5e-3)
    assert not settings.supports(4.9e-3)


@pytest.mark.parametrize(
    'wrong',
    [
        dict(draws=0),
        dict(groups=1.5),
        dict(delta=0),
        dict(eps=()),
        dict(eps=(0.0,)),
        dict(eps=(2.0,)),
        dict(eps='0.1'),
        dict(compat='published'),
        dict(cap=0),
        dict(confidence=1.0),
        dict(grid=-1),
        dict(seed=-1),
        dict(chunk=0),
        dict(chunk=True),
    ],
)
def test_values_out_of_range_are_refused(wrong):
    """At construction, naming the setting."""
    [name] = wrong
    with pytest.raises(MmsharpError, match='cap' if name == 'cap' else name):
        CertificationSettings(**wrong)


def test_settings_of_a_config():
    """A dictionary is read and not changed; an unknown name is refused with those that exist."""
    given = dict(draws=5, eps=[1e-2, 1e-1, 1e-2])
    settings = CertificationSettings.of(given)
    assert settings.eps == (0.1, 0.01)
    assert given == dict(draws=5, eps=[1e-2, 1e-1, 1e-2])
    assert CertificationSettings.of(None) == CertificationSettings()
    assert CertificationSettings.of(settings) is settings
    with pytest.raises(MmsharpError, match=r"'nsamples'.*draws"):
        CertificationSettings.of(dict(nsamples=5))


def test_the_identity_leaves_out_what_changes_no_value():
    """Another eps or chunk goes on in the same folder."""
    assert CertificationSettings(eps=(0.5,), chunk=1).identity() == CertificationSettings().identity()
    assert CertificationSettings(seed=1).identity() != CertificationSettings().identity()


@pytest.mark.parametrize(('dimensions', 'points'), [(1, 20), (2, 20), (3, 10), (4, 5), (12, 1)])
def test_grids_of_many_parameters_are_coarser(dimensions, points):
    """No grid has more points than the limit."""
    assert CertificationSettings().grid_points(dimensions) == points
    assert points**dimensions <= 1000
