"""Latency tables measured with an engine whose clock follows a formula: what comes out has to be that formula."""

import copy
from dataclasses import replace

import numpy as np
import pytest
import torch
from mmcv.cnn.bricks.conv_ws import ConvAWS2d, ConvWS2d
from mmcv.ops import DeformConv2d
from torch import nn

import mmsharp.pruning.latency.measuring as measuring
from mmsharp.errors import MmsharpError
from mmsharp.pruning import (
    ChannelPruner,
    CostModel,
    Knapsack,
    apply_recipe,
    count_macs,
    find_groups,
    measure_latency,
    tensor_forward,
)
from mmsharp.pruning.latency import LatencyTable, PyTorchEngine, calibrate, measure_latency_table
from mmsharp.pruning.latency.layer_calls import TIMED_AXES, layer_calls, timed_share
from mmsharp.registry import ALLOCATIONS

from ..conftest import random_masks

FORWARD = tensor_forward(torch.zeros(2, 3, 8, 8))
ALLOCATIONS.import_from_location()
PER_WEIGHT, PER_NUMBER, ONCE = 3e-6, 2e-7, 1e-3
"""Seconds per weight of a layer (twice as many in networks), per number that a layer gives, and per network."""


class FormulaEngine:
    """Its clock goes on by a formula and by nothing else."""

    def __init__(self, monkeypatch):
        self.now = 0.0
        monkeypatch.setattr('mmsharp.pruning.costs.complexity.time.perf_counter', lambda: self.now)

    def _weights(self, module):
        return module.weight.numel() * (1 if module.weight.dim() > 2 else 2)

    def layer(self, module, inputs):
        module(inputs)  # the inputs fit the cut layer
        return lambda: self._pass(PER_WEIGHT * self._weights(module))

    def network(self, model, forward):
        calls = layer_calls(model, forward)
        weights = sum(self._weights(call.module) * len(call.shapes) for call in calls.values())
        numbers = sum(sum(call.outputs) for call in calls.values())
        return lambda: self._pass(2 * PER_WEIGHT * weights + PER_NUMBER * numbers + ONCE)

    def _pass(self, seconds):
        self.now += seconds


@pytest.fixture
def table(residual, monkeypatch):
    return measure_latency_table(residual, FORWARD, find_groups(residual, FORWARD), FormulaEngine(monkeypatch), 40)


def test_the_formula_is_found(table):
    """Coefficients, and the error on networks that were not fitted to."""
    assert table.scale == pytest.approx(2.0)
    assert table.per_element == pytest.approx(PER_NUMBER)
    assert table.constant == pytest.approx(ONCE)
    assert table.about['error'] < 1e-9
    assert [network['fitted'] for network in table.about['networks']].count(False) == measuring.RANDOM_CHECKED


@pytest.mark.parametrize('seed', range(3))
def test_the_cost_of_masks_is_what_the_slim_model_takes(residual, table, seed, monkeypatch):
    """For random masks, longhand: slim the model, and ask the formula."""
    groups = find_groups(residual, FORWARD)
    masks = random_masks(groups, seed)
    slim = copy.deepcopy(residual)
    apply_recipe(slim, masks.recipe(residual))
    engine = FormulaEngine(monkeypatch)
    engine.network(slim, FORWARD)()
    cost = CostModel(residual, FORWARD, groups, table)
    assert cost.measure('latency', masks.keep) == pytest.approx(engine.now)
    assert cost.fraction('latency', masks.keep) == pytest.approx(engine.now / table.seconds({}))


@pytest.mark.parametrize('allocation', sorted(ALLOCATIONS.module_dict))
def test_a_budget_of_latency_is_met(residual, table, allocation, tmp_path):
    """By every allocation, from the table or from its file, and reported like the other resources."""
    table.save(tmp_path / 'table.json')
    kept = []
    for given in (table, tmp_path / 'table.json', str(tmp_path / 'table.json')):
        model = copy.deepcopy(residual)
        pruner = ChannelPruner({'latency': 0.5}, allocation={'type': allocation}, round_to=1, latency_table=given)
        pruner.attach(model, FORWARD)
        pruner.update(1.0)
        kept.append(pruner.kept)
        assert 0.4 < kept[-1]['latency'] <= 0.5
        assert set(kept[-1]) == {'params', 'macs', 'channels', 'latency'}
    assert kept[0] == kept[1] == kept[2]


