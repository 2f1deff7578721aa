"""The sweep of C-SAM judges on images of its own, and its variants are what they are called."""

import pytest
from mmengine.registry import MODELS, init_default_scope

pytestmark = pytest.mark.filterwarnings('ignore')  # the toolboxes warn of their own optional parts


@pytest.fixture
def sweep(benchmark):
    """The module, which stands beside the others."""
    return benchmark('csam_sweep')


def configured(sweep, name, budget=0.3, **options):
    setting = sweep.Setting(sweep.ROOT, {**sweep.length(sweep.EPOCHS), **options}, '')
    (cell,) = sweep.cells_of([name], [budget], [7])
    return sweep.configure(setting, cell, sweep.VARIANTS)


def test_it_is_judged_on_images_that_the_table_is_not_of(benchmark, sweep, tmp_path, monkeypatch):
    """Settings are chosen by it: its images are held out from the table's."""
    asked = []

    def prepare(work_dir, train, test, holdout):
        asked.append((train, test))
        return {'test_dataloader.dataset.data_root': str(work_dir / 'data' / 'test'), 'load_from': 'weights.pth'}

    def run_all(setting, *_):
        asked.append(setting)
        raise KeyboardInterrupt

    monkeypatch.setattr(sweep, 'prepare', prepare)
    monkeypatch.setattr(sweep, 'run_all', run_all)
    monkeypatch.setattr('sys.argv', ['csam_sweep.py', '--work-dir', str(tmp_path), '--record', 'none'])
    with pytest.raises(KeyboardInterrupt):
        sweep.main()
    monkeypatch.setattr('sys.argv', ['csam_cifar10.py'])
    table = benchmark('csam_cifar10').parse_args()
    images, setting = asked
    assert images == (table.train, table.test)
    config = configured(sweep, 'C-SAM', **setting.options)
    assert config.test_dataloader.dataset.data_root == str(tmp_path / 'data' / 'holdout')


def test_a_variant_is_what_its_name_says(sweep):
    """Every part of the name changes one thing, and all can be built."""
    pytest.importorskip('mmpretrain')
    init_default_scope('mmpretrain')
    plain = configured(sweep, 'C-SAM')
    assert plain.model.search.ratio == pytest.approx(0.7)
    assert (plain.train_cfg.max_epochs, plain.default_hooks.pruning.search) == (8, 3)
    for name, changes in (
        ('C-SAM, rate 100', {'optim_wrapper.paramwise_cfg.custom_keys.mask_search.lr_mult': 100.0}),
        ('C-SAM, rho 0.2', {'model.search.perturbation.rho': 0.2}),
        ('C-SAM, no perturbation', {'model.search.perturbation': dict(_delete_=True, type='None')}),
        ('C-SAM, gradient', {'model.search.perturbation': dict(_delete_=True, type='Gradient')}),
        ('C-SAM, margin ratio 0.1', {'model.search.losses.margin_ratio.weight': 0.1}),
        ('C-SAM, no margin ratio', {'model.search.losses.margin_ratio': None}),
        ('C-SAM, eta 0.5', {'model.search.losses.margin_ratio.eta': 0.5}),
        ('C-SAM, stability 10', {'model.search.losses.stability.weight': 10.0}),
        ('C-SAM, no task loss', {'model.search.losses.task': None}),
        ('C-SAM, no fine-tuning', {'default_hooks.pruning.search': 8}),
        ('C-SAM, rate 1000, rho 0.2, no fine-tuning', None),
    ):
        config = configured(sweep, name)
        MODELS.build(dict(config.model.copy(), data_preprocessor=config.data_preprocessor))
        if changes is not None:
            same = configured(sweep, 'C-SAM')
            same.merge_from_dict(changes)
            assert same.to_dict() == config.to_dict() != plain.to_dict(), name
    assert set(sweep.DEFAULT) <= set(sweep.VARIANTS)


def test_the_baselines_have_the_same_length(sweep):
    """HYDRA searches as long, magnitude not at all, and the schedule of the rate is everybody's."""
    plain = configured(sweep, 'C-SAM')
    for name, search in (('magnitude', 0), ('HYDRA', sweep.SEARCH), ('HYDRA, no fine-tuning', sweep.EPOCHS)):
        config = configured(sweep, name)
        assert config.default_hooks.pruning.search == search
        assert (config.train_cfg, config.param_scheduler) == (plain.train_cfg, plain.param_scheduler)


def test_the_table_has_a_row_per_variant(sweep):
    """Longhand: 60 and 64 % on the grid are 62 +- 2.8; the unpruned network has neither masks nor a training."""
    found = [
        dict(
            method=method,
            budget=budget,
            seed=seed,
            clean=90.0,
            masks_as_magnitude=0.9,
            certified=[dict(transform=of, empirical_robust_accuracy=grid) for of in sweep.TRANSFORMS],
            train_cpu_seconds=60.0,
            machine=dict(gpu=None),
        )
        for method, budget, seed, grid in (
            ('unpruned', 1.0, 0, 0.7),
            ('C-SAM, rate 100', 0.5, 0, 0.6),
            ('C-SAM, rate 100', 0.5, 1, 0.64),
        )
    ]
    rows = sweep.table(found).splitlines()
    assert rows[2] == '| 100% | unpruned | 1 | 90.00 | 70.0 | 70.0 |  |  |'
    assert rows[3] == '| 50% | C-SAM, rate 100 | 2 | 90.00 ± 0.00 | 62.0 ± 2.8 | 62.0 ± 2.8 | 90.0% | 1 min |'
