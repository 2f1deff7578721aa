"""Experiments compare methods that differ in what they say, and repeat nothing."""

import argparse
import json
from pathlib import Path
from types import SimpleNamespace

import pytest
from mmengine.registry import HOOKS

from mmsharp.errors import MmsharpError
from mmsharp.pruning import Global, Knapsack, Magnitude, Uniform
from mmsharp.registry import ASCENTS, OPTIM_WRAPPERS, POLICIES, build_part

ROOT = Path(__file__).parents[2]
BASE = ROOT / 'configs/magnitude/resnet20_cifar10.py'

pytestmark = pytest.mark.filterwarnings('ignore')  # the toolboxes warn of their own optional parts


@pytest.fixture
def experiments(benchmark):
    """The names of the package that stands beside the benchmarks."""
    names = {}
    for part in ('methods', 'runs', 'performing', 'record', 'gains', 'figures', 'tables'):
        names.update(vars(benchmark(f'experiments.{part}')))
    return SimpleNamespace(**names)


def _line(run, **values):
    known = {'clean': 80.0, 'mpc': 60.0, 'rpc': 0.75, 'train_seconds': 999.0, 'train_cpu_seconds': 100.0}
    known |= {'machine': {'gpu': None}, 'parameters': run.budget - 0.01, 'macs': 0.6}
    return {**vars(run), **known, **values}


def test_every_method_is_the_baseline_but_for_what_it_names(experiments):
    """Same model, data, optimizer, schedule and phases; parts that can be built; the longer one twice as long."""
    base = experiments.configure(experiments.Setting(BASE, {}, ''), experiments.Run('SGD', 'Magnitude', 0.4, 0))
    assert 'ascent' not in base.optim_wrapper
    setting = experiments.Setting(BASE, {'load_from': 'weights.pth'}, '')
    for method in experiments.METHODS:
        config = experiments.configure(setting, experiments.Run(method, 'Taylor', 0.2, 5))
        for key in ('model', 'train_dataloader', 'test_dataloader', 'test_evaluator', 'data_preprocessor'):
            assert config[key] == base[key], (method, key)
        assert config.optim_wrapper.optimizer == base.optim_wrapper.optimizer
        assert (config.load_from, config.randomness.seed) == ('weights.pth', 5)
        hook = config.default_hooks.pruning
        assert (hook.budget, hook.pruner.criterion.type) == ({'params': 0.2}, 'Taylor')
        HOOKS.build(hook.copy())
        factor = 2 if method == experiments.LONGER else 1
        assert config.train_cfg.max_epochs == factor * base.train_cfg.max_epochs
        assert hook.warmup == factor * base.default_hooks.pruning.warmup
        assert config.param_scheduler[0].T_max == config.train_cfg.max_epochs
        if method.startswith('SGD'):
            assert 'ascent' not in config.optim_wrapper
        else:
            build_part(ASCENTS, config.optim_wrapper.ascent)
            if 'policy' in config.optim_wrapper:
                build_part(POLICIES, config.optim_wrapper.policy)


def test_longer_experiments_are_longer_in_every_phase(experiments):
    """Four times of everything, and eight of what has twice the epochs."""
    runs = [experiments.Run(method, 'Magnitude', 0.4, 0) for method in ('AdaSAP', experiments.LONGER)]
    usual = experiments.configure(experiments.Setting(BASE, {}, ''), runs[0])
    for run, times in zip(runs, (4, 8), strict=True):
        config = experiments.configure(experiments.Setting(BASE, {}, '', times=4), run)
        hook = config.default_hooks.pruning
        found = (config.train_cfg.max_epochs, hook.warmup, hook.pruning, config.param_scheduler[0].T_max)
        first = usual.default_hooks.pruning
        assert found == tuple(
            times * length for length in (usual.train_cfg.max_epochs, first.warmup, first.pruning, 16)
        )