def test_the_knapsack_removes_what_takes_time():
    """Of two layers alike but for their time, the slow one loses more."""
    model = nn.Sequential(nn.Linear(4, 32), nn.ReLU(), nn.Linear(32, 32), nn.ReLU(), nn.Linear(32, 4))
    with torch.no_grad():
        for layer in (model[0], model[2]):
            layer.weight.copy_(torch.linspace(1, 2, len(layer.weight))[:, None].expand_as(layer.weight))
    forward = tensor_forward(torch.zeros(1, 4))
    grid = {'out': (1, 32), 'in': (4,)}
    content = {
        'format': 'mmsharp.latency_table',
        'version': 1,
        'about': {},
        'scale': 1.0,
        'per_element': 0.0,
        'constant': 0.0,
        'layers': {
            '0': {'type': 'Linear', 'axes': grid, 'seconds': [[0.1], [1.0]], 'elements': 1},
            '2': {'type': 'Linear', 'axes': {'out': (1, 32)}, 'seconds': [1.0, 10.0], 'elements': 1},
            '4': {'type': 'Linear', 'axes': {'out': (4,)}, 'seconds': [0.0], 'elements': 1},
        },
    }
    kept = {}
    for slow in ('2', '0'):
        if slow == '0':
            content['layers']['0']['seconds'], content['layers']['2']['seconds'] = [[1.0], [10.0]], [0.1, 1.0]
        pruner = ChannelPruner(
            {'latency': 0.5}, allocation=Knapsack(), round_to=1, latency_table=LatencyTable.from_dict(content)
        )
        pruner.attach(copy.deepcopy(model), forward)
        pruner.update(1.0)
        kept[slow] = {group.name: int(m.sum()) for group, m in zip(pruner.groups.groups, pruner.masks.keep)}
    assert kept['2']['2'] < kept['2']['0']
    assert kept['0']['0'] < kept['0']['2']


class Kinds(nn.Module):
    """Every kind of layer that is timed alone, one of them called twice."""

    def __init__(self):
        super().__init__()
        self.stem = nn.Conv2d(3, 32, 3, padding='same')
        self.depthwise = nn.Conv2d(32, 32, 3, padding=1, groups=32)
        self.grouped = nn.Conv2d(32, 64, 3, padding=1, groups=16)
        self.parted = nn.Conv2d(64, 24, 1, groups=2)
        self.standardised = ConvWS2d(24, 24, 1)
        self.rescaled = ConvAWS2d(24, 24, 1)
        self.up = nn.ConvTranspose2d(24, 16, 2, stride=2)
        self.line = nn.Conv1d(16, 16, 1)
        self.fc = nn.Linear(16, 40)
        self.last = nn.Linear(40, 3)

    def forward(self, x):
        x = self.parted(self.grouped(self.depthwise(self.stem(x))))
        x = self.up(self.rescaled(self.standardised(x)))
        return self.last(self.fc(self.line(self.line(x.flatten(2))).mean(2)))


def test_every_kind_is_cut_to_what_slimming_leaves():
    """A layer cut alone has the shapes that it has in a slim model of these sizes, and takes the inputs made for it."""
    torch.manual_seed(0)
    model = Kinds()
    groups = find_groups(model, FORWARD)
    masks = random_masks(groups)
    slim = copy.deepcopy(model)
    apply_recipe(slim, masks.recipe(model))
    calls, slim_calls = layer_calls(model, FORWARD), layer_calls(slim, FORWARD)
    assert {call.kind for call in calls.values()} == set(TIMED_AXES)
    assert len(calls['line'].shapes) == 2
    for path, call in calls.items():
        cut = call.cut(slim_calls[path].dense)
        assert cut.weight.shape == slim.get_submodule(path).weight.shape
        for shape, expected, numbers in zip(call.shapes, slim_calls[path].shapes, slim_calls[path].outputs):
            inputs = call.inputs(shape, cut)
            assert inputs.shape == expected
            assert cut(inputs).numel() == numbers
        assert slim_calls[path].elements == calls[path].elements


