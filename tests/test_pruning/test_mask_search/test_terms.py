"""Every registered loss term is a finite, weighted scalar; the laws of each."""

import pytest
import torch

from mmsharp.errors import MmsharpError
from mmsharp.pruning.mask_search import Consistency, MarginRatio, Outputs, Passes, Stability, discrepancy, total_loss
from mmsharp.registry import MASK_TERMS, build_part

ALL = sorted(MASK_TERMS.module_dict)
GENERATOR = torch.Generator().manual_seed(0)


def probabilities(images: int = 4, places: int = 1, classes: int = 5) -> Outputs:
    logits = torch.randn(images, places, classes, generator=GENERATOR)
    boxes = torch.randn(images, places, 4, generator=GENERATOR) if places > 1 else None
    return Outputs(logits.softmax(dim=2).requires_grad_(), boxes)


def passes(places: int = 1) -> Passes:
    made = [probabilities(places=places) for _ in range(4)]
    return Passes(*made, dict(loss=torch.tensor(2.0), accuracy=9), {'a': torch.rand(3)})


@pytest.mark.parametrize('name', ALL)
@pytest.mark.parametrize('places', [1, 6])
def test_terms_are_weighted_scalars(name, places):
    """Twice the weight is twice the loss, of classifiers and, where it is defined, of detectors."""
    once, twice = (build_part(MASK_TERMS, dict(type=name, weight=weight)) for weight in (1.0, 2.0))
    if places > 1 and not once.for_detectors:
        pytest.skip('not defined for detectors')
    seen = passes(places)
    value = total_loss(once.losses('x', seen))
    assert value.isfinite()
    assert value > 0
    torch.testing.assert_close(total_loss(twice.losses('x', seen)), 2 * value)
    assert 'loss' not in once.losses('x', seen)


@pytest.mark.parametrize('name', ALL)
@pytest.mark.parametrize('weight', [-1.0, float('nan'), float('inf'), True, '1'])
def test_other_weights_are_refused(name, weight):
    """At construction, with the value."""
    with pytest.raises(MmsharpError, match='weight is'):
        build_part(MASK_TERMS, dict(type=name, weight=weight))


@pytest.mark.parametrize('name', [name for name in ALL if MASK_TERMS.get(name).passes - {'perturbed'}])
def test_a_pass_that_is_missing_is_named(name):
    """Rather than a term of nothing."""
    outputs = probabilities()
    with pytest.raises(MmsharpError, match='needs'):
        build_part(MASK_TERMS, dict(type=name)).value(Passes(outputs, outputs, None, None, None, {}))


@pytest.mark.parametrize('places', [1, 6])
def test_equal_passes_differ_by_nothing(places):
    """Stability and consistency are zero where the passes agree."""
    outputs = probabilities(places=places)
    same = Passes(outputs, outputs, outputs, outputs, None, {})
    assert Stability().value(same) == 0
    assert Consistency().value(same) == 0


def test_the_discrepancy_of_classifiers_is_the_largest_difference():
    """`||p - q||_inf` per image, longhand."""
    first, second = probabilities(), probabilities()
    expected = (first.scores - second.scores).abs().max(dim=2).values[:, 0]
    torch.testing.assert_close(discrepancy(first, second), expected)


def test_the_discrepancy_of_detectors_counts_where_objects_are():
    """Weighted by the first pass' confidence, and shared by all places of an image."""
    first, second = probabilities(2, 3), probabilities(2, 3)
    weights = first.scores.detach().max(dim=2).values
    differences = (first.scores - second.scores).abs().max(dim=2).values + (first.boxes - second.boxes).abs().mean(2)
    expected = (weights * differences).sum(dim=1) / weights.sum(dim=1)
    torch.testing.assert_close(discrepancy(first, second), expected)


def test_the_margin_ratio_is_the_condition_of_cc_cert():
    """`Z / (d + eta)`, capped, longhand on two images: one that would change its class, one that is a near tie."""
    clean = Outputs(torch.tensor([[[0.7, 0.2, 0.1]], [[0.5, 0.5, 0.0]]]))
    other = Outputs(torch.tensor([[[0.3, 0.6, 0.1]], [[0.5, 0.4, 0.1]]]))
    seen = Passes(clean, clean, other, None, None, {})
    assert MarginRatio().value(seen).item() == pytest.approx((0.4 / 0.35 + 0.1 / 0.1) / 2, rel=1e-4)
    assert MarginRatio(eta=1e-6).value(seen).item() == pytest.approx((0.4 / 0.25 + 10) / 2, rel=1e-4)


@pytest.mark.parametrize('margin', [0.0, 1e-7, 1e-3, 0.3])
def test_near_ties_do_not_rule_a_step(margin):
    """However close two classes are, the slope of the ratio is at most ``1 / eta ** 2``."""
    clean = torch.tensor([[[0.5 + margin, 0.5 - margin, 0.0]]], requires_grad=True)
    other = torch.tensor([[[0.0, 0.0, 1.0]]], requires_grad=True)
    eta = 0.1
    seen = Passes(Outputs(clean), Outputs(clean), Outputs(other), None, None, {})
    slopes = torch.autograd.grad(MarginRatio(eta=eta, limit=1e9).value(seen), [clean, other])
    assert max(float(slope.abs().max()) for slope in slopes) <= 1 / eta**2


def test_one_class_has_no_margin():
    """What to do is said."""
    outputs = probabilities(classes=1)
    with pytest.raises(MmsharpError, match=r'gives one class.*margin_ratio=None'):
        MarginRatio().value(Passes(outputs, outputs, outputs, None, None, {}))


@pytest.mark.parametrize('setting', [dict(eta=0), dict(limit=-1), dict(transform=3), dict(eta=float('nan'))])
def test_other_settings_of_the_margin_are_refused(setting):
    """By name."""
    with pytest.raises(MmsharpError, match=next(iter(setting))):
        MarginRatio(**setting)
