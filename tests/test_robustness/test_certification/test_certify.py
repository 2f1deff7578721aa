"""Certificates of images by classifiers whose failures are known."""

import numpy as np
import pytest
import torch

from mmsharp.errors import MmsharpError
from mmsharp.robustness import CertificationSettings, certification_scores, certify
from mmsharp.robustness.certification import (
    certified_share,
    chernoff_bound,
    clopper_pearson_upper,
    discrepancy,
    draw_parameters,
    parse_transform,
)

QUICK = dict(draws=20, groups=5, grid=4)


def by_light(images):
    """Two classes: probability of the first rises with the mean of the image."""
    light = images.mean(dim=(1, 2, 3)).clamp(0.01, 0.99)
    return torch.stack([light, 1 - light], dim=1)


def pictures(count=4):
    """Images of 3x6x5 that are all brighter than grey."""
    return 0.5 + 0.45 * torch.rand(count, 3, 6, 5, generator=torch.Generator().manual_seed(0))


def test_a_certificate_is_the_formula_longhand():
    """From draws, discrepancies and margin, as they are defined."""
    [image] = pictures(1)
    [found] = certify(by_light, [image], [0], 'brightness:0.4', ['a'], **QUICK)
    shifts = draw_parameters(parse_transform('brightness:0.4'), 'a', 100, 0)[:, 0]
    copies = torch.stack([(image + shift.float()).clamp(0, 1) for shift in shifts])
    clean, moved = by_light(image[None]).double(), by_light(copies).double()
    d = (clean.max() - clean.min()) / 2
    Z = discrepancy(clean, moved)
    changed = int((moved[:, 0] < 0.5).sum())
    assert 0 < changed < 100
    assert found.margin == pytest.approx(d.item(), abs=1e-7)
    assert (found.changed, found.reached) == (changed, int((d <= Z).sum()))
    assert found.bound == pytest.approx(chernoff_bound(Z.reshape(1, 5, 20), d[None]).item(), rel=1e-6)
    assert found.exact_bound == clopper_pearson_upper(changed, 100)
    assert (found.correct, found.right_on_grid, found.grid_points) == (True, False, 4)
    assert found.bound <= found.capped_bound <= 1


def test_an_image_that_is_wrong_as_it_is_fails_on_every_grid():
    """Though all points of the grid are right: the image as it is counts as one, which is stricter than CC-Cert."""
    asked = []

    def right_where_moved(images):
        """Sure of class 0 but for the image of 0.6, which no point of the grid is."""
        asked.append(len(images))
        same = ((images - 0.6).abs() < 1e-6).flatten(1).all(dim=1)
        return torch.where(same[:, None], torch.tensor([[0.1, 0.9]]), torch.tensor([[0.9, 0.1]]))

    image, transform = torch.full((1, 3, 4, 4), 0.6), parse_transform('brightness:0.2')
    points = transform.grid(4)
    copies = transform(image.expand(len(points), -1, -1, -1), points)
    assert (right_where_moved(copies).argmax(dim=1) == 0).all()
    asked.clear()
    [found] = certify(right_where_moved, image, [0], transform, draws=10, groups=1, grid=4)
    assert (found.correct, found.right_on_grid, found.grid_points) == (False, False, 4)
    assert sum(asked) == 1 + 10
    scores = certification_scores([found], str(transform), CertificationSettings(draws=10, groups=1))
    assert scores.clean_accuracy == scores.empirical_robust_accuracy == 0
    [known] = certify(right_where_moved, image, [1], transform, draws=10, groups=1, grid=4)
    assert (known.correct, known.right_on_grid) == (True, False)


@pytest.mark.parametrize('text', ['rotation:20', 'blur:1', 'rotation:10+contrast:0.3'])
def test_neither_batch_nor_order_nor_other_images_change_a_certificate(text):
    """All together, one by one and backwards: the same certificates, bit by bit."""
    images, names = pictures(), ['a', 'b', 'c', 'd']
    together = certify(by_light, images, [0, 1, 0, 1], text, names, **QUICK)
    alone = [certify(by_light, [images[i]], [i % 2], text, [names[i]], **QUICK)[0] for i in range(4)]
    assert alone == together
    assert certify(by_light, images.flip(0), [1, 0, 1, 0], text, names[::-1], **QUICK) == together[::-1]


def test_chunks_bound_what_the_model_gets_and_change_nothing():
    """Never more images at a time than asked; the same certificates as all at once."""
    seen = []

    def counting(images):
        seen.append(len(images))
        return by_light(images)

    small = certify(counting, pictures(2), [0, 0], 'contrast:0.5', chunk=7, **QUICK)
    assert max(seen) == 7
    assert sum(seen) == 2 * (1 + 100 + 4)
    assert small == certify(by_light, pictures(2), [0, 0], 'contrast:0.5', chunk=10_000, **QUICK)


