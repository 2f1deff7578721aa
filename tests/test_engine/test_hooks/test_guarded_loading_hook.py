"""Truncated images end training, also after the pipeline was exchanged."""

import importlib.util
from pathlib import Path

import pytest
from mmengine.config import Config
from mmengine.dataset import Compose
from mmengine.hooks import Hook
from mmengine.runner import Runner

from mmsharp.datasets.transforms import GuardedLoading, UnreadableImageError
from mmsharp.engine.hooks import GuardedLoadingHook

SPEC = importlib.util.spec_from_file_location('robust_data', Path(__file__).parents[2] / 'robust_data.py')
robust_data = importlib.util.module_from_spec(SPEC)
SPEC.loader.exec_module(robust_data)

pytestmark = pytest.mark.filterwarnings('ignore')  # the toolboxes warn of their own optional parts


class Switch(Hook):
    """Exchanges the pipeline before the second epoch, as mmdet's PipelineSwitchHook does."""

    def __init__(self, pipeline):
        self.pipeline = pipeline
        self.first: list[type] = []

    def before_train_epoch(self, runner):
        if runner.epoch == 1:
            runner.train_loop.dataloader.dataset.pipeline = Compose(self.pipeline)

    def before_train_iter(self, runner, batch_idx, data_batch=None):
        self.first.append(type(runner.train_loop.dataloader.dataset.pipeline.transforms[0]))


def _runner(folder, ignore_empty=False):
    """A classifier that trains and validates on the same pictures."""
    config = robust_data.classifier_config(robust_data.write_class_folders(folder / 'images'))
    loader = config.test_dataloader.to_dict() | {'collate_fn': {'type': 'default_collate'}}
    loader['persistent_workers'] = False
    loader['dataset']['pipeline'][0]['ignore_empty'] = ignore_empty
    return Runner.from_cfg(
        Config(
            config.to_dict()
            | {
                'work_dir': str(folder / 'run'),
                'train_dataloader': loader,
                'train_cfg': {'by_epoch': True, 'max_epochs': 2},
                'val_dataloader': loader,
                'val_cfg': {},
                'val_evaluator': config.test_evaluator,
                'optim_wrapper': {'optimizer': {'type': 'SGD', 'lr': 0.01}},
                'test_dataloader': None,
                'test_cfg': None,
                'test_evaluator': None,
                'log_level': 'ERROR',
                'experiment_name': f'guard_{folder.name}',
            }
        )
    )


def test_an_exchanged_pipeline_is_guarded_too(tmp_path):
    """Whatever loads the images of an epoch is wrapped when that epoch begins."""
    runner = _runner(tmp_path)
    switch = Switch(runner.cfg.train_dataloader.dataset.pipeline)
    runner.register_hook(GuardedLoadingHook())
    runner.register_hook(switch, priority='LOW')
    runner.train()
    assert len(switch.first) >= 2
    assert set(switch.first) == {GuardedLoading}


@pytest.mark.parametrize('content', [b'', b'no image', None], ids=['empty', 'text', 'half'])
def test_a_training_that_asks_for_other_images_gets_them(tmp_path, content):
    """ignore_empty=True is the user's choice there; validation stops at the image that it cannot read."""
    runner = _runner(tmp_path, ignore_empty=True)
    runner.register_hook(GuardedLoadingHook())
    picture = tmp_path / 'images' / 'square' / '0.png'
    picture.write_bytes(picture.read_bytes()[: picture.stat().st_size // 2] if content is None else content)
    with pytest.raises(UnreadableImageError, match=r'square/0\.png'):
        runner.train()
    assert runner.iter == len(runner.train_dataloader)
