"""Random parameters, by seed, image and transform alone."""

import torch

from mmsharp.robustness.certification import draw_parameters, parse_transform


def test_draws_begin_alike_and_differ_between_images_transforms_and_seeds():
    """More draws begin with the fewer ones; everything that names them changes them."""
    rotation = parse_transform('rotation:10')
    many = draw_parameters(rotation, 'a', 100, seed=1)
    assert torch.equal(draw_parameters(rotation, 'a', 7, seed=1), many[:7])
    others = [('b', 1, 'rotation:10'), ('a', 2, 'rotation:10'), ('a', 1, 'rotation:20')]
    for image, seed, text in others:
        transform = parse_transform(text)
        assert not torch.allclose(draw_parameters(transform, image, 100, seed) / transform.high[0], many / 10)


def test_draws_are_uniform_over_the_box():
    """Mean and spread of U(low, high) for each parameter, and no two parameters alike."""
    transform = parse_transform('translation:0.2+gamma:2')
    found = draw_parameters(transform, 'a', 4000)
    low, high = torch.tensor(transform.low), torch.tensor(transform.high)
    assert (found >= low).all()
    assert (found <= high).all()
    torch.testing.assert_close(found.mean(dim=0).float(), (low + high) / 2, atol=0.03, rtol=0)
    torch.testing.assert_close(found.std(dim=0).float(), (high - low) / 12**0.5, atol=0.03, rtol=0)
    assert torch.corrcoef(found.T).tril(-1).abs().max() < 0.06
