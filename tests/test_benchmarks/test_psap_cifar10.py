"""The comparison of PSAP is one of methods: everything else is the same, and every part can be built."""

import inspect
from dataclasses import replace
from pathlib import Path

import pytest
from mmengine.config import Config
from mmengine.registry import HOOKS

from mmsharp.engine.hooks import PSAPHook
from mmsharp.errors import MmsharpError
from mmsharp.registry import PROTECTIONS

ROOT = Path(__file__).parents[2]

pytestmark = pytest.mark.filterwarnings('ignore')  # the toolboxes warn of their own optional parts


@pytest.fixture
def psap(benchmark):
    """The module, which stands beside the others."""
    return benchmark('psap_cifar10')


def test_every_method_differs_by_its_hook_alone(psap):
    """Budget, width of a step and length are everybody's; PSAP and its ablations hold masks from the same time on."""
    setting = psap.Setting(psap.BASE, psap.length(20), '')
    configs = {run.method: psap.configure(setting, run) for run in psap.runs_of(psap.METHODS, [0.3], [4])}
    hooks = {name: HOOKS.build(config.default_hooks.pop('pruning')) for name, config in configs.items()}
    first = configs['PSAP'].to_dict()
    assert first['train_cfg']['max_epochs'] == first['param_scheduler'][0]['T_max'] == 20
    assert all(config.to_dict() == first for config in configs.values())
    assert {(hook.pruner.resource, hook.pruner.target, hook.pruner.limits.round_to) for hook in hooks.values()} == {
        ('macs', 0.3, 1)
    }
    assert {hook.warmup + hook.pruning for name, hook in hooks.items() if name.startswith('PSAP')} == {0.25}
    assert {type(hook) for name, hook in hooks.items() if name.startswith('PSAP')} == {PSAPHook}


def test_the_ablations_lack_a_part_each(psap):
    """The ratio of the layers, protection, or both; soft filter pruning lacks both."""
    methods = psap.METHODS
    ours, unprotected = methods['PSAP'], dict(methods['PSAP'].hook, protection=False)
    assert methods['PSAP, uniform ratios'] == replace(ours, allocation='Uniform')
    assert methods['PSAP, no protection'] == replace(ours, hook=unprotected)
    assert methods['PSAP, uniform ratios, no protection'] == replace(ours, hook=unprotected, allocation='Uniform')
    soft = methods['soft filter pruning']
    assert soft.hook['protection'] is False
    assert (soft.allocation, soft.criterion) == ('Uniform', 'Magnitude')
    assert methods['FPGM'] == replace(soft, criterion='GeometricMedian')


def test_the_row_of_psap_is_of_its_defaults(psap):
    """Written out, so that lines of a record say what they were."""
    given = dict(psap.PROTECTION)
    default = inspect.signature(PROTECTIONS.get(given.pop('type'))).parameters
    assert given == {name: parameter.default for name, parameter in default.items()}


def test_from_scratch_is_without_weights(psap):
    """And with a rate for random ones."""
    setting = psap.Setting(psap.BASE, {**psap.length(4), **psap.SCRATCH}, '')
    config = psap.configure(setting, psap.Run('PSAP', 'Magnitude', 0.3, 0))
    assert config.load_from is None
    assert config.optim_wrapper.optimizer.lr == 0.1


def test_from_scratch_all_have_as_long_to_choose(psap):
    """Three quarters of the training, as the configs from random weights."""
    setting = psap.Setting(psap.BASE, {**psap.length(4), **psap.SCRATCH}, '')
    hooks = [psap.configure(setting, run).default_hooks.pruning for run in psap.runs_of(psap.METHODS, [0.3], [0])]
    assert {(hook.get('warmup', 0.0), hook.pruning) for hook in hooks} == {(0.0, 0.75)}
    ours = Config.fromfile(ROOT / 'configs/psap/resnet56_cifar10_macs50_scratch.py').default_hooks.pruning
    assert ours.pruning == 0.75


