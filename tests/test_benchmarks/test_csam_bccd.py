"""The comparison on a detector is one of methods: same images, epochs, rates and share."""

import pytest
from mmengine.registry import HOOKS

from mmsharp.engine.hooks import MaskSearchHook

pytestmark = pytest.mark.filterwarnings('ignore')  # the toolboxes warn of their own optional parts


@pytest.fixture
def csam(benchmark):
    """The module, which stands beside the others."""
    return benchmark('csam_bccd')


def test_every_method_has_the_same_images_epochs_and_share(csam):
    """With the weights that the options name, in the precision of all."""
    setting = csam.Setting(csam.ROOT, {'load_from': 'dense.pth'}, '', mixed=True)
    configs = {name: csam.configure(setting, csam.Run(name, 'Magnitude', 0.3, 7)) for name in csam.METHODS}
    first = configs[csam.BASELINE]
    for name, config in configs.items():
        for key in ('train_dataloader', 'test_dataloader', 'test_evaluator', 'param_scheduler', 'train_cfg'):
            assert config[key] == first[key], (name, key)
        assert config.optim_wrapper.optimizer == first.optim_wrapper.optimizer
        assert config.optim_wrapper.type.startswith('mmsharp.Amp')
        assert (config.load_from, config.randomness.seed) == ('dense.pth', 7)
        hook = HOOKS.build(config.default_hooks.pruning.copy())
        if isinstance(hook, MaskSearchHook):
            assert config.model.search.budget == dict(params=0.3)
        else:
            assert (hook.pruner.resource, hook.pruner.target) == ('params', 0.3)


def test_the_table_has_a_row_per_method(csam):
    """Longhand: 0.6 and 0.62 are 0.61 +- 0.014; 30 seconds are 1.5 times 20."""
    known = dict(budget=0.4, parameters=0.399, macs=0.5, clean=0.8, rpc=0.75, machine=dict(gpu=None))
    found = [
        dict(known, method='magnitude', seed=0, mpc=0.5, train_cpu_seconds=20.0),
        dict(known, method='C-SAM', seed=0, mpc=0.6, train_cpu_seconds=30.0),
        dict(known, method='C-SAM', seed=1, mpc=0.62, train_cpu_seconds=30.0),
    ]
    rows = csam.table(found).splitlines()
    assert rows[2] == '| 39.9% | magnitude | 1 | 0.800 | 0.500 | 75.0% | 50.0% | 1.00x |'
    assert rows[3] == '| 39.9% | C-SAM | 2 | 0.800 ± 0.000 | 0.610 ± 0.014 | 75.0% | 50.0% | 1.50x |'
