"""What a config says of its robustness reaches both tools, and goes with any other base."""

from pathlib import Path

import pytest
from mmengine.config import Config

from mmsharp.apis import evaluate_robustness
from mmsharp.engine.hooks import CorruptionEvalHook
from mmsharp.engine.robustness.from_config import add_robustness_hook, evaluation_settings
from mmsharp.errors import MmsharpError
from mmsharp.registry import HOOKS
from mmsharp.robustness import Grid

BASES = sorted((Path(__file__).parents[3] / 'configs/_base_/robustness').glob('*.py'))
STOCK = {
    'voc_c': 'mmdet::pascal_voc/faster-rcnn_r50_fpn_1x_voc0712.py',
    'coco_c': 'mmdet::rtmdet/rtmdet_tiny_8xb32-300e_coco.py',
    'imagenet_c': 'mmpretrain::resnet/resnet18_8xb32_in1k.py',
    'cifar10_c': 'mmpretrain::resnet/resnet18_8xb16_cifar10.py',
}


@pytest.mark.parametrize('base', BASES, ids=lambda path: path.stem)
def test_one_line_of_inheritance_turns_it_on(base, tmp_path):
    """Beside a packaged config: the tool's settings are accepted, and training gets one hook that can be built."""
    (tmp_path / 'mine.py').write_text(f'_base_ = [{STOCK[base.stem]!r}, {str(base)!r}]\n')
    config = Config.fromfile(tmp_path / 'mine.py')
    settings = evaluation_settings(config, evaluate_robustness)
    assert Grid.of(settings['corruptions'], settings['severities']).is_benchmark
    before = list(config.get('custom_hooks') or [])
    add_robustness_hook(config)
    assert config.custom_hooks[:-1] == before
    hook = HOOKS.build(config.custom_hooks[-1])
    assert isinstance(hook, CorruptionEvalHook)
    assert hook.metric == settings['metric']
    assert hook.interval > 1
    add_robustness_hook(config)
    assert len(config.custom_hooks) == len(before) + 1


def test_every_base_is_tried():
    """A new file needs a packaged config here."""
    assert {path.stem for path in BASES} == set(STOCK)


def test_the_hook_takes_what_it_shares_and_may_say_otherwise():
    """Seed and metric of the evaluation; severities are its own."""
    config = Config(
        {
            'val_dataloader': {},
            'robustness': {
                'evaluation': {'seed': 3, 'metric': 'a', 'severities': [0, 5], 'corrupted': 'tree'},
                'hook': {'metric': 'b', 'severities': [2]},
            },
        }
    )
    before = config.to_dict()
    add_robustness_hook(config)
    assert config.custom_hooks == [{'type': 'mmsharp.CorruptionEvalHook', 'seed': 3, 'metric': 'b', 'severities': [2]}]
    assert config.robustness.to_dict() == before['robustness']


@pytest.mark.parametrize(
    'config',
    [
        {'val_dataloader': {}},
        {'val_dataloader': {}, 'robustness': {'evaluation': {'seed': 3}}},
        {'robustness': {'hook': {}}},
        {
            'val_dataloader': {},
            'robustness': {'hook': {}},
            'default_hooks': {'robust': {'type': 'mmsharp.CorruptionEvalHook', 'interval': 9}},
        },
    ],
)
def test_no_hook_is_added(config):
    """Where the config says nothing, does not validate, or has one."""
    config = Config(config)
    add_robustness_hook(config)
    assert 'custom_hooks' not in config


@pytest.mark.parametrize(
    ('robustness', 'message'),
    [
        ({'evaluation': {'severity': 3}}, r'robustness\.evaluation has no severity; accepted are .*severities'),
        ({'evaluate': {}}, 'robustness of the config has no evaluate; accepted are evaluation and hook'),
        ({'evaluation': [3]}, r'robustness\.evaluation of the config is \[3\]'),
    ],
)
def test_a_wrong_word_is_refused(robustness, message):
    """With what is accepted."""
    with pytest.raises(MmsharpError, match=message):
        evaluation_settings(Config({'robustness': robustness}), evaluate_robustness)