def test_finished_runs_are_not_repeated_and_each_is_kept_at_once(experiments, tmp_path):
    """Stopped in the third run, the record has two; started again, two more runs are made."""
    runs = experiments.grid(['SGD', 'SAM'], ['Magnitude'], [0.4], [0, 1])
    made = []

    def perform(config, run, work_dir, setting):
        if len(made) == 2 and 'stopped' not in made:
            made.append('stopped')
            raise KeyboardInterrupt
        made.append(run)
        return _line(run)

    arguments = experiments.Setting(BASE, {}, 'accuracy/top1'), runs, tmp_path, tmp_path / 'record.jsonl'
    with pytest.raises(KeyboardInterrupt):
        experiments.run_all(*arguments, perform=perform)
    assert len(experiments.read_record(tmp_path / 'record.jsonl')) == 2
    assert len(experiments.run_all(*arguments, perform=perform)) == 4
    assert [run for run in made if run != 'stopped'] == runs


def test_the_table_has_means_spreads_and_the_cost(experiments):
    """Longhand: 60 and 62 are 61 +- 1.41; 61 and 65 gain 1 and 3, 2 +- 1.41; 210 seconds are 2.10 times 100.

    What is kept is what was measured, not the budget.
    """
    runs = experiments.grid(['SGD', 'AdaSAP'], ['Magnitude'], [0.4], [0, 1])
    seconds = {'SGD': 100.0, 'AdaSAP': 210.0}
    gain = {('AdaSAP', 0): 1.0, ('AdaSAP', 1): 3.0}
    found = [
        _line(
            run,
            mpc=60.0 + 2 * run.seed + gain.get((run.method, run.seed), 0.0),
            train_cpu_seconds=seconds[run.method],
        )
        for run in runs
    ]
    for line in found[1::2]:
        line['sharpness'] = {'before pruning': 0.1, 'at the end': 0.2 + 0.2 * line['seed']}
    rows = experiments.table(found).splitlines()
    assert rows[2] == (
        '| 39.0% | 60.0% | Magnitude | SGD | 2 | 80.00 ± 0.00 | 61.00 ± 1.41 |  | 75.0 % |  | 1.00 ± 0.00x |'
    )
    assert rows[3] == (
        '| 39.0% | 60.0% | Magnitude | AdaSAP | 2 | 80.00 ± 0.00 | 63.00 ± 2.83 | +2.00 ± 1.41 | 75.0 % '
        '| 0.1 ± 0.0, 0.3 ± 0.1 | 2.10 ± 0.00x |'
    )


def test_gains_are_of_the_seeds_that_both_have(experiments):
    """A seed without its plain run says nothing; criteria and budgets are not mixed."""
    runs = [
        *experiments.grid(['SGD'], ['Magnitude', 'Taylor'], [0.4, 0.2], [0, 1]),
        *experiments.grid(['AdaSAP'], ['Magnitude'], [0.4], [1, 2]),
    ]
    found = [_line(run, mpc=60.0 + 5 * (run.method == 'AdaSAP') + 2 * (run.criterion == 'Taylor')) for run in runs]
    assert experiments.gains(found, 'AdaSAP', 'Magnitude', 0.4) == [5.0]
    assert experiments.gains(found, 'AdaSAP', 'Taylor', 0.4) == []
    assert '| +5.00 |' in experiments.table(found)


@pytest.mark.parametrize('draw', ['draw_gain_over_cost', 'draw_over_parameters'])
def test_figures_name_every_method_and_criterion(experiments, draw, tmp_path):
    """Each series has its entry in the legend, also of a record that is not finished; the file is the same again."""
    runs = [
        *experiments.grid(['SGD', 'SAM'], ['Magnitude'], [0.4, 0.2], [0, 1]),
        *experiments.grid(['SGD'], ['Taylor'], [0.4], [0]),
    ]
    found = [_line(run, mpc=60.0 + (run.method == 'SAM')) for run in runs]
    extra = [experiments.training_cost] if draw == 'draw_gain_over_cost' else []
    texts = set()
    for name in ('a', 'a'):
        getattr(experiments, draw)(found, tmp_path / f'{name}.svg', 'points', *extra)
        texts.add((tmp_path / f'{name}.svg').read_text())
    (text,) = texts
    assert all(f'>{label}<' in text for label in ('SGD, Magnitude', 'SAM, Magnitude', 'SGD, Taylor'))


