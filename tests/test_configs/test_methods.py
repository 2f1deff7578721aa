"""The comparison is fair: configs of one network differ in what the names of their folders say, and no more."""

import copy
from pathlib import Path
from typing import Any

import pytest
import torch
from mmengine.registry import PARAM_SCHEDULERS
from shipped_configs import (
    DENSE,
    GRID,
    IN_GRID,
    METHODS,
    ONLY_SEARCHED,
    PRUNED,
    SEARCH_FOLDERS,
    WHOLE,
    Name,
    dense_of,
    load,
)

pytestmark = pytest.mark.filterwarnings('ignore')  # the toolboxes warn of their own optional parts

ALLOCATIONS_OF = {'rtmdet_tiny_bccd': 'mmsharp.Knapsack'}
"""Networks that do not take the default, the same for all methods without one of their own."""
DEFAULTS = dict(warmup=0.1, pruning=0.3, interval=30, slim=True)
OF_GRID = [
    name
    for name, parts in zip(PRUNED, map(Name.of, PRUNED))
    if parts.folder in GRID and parts.ordinary in IN_GRID and not parts.paper and 'latency' not in parts.budget
]


def baseline_of(name: str) -> str:
    """What it is compared with; one that prunes from scratch trains as the dense network does."""
    parts = Name.of(name)
    if parts.scratch:
        return dense_of(name)
    return f'magnitude/{Path(parts.ordinary).stem}{"_2x" * parts.twice}.py'


def without_method(name: str) -> dict[str, Any]:
    """A config as plain data, less what a method may change."""
    settings = load(name).to_dict()
    for key in ('type', 'ascent'):
        settings['optim_wrapper'].pop(key, None)
    pruning = {**DEFAULTS, **settings['default_hooks'].pop('pruning', {})}
    pruner = dict(pruning.pop('pruner', {}))
    for key in ('type', 'fine_tuning', 'budget'):
        pruning.pop(key, None)
    folder = Name.of(name).folder
    if folder in METHODS and METHODS[folder].hook:
        pruning = {}  # its phases are others
        pruner.pop('round_to', None)
    for key in ('type', 'criterion', 'allocation', 'latency_table'):
        pruner.pop(key, None)
    return {**settings, 'pruning': pruning, 'pruner': pruner}


@pytest.mark.parametrize('name', PRUNED)
def test_configs_of_a_network_differ_by_their_method_alone(name):
    """Key by key the same as the baseline: model, data, epochs, schedule, optimizer, phases, dense weights, seed.

    Phases are a method's own where its hook is.
    """
    ours, theirs = without_method(name), without_method(baseline_of(name))
    assert ours.keys() == theirs.keys()
    method = METHODS[Name.of(name).folder]
    for key in ours.keys() - ({'pruning', 'pruner'} if method.hook and Name.of(name).scratch else set()):
        if key != 'pruning' or not method.hook:
            assert ours[key] == theirs[key], key


@pytest.mark.parametrize('name', PRUNED)
def test_a_config_does_what_its_name_says(name):
    """The folder names criterion and optimizer, the variant the budget."""
    config, parts = load(name), Name.of(name)
    pruning = config.default_hooks.pruning
    pruner = pruning.get('pruner') or {}
    assert dict(pruning.budget) == parts.budget
    assert pruner.get('criterion', {}).get('type') == parts.method.criterion
    network = Path(parts.ordinary).stem
    spread = parts.method.allocation or (None if parts.method.hook else ALLOCATIONS_OF.get(network))
    assert pruner.get('allocation', {}).get('type') == spread
    assert config.optim_wrapper.get('ascent', {}).get('type') == parts.method.ascent
    sharp = 'mmsharp.SAMOptimWrapper' if parts.method.ascent else 'OptimWrapper'
    assert config.optim_wrapper.get('type', 'OptimWrapper') == sharp
    plain = 'mmsharp.AdaSAPHook' if parts.method.ascent == 'AdaSAP' else 'mmsharp.PruningHook'
    assert pruning.type == (parts.method.hook or plain)
    if parts.method.hook:
        fine_tuning = pruning.get('fine_tuning') or {}
        assert fine_tuning.get('type') == ('ASAM' if parts.method.ascent else None)
    assert ('latency_table' in pruner) == ('latency' in parts.budget)


def test_every_network_has_its_baseline():
    """Dense, L2 magnitude and AdaSAP for each; whatever other folders hold, there is a baseline of that budget."""
    for method in ('magnitude', 'adasap'):
        pruned = {name for name in DENSE if not any(part in name for part in ONLY_SEARCHED)}
        assert {dense_of(name) for name in WHOLE if name.startswith(f'{method}/')} == pruned
    assert {Path(name).parent.name for name in WHOLE} == {'dense', *METHODS, *SEARCH_FOLDERS}
    for name in PRUNED:
        baseline = 'halp' if 'latency' in Name.of(name).budget else 'magnitude'
        # Budgets of a hook of its own are the baseline's by an option.
        ordinary = METHODS[Name.of(name).folder].hook or Name.of(name).paper
        assert f'{baseline}/{Name.of(name).ordinary if ordinary else Path(name).name}' in WHOLE


def test_the_grid_has_the_networks_of_each_kind():
    """A classifier and a detector of the paper, and one of each that trains on two cores."""
    of_paper, small = {'resnet50_in1k.py', 'ssd512_r50_voc0712.py'}, {'resnet20_cifar10.py', 'rtmdet_tiny_bccd.py'}
    assert {*of_paper, *small} <= set(IN_GRID)


