"""What configs/README.md tells users to type."""

import argparse
import copy
import re

import pytest
from mmengine.registry import HOOKS
from shipped_configs import CONFIGS, GRID, IN_GRID, WHOLE, Name, load

from mmsharp.command_line import Options
from mmsharp.engine.configs.config import merge_options
from mmsharp.registry import ASCENTS, POLICIES, build_part

pytestmark = pytest.mark.filterwarnings('ignore')  # the toolboxes warn of their own optional parts

TEXT = (CONFIGS / 'README.md').read_text(encoding='utf-8')
OPTIONS = re.findall(r'^\| [^|]+ \| `([^`|]+=[^`|]+)` \|$', TEXT, re.MULTILINE)


@pytest.mark.parametrize('options', OPTIONS)
def test_options_take_the_place_of_configs(options):
    """Each row of the table fits a config, and its parts can be built."""
    config = load('adasap/resnet20_cifar10.py')
    before = copy.deepcopy(config._cfg_dict)
    parser = argparse.ArgumentParser()
    parser.add_argument('--cfg-options', nargs='+', action=Options)
    merge_options(config, parser.parse_args(['--cfg-options', *options.split()]).cfg_options)
    assert config._cfg_dict != before
    HOOKS.build(copy.deepcopy(config.default_hooks.pruning))
    build_part(ASCENTS, config.optim_wrapper.ascent)
    if 'policy' in config.optim_wrapper:
        build_part(POLICIES, config.optim_wrapper.policy)


def test_there_are_options():
    """The table is read at all."""
    assert len(OPTIONS) >= 5


def test_the_commands_name_configs_and_tools_that_exist():
    """Also where a variable of the shell stands for the network."""
    [first, others] = re.findall(r'^C=(\w+) +# or (.*)$', TEXT, re.MULTILINE)[0]
    for network in [first, *others.split(', ')]:
        for folder in ('dense', 'magnitude', 'adasap'):
            assert f'{folder}/{network}.py' in WHOLE
    for path in re.findall(r'(?:tools|configs|benchmarks)/[\w./-]+\.py', TEXT):
        if path != 'configs/taylor_sam/retinanet_r50_voc0712.py':  # the example of a config that is not there
            assert (CONFIGS.parent / path).is_file(), path


def test_every_config_is_in_the_table():
    """By its network and data set, beside its folder."""
    for name in WHOLE:
        folder, file = name.split('/')
        network = file.removesuffix('.py').removesuffix('_aug')
        assert f'`{folder}/`' in TEXT, folder
        assert any(f'`{stem}`' in TEXT for stem in (network, Name.of(name).ordinary[:-3])), name


def test_the_table_says_which_networks_have_the_grid():
    """And the text below it, which folders that is."""
    rows = re.findall(r'^\| `(\w+)` \|.*\bthe grid\b', TEXT, re.MULTILINE)
    assert {f'{network}.py' for network in rows} == set(IN_GRID)
    [folders] = re.findall(r'^The grid, of 40: ([^.]*?), in\n', TEXT, re.MULTILINE)
    assert folders == ', '.join(f'`{folder}`' for folder in GRID)


def test_the_batch_sizes_of_the_text_are_those_of_the_configs():
    """What `--auto-scale-lr` divides by."""
    for label, name in (
        ('ImageNet', 'resnet50_in1k'),
        ('SSD512', 'ssd512_r50_voc0712'),
        ('RetinaNet', 'retinanet_r50_voc0712'),
        ('RTMDet', 'rtmdet_tiny_voc0712'),
        ('CIFAR-10', 'resnet20_cifar10'),
    ):
        said = re.search(rf'{label} (\d+)[,)]', TEXT)
        assert said, label
        assert int(said[1]) == load(f'dense/{name}.py').auto_scale_lr.base_batch_size
    for word, name in (('in1k', 'resnet50_in1k'), ('ssd512', 'ssd512_r50_voc0712'), ('rtmdet', 'rtmdet_tiny_voc0712')):
        said = re.search(rf'epochs of the dense config:.*\b{word} (\d+)', TEXT)
        assert said, word
        assert int(said[1]) == load(f'dense/{name}.py').train_cfg.max_epochs
