"""Stop at an image whose end is missing, where decoders go on with a grey lower part."""

from __future__ import annotations

from typing import Any

from mmengine.hooks import Hook

from mmsharp.engine.configs.pipelines import guard_loading
from mmsharp.registry import HOOKS


@HOOKS.register_module()
class GuardedLoadingHook(Hook):
    """Guards the loading transforms of all data of a run, before their workers start.

    Training data again at every epoch: hooks such as MMDetection's ``PipelineSwitchHook`` exchange the pipeline. A
    loading transform of training data with ``ignore_empty=True`` is left alone; validation and test read every image.

    Raises:
        UnreadableImageError: From the data loader, naming the image.
    """

    priority = 'VERY_LOW'
    """After the hooks that exchange pipelines."""

    def before_run(self, runner: Any) -> None:
        """Wrap the loading transforms of the datasets that have been built."""
        for loop in (runner._train_loop, runner._val_loop, runner._test_loop):
            loader = getattr(loop, 'dataloader', None)
            if loader is not None:
                guard_loading(loader.dataset, training=loop is runner._train_loop)

    def before_train_epoch(self, runner: Any) -> None:
        """Wrap what has been exchanged since."""
        guard_loading(runner.train_loop.dataloader.dataset, training=True)