def test_timed_layers_do_what_is_counted():
    """Their multiply-accumulates are those of PyTorch's counter, for every kind; what attention does is missing."""
    assert timed_share(Kinds(), FORWARD) == 1.0
    model = Kinds()
    calls = layer_calls(model, FORWARD)
    assert sum(call.macs for call in calls.values()) == count_macs(model, FORWARD)

    class Attention(nn.Module):
        def __init__(self):
            super().__init__()
            self.block, self.last = nn.MultiheadAttention(32, 4, batch_first=True), nn.Linear(32, 32)

        def forward(self, x):
            return self.last(self.block(x, x, x, need_weights=False)[0])

    outside = 16 * 32 * (96 + 32) + 2 * 16 * 16 * 32
    timed = 16 * 32 * 32
    assert timed_share(Attention(), tensor_forward(torch.zeros(1, 16, 32))) == pytest.approx(timed / (timed + outside))


def test_deformable_convolutions_are_work_that_is_not_timed():
    """Though PyTorch's counter does not see them."""

    class Deformed(nn.Module):
        def __init__(self):
            super().__init__()
            self.first, self.offset = nn.Conv2d(3, 8, 1), nn.Conv2d(8, 18, 3, padding=1)
            self.deformed = DeformConv2d(8, 8, 3, padding=1)

        def forward(self, x):
            x = self.first(x)
            return self.deformed(x, self.offset(x))

    timed = 3 * 8 + 8 * 18 * 9
    assert timed_share(Deformed(), FORWARD) == pytest.approx(timed / (timed + 8 * 8 * 9))


def test_measured_on_this_machine():
    """PyTorch's own times: a table that fits, positive, and a dense prediction near a measurement."""
    torch.manual_seed(0)
    model = nn.Sequential(
        nn.Conv2d(3, 64, 3), nn.BatchNorm2d(64), nn.ReLU(), nn.Conv2d(64, 128, 3), nn.ReLU(), nn.Conv2d(128, 64, 3)
    )
    before = copy.deepcopy(model.state_dict())
    forward = tensor_forward(torch.randn(1, 3, 24, 24))
    steps = []
    table = measure_latency_table(
        model, forward, find_groups(model, forward), PyTorchEngine(), 3, 5, progress=lambda *step: steps.append(step)
    )
    table.check_fits(model)
    assert LatencyTable.from_dict(table.to_dict()).to_dict() == table.to_dict()
    assert 0.2 < table.seconds({}) / measure_latency(model, forward, 10) < 5
    assert steps == [(0, 4, '0'), (1, 4, '3'), (2, 4, '5'), (3, 4, 'whole networks')]
    assert model.training
    assert all(torch.equal(value, before[key]) for key, value in model.state_dict().items())


def test_layers_alike_are_timed_once(monkeypatch):
    """The second of two equal layers costs nothing."""
    model = nn.Sequential(*[nn.Conv2d(16, 16, 3, padding=1) for _ in range(6)])
    forward = tensor_forward(torch.zeros(1, 16, 4, 4))
    engine = FormulaEngine(monkeypatch)
    timed = []
    monkeypatch.setattr(engine, 'layer', lambda module, inputs: timed.append(module) or (lambda: None))
    monkeypatch.setattr(measuring, '_calibrated', lambda table, *_: table)
    table = measure_latency_table(model, forward, find_groups(model, forward), engine, points=2)
    assert len(table.layers) == 6
    assert len(timed) == 3 + 9 + 3  # first, four in the middle, last: 1, 8 and 16 channels of each axis that varies


@pytest.mark.parametrize(
    ('arguments', 'words'),
    [(dict(points=1), 'points is 1'), (dict(points=2.5), 'points is 2.5'), (dict(repeats=0), 'repeats is 0')],
)
def test_bad_arguments_are_named(residual, arguments, words):
    """Before anything is timed."""
    with pytest.raises(MmsharpError, match=words):
        measure_latency_table(residual, FORWARD, find_groups(residual, FORWARD), PyTorchEngine(), **arguments)


def test_a_model_without_layers_is_refused():
    """There is nothing to time."""
    model, forward = nn.Flatten(), tensor_forward(torch.zeros(1, 2))
    with pytest.raises(MmsharpError, match='calls no convolution'):
        measure_latency_table(model, forward, find_groups(model, forward), PyTorchEngine())