@pytest.mark.parametrize('network', IN_GRID)
def test_the_grid_is_whole(network):
    """Two criteria, four optimizers, and the compute of a second pass in plain steps."""
    twice = network.replace('.py', '_2x.py')
    wanted = {*(f'{folder}/{network}' for folder in GRID), f'magnitude/{twice}', f'taylor/{twice}'}
    assert wanted <= set(WHOLE)


@pytest.mark.parametrize('name', OF_GRID)
def test_a_config_of_the_grid_is_the_baseline_with_the_method_put_in(name):
    """Key by key, with nothing else in it: scores, wrapper, ascent and hook, with their own defaults."""
    parts = Name.of(name)
    ours, expected = load(name).to_dict(), load(f'magnitude/{Path(name).name}').to_dict()
    pruning = expected['default_hooks']['pruning']
    if parts.method.criterion:
        pruning.setdefault('pruner', dict(type='mmsharp.ChannelPruner'))
        pruning['pruner']['criterion'] = dict(type=parts.method.criterion)
    if parts.method.ascent:
        expected['optim_wrapper'].update(type='mmsharp.SAMOptimWrapper', ascent=dict(type=parts.method.ascent))
    if parts.method.ascent == 'AdaSAP':
        pruning['type'] = 'mmsharp.AdaSAPHook'
    assert ours.keys() == expected.keys()
    for key in ours:
        assert ours[key] == expected[key], key


@pytest.mark.parametrize('name', [name for name in PRUNED if Name.of(name).paper])
def test_the_reported_radii_are_all_that_differs(name):
    """Absolute, 0.01 to 2.0, and ASAM with 2.0 after pruning, in the config of our radii."""
    ours, expected = load(name).to_dict(), load(f'adasap/{Name.of(name).ordinary}').to_dict()
    radii = dict(type='AdaSAP', radius='absolute', rho_min=0.01, rho_max=2.0)
    expected['optim_wrapper']['ascent'] = radii
    expected['default_hooks']['pruning']['fine_tuning'] = dict(type='ASAM', rho=2.0)
    assert ours == expected


def test_the_paper_s_networks_have_its_budgets():
    """Three shares of the parameters and a latency."""
    for network in ('resnet50_in1k', 'mobilenetv1_in1k', 'mobilenetv2_in1k'):
        for variant in ('params77', 'params20', 'latency50'):
            assert f'adasap/{network}_{variant}.py' in WHOLE


def test_psap_has_its_settings():
    """Half and 70 % of the work removed, from trained weights and from scratch; detectors; and a sharp training."""
    for network in ('resnet56_cifar10', 'resnet50_in1k'):
        for budget in ('macs50', 'macs30'):
            for start in ('', '_scratch'):
                assert f'psap/{network}_{budget}{start}.py' in WHOLE
    for name in ('resnet20_cifar10', 'rtmdet_tiny_bccd', 'retinanet_r50_voc0712'):
        assert f'psap/{name}.py' in WHOLE
    assert any(name.startswith('psap_adasap/') for name in WHOLE)


@pytest.mark.parametrize('name', [name for name in PRUNED if Name.of(name).twice])
def test_twice_the_steps_is_twice_of_everything(name, benchmark):
    """As the experiments lengthen a baseline: epochs, phases and learning rate."""
    longer = load(name.replace('_2x', ''))
    benchmark('experiments.runs').lengthen(longer)
    found = load(name)
    for key in ('train_cfg', 'param_scheduler', 'default_hooks', 'optim_wrapper'):
        assert found[key] == longer[key], key


def rates(name: str, iterations: int = 2) -> list[float]:
    """The learning rate at the beginning of each epoch, as the runner steps its schedulers."""
    config = load(name)
    optimizer = torch.optim.SGD([torch.nn.Parameter(torch.zeros(1))], lr=config.optim_wrapper.optimizer.lr)
    schedulers = [
        PARAM_SCHEDULERS.build(copy.deepcopy(part), default_args=dict(optimizer=optimizer, epoch_length=iterations))
        for part in config.param_scheduler
    ]
    found = []
    for _ in range(config.train_cfg.max_epochs):
        found.append(optimizer.param_groups[0]['lr'])
        for by_epoch in [False] * iterations + [True]:
            optimizer.step()
            for scheduler in schedulers:
                if scheduler.by_epoch == by_epoch:
                    scheduler.step()
    return found


def test_ssd512_follows_the_published_factors():
    """Of 8e-3: all after 50 epochs of warm-up, 3/8 from epoch 600 on, 1/8 from 700, 1/20 from 740, 1/200 from 770."""
    found = rates('dense/ssd512_r50_voc0712.py')
    assert len(found) == 800
    assert found[:51] == sorted(found[:51])
    for epoch, factor in ((50, 1), (599, 1), (600, 3 / 8), (700, 1 / 8), (740, 1 / 20), (770, 1 / 200), (799, 1 / 200)):
        assert found[epoch] == pytest.approx(8e-3 * factor), epoch


@pytest.mark.parametrize(('name', 'warm_up'), [('dense/resnet50_in1k.py', 8), ('magnitude/resnet50_in1k_2x.py', 16)])
def test_imagenet_warms_up_and_follows_a_cosine(name, warm_up):
    """1.024 after the warm-up, half of it in the middle of the cosine, nothing at the end."""
    found = rates(name)
    epochs = len(found)
    assert found[0] < 0.01
    assert max(found) == pytest.approx(1.024, rel=0.02)
    assert found.index(max(found)) in (warm_up, warm_up + 1)
    assert found[(epochs + warm_up) // 2] == pytest.approx(0.512, rel=0.03)
    assert found[-1] < 0.001
