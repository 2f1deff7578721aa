"""What is no ascent or no policy, or does not go together, is refused by name."""

import pytest
from small_network import ALL_POLICIES, Network, policy_of, wrapped

from mmsharp.errors import MmsharpError
from mmsharp.registry import POLICIES
from mmsharp.sharpness import SAM, MomentumSAM


@pytest.mark.parametrize('ascent', [3, 'SAM'])
def test_what_is_no_ascent_is_refused(ascent):
    """Neither a config nor an Ascent."""
    with pytest.raises(MmsharpError, match='ascent'):
        wrapped(Network(), ascent=ascent)


@pytest.mark.parametrize(
    ('arguments', 'words'),
    [
        (dict(ascent=dict(type=3)), 'type 3 is unknown; accepted: .*SAM'),
        (dict(ascent='SAM'), "'SAM' is neither an Ascent.*AdaSAP"),
        (dict(ascent=SAM(), policy='LookSAM'), "'LookSAM' is neither a Policy.*EveryStep"),
        (dict(ascent=dict(type='AdaSAP', score=['l2'])), r"score=\['l2'\] is neither"),
        (dict(ascent=dict(type='SAM', rho=10**400)), 'rho=1000'),
    ],
)
def test_wrong_types_are_named_with_what_is_accepted(arguments, words):
    """At construction."""
    with pytest.raises(MmsharpError, match=words):
        wrapped(Network(), **arguments)


@pytest.mark.parametrize('policy', [name for name in ALL_POLICIES if POLICIES.get(name).corrects])
def test_a_policy_that_compares_gradients_needs_two(policy):
    """Along the momentum there is one; exchanging the ascent later is no way around."""
    with pytest.raises(MmsharpError, match=rf'{policy} compares two gradients, and MomentumSAM takes one'):
        wrapped(Network(), MomentumSAM(), policy=policy_of(policy))
    wrapper = wrapped(Network(), SAM(), policy=policy_of(policy))
    with pytest.raises(MmsharpError, match=policy):
        wrapper.set_ascent(MomentumSAM())
