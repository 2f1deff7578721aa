"""What a search may be told: refused by name and value, with what is accepted; the config stays as it was."""

import copy

import pytest
from mmengine.config import ConfigDict
from mmengine.registry import MODELS
from small_classifier import CHANNELS, WEIGHTS, build
from torch import nn

from mmsharp.errors import MmsharpError


@pytest.mark.parametrize('missing', ['base', 'search'])
def test_what_is_missing_is_named(missing):
    """With an example."""
    config = dict(type='mmsharp.MaskSearch', base='SmallClassifier', search=WEIGHTS)
    del config[missing]
    with pytest.raises(MmsharpError, match=f"'{missing}' is missing.*search=dict\\(ratio=0.5"):
        MODELS.build(config)


def test_the_config_is_left_as_it_was():
    """Two models from one config, alike."""
    config = ConfigDict(type='mmsharp.MaskSearch', base='SmallClassifier', search=copy.deepcopy(CHANNELS), width=8)
    before = copy.deepcopy(config)
    first, second = MODELS.build(config), MODELS.build(config)
    assert config == before
    assert first.mask_search.units.shapes == second.mask_search.units.shapes
    assert first.stem[0].out_channels == 8


@pytest.mark.parametrize(
    ('search', 'words'),
    [
        (dict(), 'exactly one of them'),
        (dict(ratio=0.5, budget=dict(params=0.4)), 'exactly one of them'),
        (dict(ratio=1.0), 'search.ratio is 1.0'),
        (dict(ratio=True), 'search.ratio is True'),
        (dict(WEIGHTS, granularity='layer'), "'weight', 'channel'"),
        (dict(WEIGHTS, ratoi=0.5), 'search.ratoi is unknown; accepted: granularity, ratio'),
        (dict(budget=dict(params=0.4)), "for granularity='channel'"),
        (dict(CHANNELS, input_shape=None), r'give \(channels, height, width\)'),
        (dict(CHANNELS, ratio=None, budget=dict(latency=0.5)), 'budget of latency'),
        (dict(CHANNELS, round_to=0), 'search.round_to is 0'),
        (dict(CHANNELS, round_to=8), 'round_to is 8, and search.ratio=0.5 is met exactly'),
        (dict(WEIGHTS, ratio=0.99, parameterisation=dict(type='Score')), "of 'head.weight'; remove less"),
        (dict(WEIGHTS, ignore='head'), "search.ignore is 'head'"),
        (dict(WEIGHTS, train_norms=1), 'search.train_norms is 1'),
        (dict(WEIGHTS, losses=dict()), 'nothing would be learned'),
        (dict(WEIGHTS, losses=dict(task=dict(type='Task', weight=0))), 'nothing would be learned'),
        (dict(WEIGHTS, losses=dict(a=dict(type='Nothing'))), "'Nothing' is unknown; accepted: Consistency, L1"),
        (dict(WEIGHTS, losses=[]), r'search.losses is \[\]'),
        (dict(WEIGHTS, perturbation=dict(type='Normal')), "'Normal' is unknown; accepted: Gradient, None, Uniform"),
        (dict(WEIGHTS, perturbation='Uniform'), 'is no perturbation'),
        (dict(WEIGHTS, perturbation=dict(type='Uniform', radius=1)), 'radius'),
        (
            dict(WEIGHTS, perturbation=dict(type='Gradient'), losses=dict(s=dict(type='Stability'))),
            'add Task or MarginRatio',
        ),
        (dict(WEIGHTS, collapse=dict(share=0.9)), 'search.collapse'),
        (dict(WEIGHTS, collapse=dict(window=1)), 'window is 1'),
        ('half', "search is 'half'"),
    ],
)
def test_wrong_settings_are_refused(search, words):
    """At once, by name and value, with what is accepted."""
    with pytest.raises(MmsharpError, match=words):
        build(search)


@MODELS.register_module(force=True)
class WithoutHead(nn.Sequential):
    def __init__(self):
        super().__init__(nn.Linear(2, 2))


def test_other_models_are_refused():
    """By name."""
    with pytest.raises(MmsharpError, match='WithoutHead has neither the head of a classifier'):
        MODELS.build(dict(type='mmsharp.MaskSearch', base='WithoutHead', search=WEIGHTS))
