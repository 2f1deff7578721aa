"""A small training with checkpoints of every phase of pruning, and what is deployed of them."""

import copy

import torch
from mmengine.config import Config
from mmengine.hooks import EMAHook
from mmengine.model import BaseModel
from mmengine.registry import DATASETS, MODELS
from mmengine.runner import Runner
from torch import nn
from torch.utils.data import Dataset

from mmsharp.engine.configs.building_model import build_model

FILES = {'slim.pth', 'config.py', 'recipe.json', 'slim.json'}


@DATASETS.register_module(force=True)
class RandomImages(Dataset):
    """Twelve random images with labels, the same in every process."""

    def __init__(self) -> None:
        generator = torch.Generator().manual_seed(3)
        self.images = torch.randn(12, 3, 8, 8, generator=generator)
        self.labels = (self.images.mean(dim=(1, 2, 3)) > 0).long()

    def __len__(self) -> int:
        return len(self.images)

    def __getitem__(self, index: int) -> dict:
        return dict(inputs=self.images[index], data_samples=self.labels[index])


@MODELS.register_module(force=True)
class ThreeConvolutions(BaseModel):
    """A chain of convolutions with BatchNorm, and a classifier."""

    def __init__(self, width: int = 12, init_cfg: dict | None = None) -> None:
        super().__init__(init_cfg=init_cfg)
        layers: list[nn.Module] = []
        for inputs in (3, width, width):
            layers += [nn.Conv2d(inputs, width, 3, padding=1), nn.BatchNorm2d(width), nn.ReLU()]
        self.features = nn.Sequential(*layers)
        self.head = nn.Linear(width, 2)

    def forward(self, inputs, data_samples=None, mode='tensor'):
        scores = self.head(self.features(inputs).mean(dim=(2, 3)))
        if mode == 'tensor':
            return scores
        return dict(loss=nn.functional.cross_entropy(scores, torch.as_tensor(data_samples)))


HOOK = dict(type='mmsharp.PruningHook', budget=dict(params=0.5), warmup=1, pruning=2, interval=1)


HOOK['pruner'] = dict(type='mmsharp.ChannelPruner', round_to=1)


def training_config(work_dir, **extra) -> Config:
    return Config(
        dict(
            model=dict(type='ThreeConvolutions'),
            work_dir=str(work_dir),
            experiment_name=str(work_dir),
            train_dataloader=dict(
                batch_size=6,
                num_workers=0,
                dataset=dict(type='RandomImages'),
                sampler=dict(type='DefaultSampler', shuffle=False),
                collate_fn=dict(type='default_collate'),
            ),
            train_cfg=dict(by_epoch=True, max_epochs=4),
            optim_wrapper=dict(type='OptimWrapper', optimizer=dict(type='SGD', lr=0.05, momentum=0.9)),
            default_hooks=dict(checkpoint=dict(type='CheckpointHook', interval=1), pruning=dict(HOOK)),
            default_scope='mmengine',
            randomness=dict(seed=0),
            log_level='WARNING',
            **extra,
        )
    )


class Trained:
    """A run with checkpoints of every phase, and the model whose weights they hold."""

    def __init__(self, folder, ema: bool) -> None:
        extra = dict(custom_hooks=[dict(type='EMAHook', momentum=0.3)]) if ema else {}
        self.config = training_config(folder, **extra)
        runner = Runner.from_cfg(copy.deepcopy(self.config))
        runner.train()
        self.folder = folder
        model = runner.model
        if ema:
            hook = next(hook for hook in runner.hooks if isinstance(hook, EMAHook))
            # When training has ended, EMAHook has put the plain weights back into the model.
            self.plain = model.eval()
            model = hook.ema_model.module
        self.model = model.eval()

    def path(self, epoch: int) -> str:
        return str(self.folder / f'epoch_{epoch}.pth')


def load(folder) -> nn.Module:
    """The deployed model, as anyone would load it."""
    model = build_model(Config.fromfile(folder / 'config.py'))
    model.load_state_dict(torch.load(folder / 'slim.pth', weights_only=True)['state_dict'])
    return model


@torch.no_grad()
def relative(first: nn.Module, second: nn.Module, images: torch.Tensor) -> float:
    expected = first(images)
    return float((second(images) - expected).abs().max() / expected.abs().max())


def slim_training(folder, work_dir, **hooks) -> Config:
    """The config that ``tools/slim.py`` wrote, to be trained on from its weights."""
    config = Config.fromfile(folder / 'config.py')
    config.work_dir = config.experiment_name = str(work_dir)
    config.load_from = str(folder / 'slim.pth')
    config.default_hooks.update(hooks)
    return config
