"""Corruption errors against sums written out and against what others published."""

import pytest

from mmsharp.errors import MmsharpError
from mmsharp.robustness import BENCHMARK, NAMES, Cell, Grid
from mmsharp.robustness.corruption_errors import (
    ALEXNET,
    ALEXNET_CLEAN,
    corruption_errors,
    errors_from_accuracies,
    is_accuracy,
)

MEANS = {
    'gaussian_noise': 0.886428,
    'shot_noise': 0.894468,
    'impulse_noise': 0.922640,
    'defocus_blur': 0.819880,
    'glass_blur': 0.826268,
    'motion_blur': 0.785948,
    'zoom_blur': 0.798360,
    'snow': 0.866816,
    'frost': 0.826572,
    'fog': 0.819324,
    'brightness': 0.564592,
    'contrast': 0.853204,
    'elastic_transform': 0.646056,
    'pixelate': 0.717840,
    'jpeg_compression': 0.606500,
}
"""AlexNet's mean errors as AugMix and Game of Noise have them in their code."""

FULL = Grid.of('benchmark', range(6))
TWO = Grid.of(['fog', 'shot_noise'], [0, 1, 5])
ERRORS = {
    Cell.clean(): 0.2,
    Cell('shot_noise', 1): 0.3,
    Cell('shot_noise', 5): 0.9,
    Cell('fog', 1): 0.25,
    Cell('fog', 5): 0.55,
}
OTHER = {
    Cell.clean(): 0.4,
    Cell('shot_noise', 1): 0.6,
    Cell('shot_noise', 5): 1.0,
    Cell('fog', 1): 0.5,
    Cell('fog', 5): 0.7,
}


def test_the_table_of_alexnet_has_the_published_means():
    """Severity by severity it agrees with the means that two other code bases normalise by."""
    assert {cell.corruption for cell in ALEXNET} == {*NAMES, 'clean'}
    for name, mean in MEANS.items():
        assert sum(ALEXNET[Cell(name, severity)] for severity in range(1, 6)) / 5 == pytest.approx(mean, abs=1e-6)


def test_longhand():
    """Two corruptions, two severities, written out."""
    found = corruption_errors(ERRORS, OTHER, TWO, 'other')
    assert found.ce == pytest.approx({'shot_noise': 1.2 / 1.6, 'fog': 0.8 / 1.2})
    assert found.mce == pytest.approx((0.75 + 2 / 3) / 2)
    assert found.relative_ce == pytest.approx({'shot_noise': 0.8 / 0.8, 'fog': 0.4 / 0.4})
    assert found.relative_mce == pytest.approx(1.0)


def test_alexnet_beside_itself_is_one():
    """Over the whole benchmark, and over a part."""
    for grid in (FULL, TWO, Grid.of('all', range(6))):
        found = corruption_errors(ALEXNET, ALEXNET, grid, 'AlexNet')
        assert found.mce == pytest.approx(1)
        assert found.relative_mce == pytest.approx(1)


def test_it_is_the_augmix_formula():
    """mCE = mean over corruptions of (mean error / AlexNet's mean error), on errors that differ everywhere."""
    errors = {
        Cell(name, severity): 0.1 + 0.02 * place + 0.05 * severity
        for place, name in enumerate(NAMES)
        for severity in range(1, 6)
    }
    expected = sum(
        sum(errors[Cell(name, severity)] for severity in range(1, 6)) / 5 / MEANS[name] for name in BENCHMARK
    )
    found = corruption_errors(errors, ALEXNET, Grid.of('all', range(6)), 'AlexNet')
    assert found.mce == pytest.approx(expected / 15, rel=1e-5)
    assert set(found.ce) == set(NAMES)
    assert found.relative_mce is None  # the errors have no clean cell


@pytest.mark.parametrize('table', [0, 1])
def test_a_gap_is_never_averaged(table):
    """A missing cell of the model or of the reference leaves its corruption, and the means, undefined."""
    tables = [dict(ERRORS), dict(OTHER)]
    tables[table][Cell('fog', 5)] = None
    found = corruption_errors(*tables, TWO, 'other')
    assert found.ce['fog'] is found.mce is found.relative_ce['fog'] is found.relative_mce is None
    assert found.ce['shot_noise'] == pytest.approx(0.75)


def test_a_reference_without_errors_gives_no_ratio():
    """Nor one that corruption does not hurt."""
    perfect = {cell: 0.0 for cell in OTHER}
    found = corruption_errors(ERRORS, perfect, TWO, 'perfect')
    assert found.mce is None
    assert found.relative_mce is None


def test_errors_from_accuracies():
    """Per cent to fractions; other metrics are refused by name."""
    assert errors_from_accuracies({Cell.clean(): 100 * (1 - ALEXNET_CLEAN)}, 'accuracy/top1') == {
        Cell.clean(): pytest.approx(ALEXNET_CLEAN)
    }
    assert [is_accuracy(name) for name in ('accuracy/top5', 'val/accuracy/top1', 'pascal_voc/mAP', 'accuracy')] == [
        True,
        True,
        False,
        False,
    ]
    with pytest.raises(MmsharpError, match='pascal_voc/mAP'):
        errors_from_accuracies({}, 'pascal_voc/mAP')
