"""The record as a page."""

from mmsharp.engine.prunability import render

ROW = dict(
    toolbox='mmdet',
    config='a/a.py',
    status='pass',
    parameters=1000,
    params_removed=0.75,
    macs_removed=0.7,
    backbone_in_groups=1.0,
    difference=1.2e-6,
    seconds_for_groups=0.53,
    dense=[dict(reason='softmax | over channels', layers=2, parameters=600)],
)
FAILED = dict(toolbox='mmdet', config='b/b.py', status='fail', stage='groups', reason='ValueError: <odd>|thing')
RECORD = dict(
    machine=dict(processor='P', cores=2, system='Linux', python='3.11'),
    versions=dict(torch='2.11.0', mmpretrain=None),
    settings=dict(ratio=0.5, seed=0, timeout=600, sizes=dict(mmdet=128)),
    rows=[ROW, dict(ROW, config='c/c.py', params_removed=0.3), FAILED],
)


def test_every_row_is_in_the_table():
    """A pass with its figures, a failure with its stage; the summary counts them, and those with enough removed."""
    page = render(RECORD)
    assert '| a/a.py | pass | 75% | 70% | 100% | 1e-06 | 0.5 |' in page
    assert '| b/b.py | **fails** (groups) |  |  |  |  |  |' in page
    assert '| mmdet | 3 | 2 | 1 |' in page


def test_failures_and_shortfalls_are_explained_by_name():
    """Text of libraries cannot break the table."""
    page = render(RECORD)
    assert '| b/b.py | groups | ValueError: &lt;odd>\\|thing |' in page
    assert '| c/c.py | 30% | softmax \\| over channels (2 layers, 60% of the parameters) |' in page
    assert '| mmdet: glip | takes text |' in page


def test_changed_configs_are_named():
    """So is what was changed in them."""
    page = render(dict(RECORD, rows=[dict(ROW, options={'model.head.distillation': False})]))
    assert '| a/a.py | `model.head.distillation=False` |' in page
    assert 'Changed configs' not in render(RECORD)


def test_an_architecture_that_holds_its_channels_is_explained():
    """Where no layer's reason says it."""
    page = render(dict(RECORD, rows=[dict(ROW, toolbox='mmpretrain', family='repmlp', params_removed=0.2)]))
    assert '(2 layers, 60% of the parameters). Its blocks lay the channels' in page


def test_slow_searches_are_named_with_the_sizes_that_make_them_slow():
    """And the sentence about small networks is that of the slowest of them."""
    rows = [
        dict(ROW, config='large.py', parameters=80_000_000, macs=5_000_000_000, groups=7, seconds_for_groups=12.34),
        dict(ROW, config='small.py', parameters=20_000_000, seconds_for_groups=3.21),
        dict(ROW, config='smaller.py', parameters=10_000_000, seconds_for_groups=1.0),
    ]
    page = render(dict(RECORD, rows=rows))
    assert '| large.py | 12.3 | 80 M | 5.0 G | 7 |' in page
    assert "ResNet-50's 26 million parameters take 2.1 s in the median and at most 3.2 s (small.py)." in page
    assert 'Groups found in more than' not in render(dict(RECORD, rows=rows[1:]))
