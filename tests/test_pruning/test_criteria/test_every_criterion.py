import pytest
import torch

from mmsharp.errors import MmsharpError
from mmsharp.pruning import BatchNormScale, GeometricMedian, Magnitude, Random, Taylor, find_groups, tensor_forward
from mmsharp.registry import CRITERIA, build_part

IMAGE = torch.zeros(2, 3, 8, 8)
CRITERIA.import_from_location()


@pytest.mark.parametrize('name', sorted(CRITERIA.module_dict))
def test_every_criterion_scores_every_group(residual, name):
    """One finite number per channel, the same each time, with the model and the random state untouched."""
    criterion = build_part(CRITERIA, {'type': f'mmsharp.{name}'})
    groups = find_groups(residual, tensor_forward(IMAGE)).groups
    if hasattr(criterion, 'observe'):
        residual(IMAGE + 1).square().mean().backward()
        criterion.observe(residual, groups)
    before, random = [parameter.clone() for parameter in residual.parameters()], torch.get_rng_state()
    for group in groups:
        scores = criterion(residual, group)
        assert scores.shape == (group.channels,)
        assert scores.isfinite().all()
        assert torch.equal(scores, criterion(residual, group))
    assert all(torch.equal(parameter, old) for parameter, old in zip(residual.parameters(), before))
    assert torch.equal(torch.get_rng_state(), random)


@pytest.mark.parametrize('p', [1, 2, 3.5, float('inf')])
@pytest.mark.parametrize(('reduction', 'reduce'), [('mean', torch.mean), ('sum', torch.sum), ('max', torch.amax)])
def test_magnitude_longhand(residual, p, reduction, reduce):
    """The norm of each filter that makes the channel, reduced over the layers that make it."""
    stem, expand = find_groups(residual, tensor_forward(IMAGE)).groups[:2]
    for group, makers in [
        (stem, (residual.stem[0], residual.project[0])),
        (expand, (residual.expand[0], residual.depthwise[0])),
    ]:
        norms = torch.stack([torch.stack([w.flatten().norm(p=p) for w in maker.weight]) for maker in makers])
        assert torch.allclose(Magnitude(p, reduction)(residual, group), reduce(norms, dim=0))


def test_batch_norm_scale_longhand(residual):
    """|gamma|, averaged over the BatchNorms of a residual sum; a group without one is scored by magnitude."""
    for module in residual.modules():
        if isinstance(module, torch.nn.BatchNorm2d):
            torch.nn.init.normal_(module.weight)
    stem, expand, *_ = groups = find_groups(residual, tensor_forward(IMAGE)).groups
    both = torch.stack([residual.stem[1].weight.abs(), residual.project[1].weight.abs()])
    assert torch.allclose(BatchNormScale()(residual, stem), both.mean(dim=0))
    assert torch.allclose(BatchNormScale('max')(residual, stem), both.amax(dim=0))
    assert torch.allclose(BatchNormScale()(residual, expand), residual.expand[1].weight.abs())
    [hidden] = [group for group in groups if group.name == 'head.2']
    assert torch.equal(BatchNormScale()(residual, hidden), Magnitude()(residual, hidden))


def test_geometric_median_longhand(residual):
    """The sum of the distances to all filters of the layer, averaged over the layers that make the channel."""
    stem = find_groups(residual, tensor_forward(IMAGE)).groups[0]
    sums = []
    for layer in (residual.stem[0], residual.project[0]):
        filters = [weight.flatten() for weight in layer.weight]
        sums.append(torch.stack([sum((first - second).norm() for second in filters) for first in filters]))
    assert torch.allclose(GeometricMedian()(residual, stem), torch.stack(sums).mean(dim=0), rtol=1e-4)


@pytest.mark.parametrize('on', ['norm', 'weight'])
def test_taylor_longhand(residual, on):
    """The mean over steps of |sum over coupled layers of <theta, g>|; a step that is not finite is left out."""
    groups = find_groups(residual, tensor_forward(IMAGE)).groups
    taylor, expected = Taylor(on), torch.zeros(16)
    for step, scale in enumerate([1.0, torch.nan, 3.0]):
        residual.zero_grad()
        (residual(IMAGE + step).square().mean() * scale).backward()
        taylor.observe(residual, groups)
        if scale == scale:
            part = 1 if on == 'norm' else 0
            layers = [residual.stem[part], residual.project[part]]
            tensors = [t for layer in layers for t in (layer.weight, layer.bias) if t is not None]
            expected += sum((t * t.grad).reshape(16, -1).sum(dim=1) for t in tensors).detach().abs() / 2
    assert torch.allclose(taylor(residual, groups[0]), expected, rtol=1e-4, atol=1e-7)
    other = Taylor(on)
    other.load_state_dict(taylor.state_dict())
    assert torch.equal(other(residual, groups[0]), taylor(residual, groups[0]))
    taylor.reset()
    with pytest.raises(MmsharpError, match=r'no gradient.*warm-up'):
        taylor(residual, groups[0])


def test_taylor_without_a_normalisation_takes_the_weights(residual):
    """HALP's fallback."""
    groups = find_groups(residual, tensor_forward(IMAGE)).groups
    residual(IMAGE + 1).square().mean().backward()
    [hidden] = [group for group in groups if group.name == 'head.2']
    both = [Taylor('norm'), Taylor('weight')]
    for taylor in both:
        taylor.observe(residual, groups)
    assert torch.equal(both[0](residual, hidden), both[1](residual, hidden))
    assert not torch.equal(both[0](residual, groups[0]), both[1](residual, groups[0]))


def test_random_depends_on_seed_and_group(residual):
    """Other seeds and other groups get other scores."""
    first, second = find_groups(residual, tensor_forward(IMAGE)).groups[:2]
    assert not torch.equal(Random(0)(residual, first), Random(1)(residual, first))
    assert not torch.equal(Random(0)(residual, first), Random(0)(residual, second)[:16])


@pytest.mark.parametrize(
    ('make', 'message'),
    [
        (lambda: Magnitude(p=0), 'p is 0'),
        (lambda: Magnitude(p=float('nan')), 'p is nan'),
        (lambda: Magnitude(reduction='median'), "'median'; accepted: mean, sum, max"),
        (lambda: Random(seed=1.5), r'seed is 1\.5'),
        (lambda: BatchNormScale('median'), 'median'),
        (lambda: GeometricMedian('median'), 'median'),
        (lambda: Taylor('gates'), 'gates'),
    ],
)
def test_bad_arguments_are_refused(make, message):
    """At construction, with what would be accepted."""
    with pytest.raises(MmsharpError, match=message):
        make()