def test_the_cost_is_the_clocks_on_a_gpu_and_the_processors_without(experiments):
    """Other work on the machine slows the clock; a GPU does not show in the processor's seconds."""
    line = {'train_seconds': 7.0, 'train_cpu_seconds': 3.0}
    assert experiments.training_cost({**line, 'machine': {'gpu': 'H200'}}) == 7.0
    assert experiments.training_cost({**line, 'machine': {'gpu': None}}) == 3.0


def test_mixed_precision_changes_the_wrapper_of_every_method_alone(experiments):
    """Plain and sharpness-aware wrappers become those of mixed precision, which exist."""
    for method in experiments.METHODS:
        run = experiments.Run(method, 'Magnitude', 0.4, 0)
        plain, mixed = (experiments.configure(experiments.Setting(BASE, {}, '', mixed=on), run) for on in (False, True))
        assert OPTIM_WRAPPERS.get(mixed.optim_wrapper.type).__name__.startswith('Amp')
        assert (mixed.optim_wrapper.type == 'mmsharp.AmpSAMOptimWrapper') == ('ascent' in plain.optim_wrapper)
        for config in (plain, mixed):
            config.optim_wrapper.pop('type', None)
        assert plain.to_dict() == mixed.to_dict()


def test_every_variant_of_the_sweep_is_adasap_but_for_its_settings(experiments, benchmark):
    """Their parts can be built, and nothing but the ascents and when they are sought differs."""
    sweep = benchmark('adasap_sweep')
    setting = experiments.Setting(BASE, sweep.SHORTER, '', methods=sweep.VARIANTS)
    first = None
    for variant in sweep.VARIANTS:
        config = experiments.configure(setting, experiments.Run(variant, 'Magnitude', 0.4, 0))
        assert config.train_cfg.max_epochs == sweep.EPOCHS * (2 if variant == experiments.LONGER else 1)
        if variant.startswith('SGD'):
            continue
        build_part(ASCENTS, config.optim_wrapper.pop('ascent'))
        if variant in ('SAM', 'ASAM'):
            assert config.default_hooks.pruning.type == 'mmsharp.PruningHook'
            continue
        build_part(ASCENTS, config.default_hooks.pruning.pop('fine_tuning', dict(type='ASAM', rho=0.5)))
        if 'policy' in config.optim_wrapper:
            build_part(POLICIES, config.optim_wrapper.pop('policy'))
        first = first or config.to_dict()
        assert config.to_dict() == first


def test_the_sweep_on_a_detector_is_judged_on_validation_images(experiments, benchmark):
    """Its variants differ in the ascent of the last phase, or in the allocation, both built with the hook."""
    sweep = benchmark('adasap_bccd_sweep')
    setting = experiments.Setting(sweep.BASE, sweep.SHORTER, '', methods=sweep.VARIANTS)
    configs = {
        variant: experiments.configure(setting, experiments.Run(variant, 'Magnitude', 0.4, 0))
        for variant in sweep.VARIANTS
    }
    ascents, allocations = {}, []
    for variant, config in configs.items():
        assert config.test_dataloader.dataset.ann_file == config.val_dataloader.dataset.ann_file
        assert config.param_scheduler[1].end == config.train_cfg.max_epochs == sweep.EPOCHS
        assert config.default_hooks.pruning.warmup + config.default_hooks.pruning.pruning < sweep.EPOCHS
        hook = HOOKS.build(config.default_hooks.pruning.copy())
        assert type(hook.pruner.criterion) is Magnitude
        if variant.startswith('SGD'):
            allocations.append(type(hook.pruner.allocation))
            config.default_hooks.pruning.pruner.pop('allocation')
            assert config.to_dict() == configs['SGD'].to_dict()
        else:
            config.default_hooks.pruning.pop('fine_tuning')
            ascents[variant] = (type(hook.fine_tuning), str(vars(hook.fine_tuning)))
            assert config.to_dict() == configs['ASAM 0.5'].to_dict() or variant == 'ASAM 0.5'
    assert allocations == [Knapsack, Uniform, Global]
    assert len(set(ascents.values())) == len(ascents) == len(configs) - 3


