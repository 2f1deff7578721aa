"""The loss of a model on batches that stay the same, as sharpness is measured on."""

from __future__ import annotations

import copy
from collections.abc import Callable
from typing import Any, Literal

import torch
from mmengine.config import Config
from mmengine.registry import init_default_scope
from mmengine.runner import Runner, set_random_seed
from torch import Tensor, nn

from mmsharp.engine.configs.config import check_data, settle_dataloaders
from mmsharp.engine.configs.pipelines import guard_loading
from mmsharp.engine.model_access.training_flags import detectors_in_training
from mmsharp.errors import MmsharpError
from mmsharp.sharpness import RandomState

Split = Literal['train', 'val', 'test']


def fixed_losses(
    config: Config, model: nn.Module, split: Split = 'train', batches: int = 8, seed: int = 0
) -> list[Callable[[nn.Module], Tensor]]:
    """One function per batch that gives the model's training loss on it, the same for the same weights.

    The first batches of a data loader are drawn once, with the pipeline's augmentations as the seed gives them, and
    kept in memory after preprocessing; mixing of images (``batch_augments``) is off. What the loss itself draws, as
    a detector samples boxes or DINO its noisy queries, is drawn alike in each call. The network is the one in the
    model's mode: after ``model.eval()`` nothing is dropped and BatchNorm takes its running statistics, also where a
    detector has to believe that it trains to give its losses. The training split is the default because its pipeline
    carries annotations that fit the resized image; test pipelines of detectors leave boxes in the original's pixels.

    Args:
        config: With a data loader for the split; not changed.
        model: A built model of MMDetection or MMPretrain, on the device where it shall run.
        split: Which data loader.
        batches: How many batches.
        seed: Of order and augmentations.

    Raises:
        MmsharpError: There is no such data loader, its data is missing, or the model gives no loss.
    """
    name = f'{split}_dataloader'
    if config.get(name) is None:
        raise MmsharpError(f'the config defines no {name}; choose another split')
    config = copy.deepcopy(config)
    settle_dataloaders(config)
    check_data(config, (name,))
    init_default_scope(config.get('default_scope') or 'mmengine')
    loader = copy.deepcopy(config[name])
    loader.update(num_workers=0, persistent_workers=False)
    loader.pop('prefetch_factor', None)
    before = RandomState.capture()
    try:
        set_random_seed(seed)
        built = Runner.build_dataloader(loader, seed=seed)
        guard_loading(built.dataset, training=split == 'train')
        kept = [_preprocess(model, batch) for _, batch in zip(range(batches), built)]
        inside = RandomState.capture()
    finally:
        before.restore()
    if not kept:
        raise MmsharpError(f'{name} gives no batch; its dataset may be smaller than the batch size')
    return [_loss_on(batch, inside) for batch in kept]


def _preprocess(model: Any, batch: Any) -> Any:
    preprocessor = model.data_preprocessor
    augments = getattr(preprocessor, 'batch_augments', None)
    if augments is not None:
        preprocessor.batch_augments = None
    try:
        with torch.no_grad():
            return preprocessor(batch, True)
    finally:
        if augments is not None:
            preprocessor.batch_augments = augments


def _loss_on(batch: Any, state: RandomState) -> Callable[[nn.Module], Tensor]:
    def loss(model: Any) -> Tensor:
        samples = copy.deepcopy({key: value for key, value in batch.items() if key != 'inputs'})
        with state.replayed(), detectors_in_training(model):
            losses = model(inputs=batch['inputs'], **samples, mode='loss')
        return model.parse_losses(losses)[0]

    return loss