def test_evening_out_noise():
    """Never falling along any axis, unchanged where nothing falls, between the smallest and the largest."""
    random = np.random.default_rng(0)
    noisy = random.random((5, 4, 3))
    even = measuring.never_falling(noisy)
    for axis in range(3):
        assert (np.diff(even, axis=axis) >= 0).all()
        assert (np.diff(measuring.never_falling(noisy), axis=axis) >= 0).all()
    assert noisy.min() <= even.min()
    assert even.max() <= noisy.max()
    rising = np.add.outer(np.arange(4.0), np.arange(3.0))
    assert (measuring.never_falling(rising) == rising).all()


@pytest.mark.parametrize(
    ('networks', 'seconds', 'words'),
    [([{}], [1.0], 'at least 3'), ([{}] * 3, [1.0, 2.0], 'as many'), ([{}] * 3, [1.0, 0.0, 2.0], 'positive numbers')],
)
def test_times_that_cannot_be_fitted_to(table, networks, seconds, words):
    """Too few, of another number, or none."""
    with pytest.raises(MmsharpError, match=words):
        calibrate(table, networks, seconds)


def test_a_budget_of_latency_without_a_table_is_refused(residual):
    """At construction, with the tool that writes one; and a table of another model when attached."""
    with pytest.raises(MmsharpError, match=r'tools/analysis_tools/latency_table\.py'):
        ChannelPruner({'latency': 0.5})
    with pytest.raises(MmsharpError, match='latency_table is 5'):
        ChannelPruner({'latency': 0.5}, latency_table=5)
    groups = find_groups(residual, FORWARD)
    with pytest.raises(MmsharpError, match='needs a latency table'):
        CostModel(residual, FORWARD, groups).fraction('latency', random_masks(groups).keep)


def test_a_table_of_another_model_is_refused_when_attached(residual, table):
    """And the model is as before."""
    other = nn.Sequential(nn.Linear(2, 4), nn.Linear(4, 1))
    before = copy.deepcopy(other.state_dict())
    pruner = ChannelPruner({'latency': 0.5}, round_to=1, latency_table=table)
    with pytest.raises(MmsharpError, match=r"layer 'stem\.0': expected a Conv, found no such layer"):
        pruner.attach(other, tensor_forward(torch.zeros(1, 2)))
    assert all(torch.equal(value, before[key]) for key, value in other.state_dict().items())


def test_a_missing_file_is_named_when_attached(residual, table, tmp_path):
    """Not before, so that what needs no table runs without it; once attached, the file is not read again."""
    pruner = ChannelPruner({'latency': 0.5}, round_to=1, latency_table=tmp_path / 'table.json')
    with pytest.raises(MmsharpError, match=r'table\.json.* cannot be read'):
        pruner.attach(residual, FORWARD)
    table.save(tmp_path / 'table.json')
    pruner.attach(residual, FORWARD)
    (tmp_path / 'table.json').unlink()
    pruner.attach(residual, FORWARD)


def test_a_layer_without_times_is_refused(residual, table):
    """What the forward calls and the table has no row for would cost nothing; what it does not call needs none."""
    lacking = replace(table, layers={path: layer for path, layer in table.layers.items() if path != 'expand.0'})
    pruner = ChannelPruner({'latency': 0.5}, round_to=1, latency_table=lacking)
    with pytest.raises(MmsharpError, match=r"no times of layer 'expand\.0', and of 1 layers in all .* Residual"):
        pruner.attach(residual, FORWARD)
    residual.unused = nn.Linear(4, 4)
    ChannelPruner({'latency': 0.9}, round_to=1, latency_table=table).attach(residual, FORWARD)


@pytest.mark.parametrize(
    ('measured', 'warned'),
    [([1, 3, 8, 8], False), ([7, 3, 8, 8], False), ([1, 3, 16, 8], True), ('3x8x8', False), (None, False)],
)
def test_another_input_shape_is_warned_of(residual, table, measured, warned, monkeypatch):
    """With both shapes; the size of the batch is free, and what a stranger wrote there does no harm."""
    said = []
    monkeypatch.setattr('mmsharp.pruning.latency.table.print_log', lambda text, *_: said.append(text))
    replace(table, about={'input_shape': measured}).check_fits(residual, FORWARD)
    assert len(said) == warned
    if warned:
        assert '[1, 3, 16, 8]' in said[0]
        assert '[2, 3, 8, 8]' in said[0]