def test_the_table_has_a_row_per_method_and_budget(psap):
    """Longhand: 80 and 82 are 81 +- 1.41; two minutes."""
    line = {
        'parameters': 0.25,
        'macs': 0.299,
        'train_seconds': 9.0,
        'train_cpu_seconds': 120.0,
        'machine': {'gpu': None},
    }
    found = [
        {**line, 'method': method, 'budget': 0.3, 'seed': seed, 'clean': 80.0 + 2 * seed}
        for method in ('PSAP', 'uniform L2')
        for seed in (0, 1)
    ]
    rows = psap.table(found).splitlines()
    assert rows[2] == '| 29.9% | uniform L2 | 2 | 81.00 ± 1.41 | 25.0% | 2 min |'
    assert rows[3].startswith('| 29.9% | PSAP | 2 |')


def test_lines_of_methods_that_are_gone_are_named(psap, tmp_path):
    """No table leaves them out in silence."""
    found = [dict(method=method, budget=0.3, seed=0) for method in ('PSAP', 'PSAP, before')]
    with pytest.raises(MmsharpError, match=r"runs of \['PSAP, before'\]"):
        psap.render_methods(found, 'psap', psap.METHODS, tmp_path / 'results.md')


def test_the_sweep_is_judged_on_images_that_the_table_is_not_of(benchmark, psap, tmp_path, monkeypatch):
    """Settings are chosen by it: its images come behind those of the table, and all are of the test set."""
    sweep, asked = benchmark('psap_sweep'), []

    def prepare(work_dir, train, test, holdout, holdout_after):
        asked.append((holdout_after, holdout))
        return {'test_dataloader.dataset.data_root': str(work_dir / 'data' / 'test'), 'load_from': 'weights.pth'}

    def run_all(setting, *_):
        asked.append(setting)
        raise KeyboardInterrupt

    monkeypatch.setattr(sweep, 'prepare', prepare)
    monkeypatch.setattr(sweep, 'run_all', run_all)
    monkeypatch.setattr('sys.argv', ['psap_sweep.py', '--work-dir', str(tmp_path), '--record', 'none'])
    with pytest.raises(KeyboardInterrupt):
        sweep.main()
    monkeypatch.setattr('sys.argv', ['psap_cifar10.py'])
    images, setting = asked
    assert images == (psap.parse_args().test, 10_000 - psap.parse_args().test)
    config = psap.configure(setting, psap.Run('PSAP', 'Magnitude', 0.3, 0))
    assert config.test_dataloader.dataset.data_root == str(tmp_path / 'data' / 'holdout')


def test_a_variant_of_the_sweep_is_what_its_name_says(benchmark):
    """Every part of the name changes one thing, and the parts are all there is."""
    sweep = benchmark('psap_sweep')
    plain = sweep.VARIANTS['PSAP, quarter']
    assert plain.hook['protection'] == dict(sweep.PROTECTION, type='mmsharp.ProtectiveReconstruction')
    for change, name in (
        (dict(pruning=0.5), 'PSAP, half'),
        (dict(interval=15), 'PSAP, quarter, every 15 iterations'),
        (dict(measure_whole=False), 'PSAP, quarter, as it is'),
        (dict(protection=False), 'no protection, quarter'),
        (dict(protection=dict(plain.hook['protection'], memory=0.0, weight=0.0)), 'PSAP, no memory, quarter'),
    ):
        assert sweep.VARIANTS[name] == replace(plain, hook=dict(plain.hook, **change)), name
    assert sweep.VARIANTS['PSAP, quarter, uniform ratios'] == replace(plain, allocation='Uniform')
    assert set(sweep.DEFAULT) <= set(sweep.VARIANTS)
    for method in sweep.VARIANTS.values():
        HOOKS.build(dict(method.hook, budget=dict(macs=0.3)))