def test_a_condition_of_the_sweep_changes_what_it_says_for_all_methods(experiments, benchmark):
    """And nothing else; so that methods differ under it in what they differ in without it."""
    sweep = benchmark('adasap_sweep')
    for changes in sweep.CONDITIONS.values():
        for method in sweep.COMPARED:
            here, there = (
                experiments.configure(
                    experiments.Setting(BASE, {**sweep.SHORTER, **more}, '', methods=sweep.VARIANTS),
                    experiments.Run(method, 'Magnitude', 0.4, 0),
                ).to_dict()
                for more in ({}, changes)
            )
            assert {path for path, value in leaves(here) if (path, value) not in list(leaves(there))} == set(changes)


def leaves(config, path=''):
    """Dotted names and values of a config, other lists than the schedulers as one value."""
    items = enumerate(config) if isinstance(config, list) else config.items()
    for name, value in items:
        here = f'{path}.{name}' if path else str(name)
        if isinstance(value, dict) or (isinstance(value, list) and here == 'param_scheduler'):
            yield from leaves(value, here)
        else:
            yield here, value


@pytest.mark.parametrize(
    'change', [dict(data='48000 training images'), dict(mixed=True), dict(same=dict(images=8000))], ids=str
)
def test_runs_of_another_setting_get_a_record_of_their_own(experiments, tmp_path, change):
    """Other data, precision, or numbers of images: refused before anything is trained."""
    known = dict(data='15000 training images', same=dict(images=2000))
    run = experiments.Run('SGD', 'Magnitude', 0.4, 0)
    first, other = (experiments.Setting(BASE, {}, '', **settings) for settings in (known, {**known, **change}))

    def perform(config, run, work_dir, setting):
        return _line(run, data=setting.data, **experiments.methods_of(config), **setting.same)

    path = tmp_path / 'record.jsonl'
    experiments.run_all(first, [run], tmp_path, path, perform=perform)
    experiments.run_all(first, [run], tmp_path, path, perform=perform)
    with pytest.raises(MmsharpError, match='give them a record of their own: --record NAME'):
        experiments.run_all(other, [experiments.Run('SAM', 'Magnitude', 0.4, 0)], tmp_path, path, perform=perform)
    assert len(experiments.read_record(path)) == 1


@pytest.mark.parametrize('when', ['before', 'meanwhile'])
def test_a_run_that_another_process_finishes_has_one_line(experiments, tmp_path, when):
    """Whether it is done before its turn comes, and not begun then, or while it is performed."""
    path, setting = tmp_path / 'record.jsonl', experiments.Setting(BASE, {}, '')
    first, second = (experiments.Run('SGD', 'Magnitude', 0.4, seed) for seed in range(2))
    begun = []

    def perform(config, run, work_dir, setting):
        begun.append(run.seed)
        other = second if when == 'before' else run
        path.write_text(json.dumps(_line(other, by='another')) + '\n')
        return _line(run)

    experiments.run_all(setting, [first, second] if when == 'before' else [first], tmp_path, path, perform=perform)
    assert begun == [0]
    assert sorted(line['seed'] for line in experiments.read_record(path)) == ([0, 1] if when == 'before' else [0])


@pytest.mark.parametrize('changed', ['wrapper', 'pruning', 'search'])
def test_a_line_of_a_method_that_has_changed_is_not_counted_as_done(experiments, tmp_path, changed):
    """Its optimizer wrapper, pruning or search is another now: said by name and value, before anything is trained."""
    run, path = experiments.Run('AdaSAP', 'Magnitude', 0.4, 0), tmp_path / 'record.jsonl'
    setting = experiments.Setting(BASE, {}, '')
    now = json.loads(json.dumps(experiments.methods_of(experiments.configure(setting, run))))
    line = {**_line(run), **now, changed: {**(now[changed] or {}), 'type': 'Before'}}
    path.write_text(json.dumps(line) + '\n')
    with pytest.raises(
        MmsharpError, match=f"AdaSAP, seed 0, with {changed} .*'Before'.*remove the line and the folder"
    ):
        experiments.run_all(setting, [run], tmp_path, path)
    path.write_text(json.dumps({**_line(run), **now}) + '\n')
    assert len(experiments.run_all(setting, [run], tmp_path, path)) == 1


