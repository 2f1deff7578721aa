"""A new distributed wrapper for a model whose parameters have changed."""

from __future__ import annotations

import copy
from typing import Any

from mmengine.model import is_model_wrapper


def wrap_again(runner: Any) -> None:
    """Put the runner's model into a new wrapper, if it is in one, as its config says.

    DDP looks once at what learns, and cuts its buckets for the shapes of then. ``compile`` of the config, which
    MMEngine applies to the wrapper, applies to the new one, too.

    Args:
        runner: An MMEngine runner.
    """
    inner = runner.model
    while is_model_wrapper(inner):  # a model for test-time augmentation is none, and stays around its own
        inner = inner.module
    if inner is runner.model:
        return
    runner.model = runner.wrap_model(copy.deepcopy(runner.cfg.get('model_wrapper_cfg')), inner)
    runner._maybe_compile('train_step')
