"""A training in one of two processes, from a config, and what is in its network at the end."""

from pathlib import Path
from typing import Any

import torch
from mmengine.config import Config
from mmengine.runner import Runner

from mmsharp.engine.configs.config import settle_launcher

SGD = dict(type='SGD', lr=0.05, momentum=0.9, weight_decay=1e-3)


def runner_of(
    folder: str,
    model: str,
    dataset: str,
    hook: dict[str, Any],
    wrapper: dict[str, Any],
    resume: str | None = None,
    epochs: int | None = None,
    iterations: int | None = None,
    custom_hooks: tuple[dict[str, Any], ...] = (),
) -> Runner:
    """A runner for so many epochs of shuffled images, or iterations of images in order, with a checkpoint after each.

    Args:
        folder: Its work directory.
        model: Registered name.
        dataset: Registered name.
        hook: The pruning hook.
        wrapper: The optimizer wrapper, without its optimizer.
        resume: A checkpoint to go on from.
        epochs: Length of an epoch loop.
        iterations: Length of an iteration loop.
        custom_hooks: More hooks.
    """
    by_epoch = epochs is not None
    loop = dict(by_epoch=True, max_epochs=epochs) if by_epoch else dict(by_epoch=False, max_iters=iterations)
    config = Config(
        dict(
            model=dict(type=model),
            work_dir=folder,
            experiment_name=Path(folder).name,
            train_dataloader=dict(
                batch_size=4,
                num_workers=0,
                dataset=dict(type=dataset),
                sampler=dict(type='DefaultSampler' if by_epoch else 'InfiniteSampler', shuffle=by_epoch),
                collate_fn=dict(type='default_collate'),
            ),
            train_cfg=dict(loop, val_interval=1000),
            optim_wrapper=dict(wrapper, optimizer=dict(SGD)),
            default_hooks=dict(pruning=hook, checkpoint=dict(type='CheckpointHook', interval=1, by_epoch=by_epoch)),
            custom_hooks=[*custom_hooks, dict(type='mmsharp.RNGStateHook')],
            default_scope='mmengine',
            randomness=dict(seed=0),
            log_level='WARNING',
            load_from=resume,
            resume=resume is not None,
        )
    )
    settle_launcher(config, 'pytorch')
    return Runner.from_cfg(config)


def weights_of(runner: Runner) -> dict[str, torch.Tensor]:
    """The parameters of the network inside of the distributed wrapper."""
    return {name: value.detach() for name, value in runner.model.module.named_parameters()}


def momentum_of(runner: Runner) -> list[torch.Tensor]:
    """Of all parameters, in the optimizer's order."""
    return [state['momentum_buffer'] for state in runner.optim_wrapper.optimizer.state.values()]
