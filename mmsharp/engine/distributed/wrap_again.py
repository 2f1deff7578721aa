"""A new distributed wrapper for a model whose parameters have changed."""

from __future__ import annotations

import copy
from typing import Any

from mmengine.model import is_model_wrapper

from mmsharp.engine.model_access.inner_model import inner_model


def wrap_again(runner: Any) -> None:
    """Put the runner's model into a new wrapper, if it is in one, as its config says.

    DDP looks once at what learns, and cuts its buckets for the shapes of then. ``compile`` of the config, which
    MMEngine applies to the wrapper, applies to the new one, too.

    Args:
        runner: An MMEngine runner.
    """
    if not is_model_wrapper(runner.model):
        return
    runner.model = runner.wrap_model(copy.deepcopy(runner.cfg.get('model_wrapper_cfg')), inner_model(runner.model))
    runner._maybe_compile('train_step')