def test_the_images_and_the_gradient_mode_are_left_alone():
    """Nothing is written into the images, and no graph is kept."""
    images = pictures(2)
    before = images.clone()
    weight = torch.ones(1, requires_grad=True)

    def learned(batch):
        found = by_light(batch * weight)
        assert not found.requires_grad
        return found

    certify(learned, images, [0, 0], 'blur:1', **QUICK)
    assert torch.equal(images, before)
    assert torch.is_grad_enabled()


def test_the_published_arithmetic_is_chosen_by_compat():
    """compat='official' changes the bound alone; the capped bound stays in log-space."""
    [ours] = certify(by_light, pictures(1), [0], 'brightness:0.3', **QUICK)
    [theirs] = certify(by_light, pictures(1), [0], 'brightness:0.3', compat='official', **QUICK)
    assert ours.bound != theirs.bound
    assert (ours.capped_bound, ours.exact_bound) == (theirs.capped_bound, theirs.exact_bound)


def test_scores_count_images_that_are_right_and_below_eps():
    """PCA is a share of all images; a wrong image counts for nothing however stable it is."""
    dark, bright = torch.full((3, 4, 4), 0.1), torch.full((3, 4, 4), 0.9)
    found = certify(by_light, [bright, bright, dark, bright], [0, 0, 0, 1], 'brightness:0.05', draws=100, groups=10)
    settings = CertificationSettings(eps=(1e-2, 1e-3))
    scores = certification_scores(found, 'brightness:0.05', settings)
    assert (scores.images, scores.draws, scores.clean_accuracy, scores.empirical_robust_accuracy) == (4, 1000, 0.5, 0.5)
    at_hundredth, at_thousandth = scores.eps
    assert (at_hundredth.supported, at_hundredth.draws, at_hundredth.pca, at_hundredth.exact) == (True, 1000, 0.5, 0.5)
    assert (at_thousandth.supported, at_thousandth.pca, at_thousandth.pca_capped, at_thousandth.exact) == (
        (False, 0.5, 0.0, 0.0)
    )
    assert certified_share(found, 1.0, 'exact_bound') == 0.5
    assert scores.grid_points == 20
    with pytest.raises(MmsharpError, match='no image'):
        certification_scores([], 'x', settings)
    with pytest.raises(MmsharpError, match=r"'boundd'.*accepted are bound, capped_bound, exact_bound"):
        certified_share(found, 1e-2, 'boundd')


def test_the_exact_bound_holds_as_often_as_it_says():
    """Over 150 images of one known failure rate, the 90 % bound is below it in about a tenth, never much more."""
    rate = 0.25  # brightness:0.4 takes an image of 0.7 below one half where b < -0.2
    names = [str(number) for number in range(150)]
    images = torch.full((150, 1, 1, 1), 0.7)
    found = certify(by_light, images, [0] * 150, 'brightness:0.4', names, draws=40, groups=1, confidence=0.9, grid=0)
    below = np.mean([certificate.exact_bound < rate for certificate in found])
    assert below < 0.1 + 3 * (0.1 * 0.9 / 150) ** 0.5
    assert found[0].right_on_grid is None


@pytest.mark.parametrize(
    ('predict', 'images', 'labels', 'message'),
    [
        (lambda x: x.mean(dim=(2, 3)) * 5, pictures(1), [0], 'no probabilities'),
        (lambda x: x, pictures(1), [0], 'scores of shape'),
        (lambda x: torch.full((len(x), 2), torch.nan), pictures(1), [0], 'no probabilities'),
        (by_light, pictures(1) * 255, [0], r'expected \[0, 1\]'),
        (by_light, (pictures(1) * 255).byte(), [0], 'floats'),
        (by_light, pictures(1)[:, 0], [0], 'expected'),
        (by_light, pictures(2), [0], 'do not fit'),
    ],
)
def test_what_cannot_be_certified_is_refused(predict, images, labels, message):
    """Logits, normalised images and the like are errors that say what was expected."""
    with pytest.raises(MmsharpError, match=message):
        certify(predict, images, labels, 'rotation:5', **QUICK)


def test_settings_are_given_once():
    """Either as a whole or one by one."""
    with pytest.raises(MmsharpError, match='not both'):
        certify(by_light, pictures(1), [0], 'rotation:5', settings=CertificationSettings(), draws=5)
    by_dictionary = certify(by_light, pictures(1), [0], 'rotation:5', settings=dict(QUICK))
    assert by_dictionary == certify(by_light, pictures(1), [0], 'rotation:5', **QUICK)
    with pytest.raises(MmsharpError, match=r'settings 5.*expected a dictionary'):
        certify(by_light, pictures(1), [0], 'rotation:5', settings=5)