def test_a_setting_may_name_what_is_known_anyway(experiments, benchmark, tmp_path):
    """PSAP's has the epochs; its runs are of clean images alone, and have no mPC."""
    psap = benchmark('psap_cifar10')
    setting = psap.Setting(BASE, psap.length(4), '', same=dict(epochs=4, images=8))
    run = psap.Run('PSAP', 'Magnitude', 0.3, 0)

    def perform(config, run, work_dir, setting):
        return _line(run, mpc=None, **experiments.circumstances(config, setting))

    arguments = setting, [run], tmp_path, tmp_path / 'record.jsonl', psap.configure, perform
    for _ in range(2):
        [line] = experiments.run_all(*arguments)
    assert (line['epochs'], line['images']) == (4, 8)


def test_a_figure_of_methods_has_a_row_for_each(experiments, tmp_path):
    """And a panel for each quantity; the file is the same again."""
    found = {method: [dict(clean=80.0 + seed) for seed in range(2)] for method in ('HYDRA', 'C-SAM')}
    panels = [experiments.Panel(label, lambda line: line['clean']) for label in ('accuracy', 'PCA')]
    for _ in range(2):
        experiments.draw_by_method(found, panels, tmp_path / 'a.svg')
    text = (tmp_path / 'a.svg').read_text()
    assert [text.count(f'>{name}<') for name in ('HYDRA', 'C-SAM', 'accuracy', 'PCA')] == [1, 1, 1, 1]


@pytest.mark.parametrize(
    ('rows', 'away'),
    [
        ([[38.0, 39.0], [83.0, 84.0], [84.5], [85.0]], {0}),
        ([[800.0], [83.0], [84.0], [85.0], [40.0]], {0, 4}),
        ([[38.0], [84.0], [85.0]], set()),
        ([[80.0], [82.0], [84.0], [86.0]], set()),
        ([[85.0], [85.0], [85.0], [85.0]], set()),
    ],
)
def test_a_row_that_would_hide_the_others_is_a_number_at_the_edge(experiments, tmp_path, rows, away):
    """Three are left at least, and equal ones have no outlier."""
    assert experiments.far_away(rows) == away
    found = {f'row {number}': [dict(clean=value) for value in values] for number, values in enumerate(rows)}
    experiments.draw_by_method(found, [experiments.Panel('accuracy', lambda line: line['clean'])], tmp_path / 'a.svg')
    text = (tmp_path / 'a.svg').read_text()
    assert sum(text.count(arrow) for arrow in '\u2190\u2192') == len(away)


def test_a_damaged_record_is_not_overwritten(experiments, tmp_path):
    """Half a line, named."""
    path = tmp_path / 'record.jsonl'
    path.write_text(json.dumps({'method': 'SGD'})[:-3] + '\n')
    with pytest.raises(MmsharpError, match='damaged line'):
        experiments.read_record(path)


def test_an_empty_record_has_no_table(experiments, tmp_path):
    """The message says what to do."""
    with pytest.raises(MmsharpError, match='csam_cifar10_cpu has no run yet; start without --render'):
        experiments.read_runs(tmp_path / 'csam_cifar10_cpu.jsonl')


@pytest.mark.parametrize(('vectors', 'warned'), [('AVX2', True), ('AVX512', False)])
def test_mixed_precision_on_processors_without_it(benchmark, capsys, monkeypatch, vectors, warned):
    """Who asks for bfloat16 where torch only imitates it is told before hours have passed."""
    arguments = benchmark('experiments.arguments')
    monkeypatch.setattr(arguments.torch.backends.cpu, 'get_cpu_capability', lambda: vectors)
    monkeypatch.setattr(arguments.torch.cuda, 'is_available', lambda: False)
    monkeypatch.setattr(arguments.platform, 'machine', lambda: 'x86_64')
    parser = argparse.ArgumentParser()
    arguments.add_mixed(parser)
    assert parser.parse_args(['--mixed']).mixed
    assert ('no bfloat16' in capsys.readouterr().err) == warned
    assert not parser.parse_args([]).mixed
    assert not capsys.readouterr().err
