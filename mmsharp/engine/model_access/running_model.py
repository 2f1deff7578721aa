"""Which model is running, for a metric, which MMEngine tells of predictions alone."""

from __future__ import annotations

import weakref
from typing import Any

from mmengine.model import BaseModel
from torch import nn
from torch.nn.modules.module import register_module_forward_pre_hook

from mmsharp.errors import MmsharpError


class RunningModel:
    """Notes the first model of MMEngine that runs after this was made.

    A global forward pre-hook of torch sees every call of a module; it is removed as soon as a model was seen, and when
    nobody holds this object any more. Wrappers of distributed training and of test-time augmentation are not
    ``BaseModel`` or call the model inside before themselves, so that what is noted is the model.

    Example:
        >>> class Model(BaseModel):
        ...     def forward(self, inputs, data_samples=None, mode='tensor'):
        ...         return inputs
        >>> running, model = RunningModel(), Model()
        >>> _ = model(1)
        >>> running.model is model
        True
    """

    def __init__(self) -> None:
        self._seen: list[weakref.ref[nn.Module]] = []
        seen = self._seen

        def note(module: nn.Module, inputs: Any) -> None:
            if isinstance(module, BaseModel) and not seen:
                seen.append(weakref.ref(module))
                handle.remove()

        handle = register_module_forward_pre_hook(note)
        weakref.finalize(self, handle.remove)

    @property
    def model(self) -> nn.Module:
        """The model that ran.

        Raises:
            MmsharpError: None ran, or it is gone.
        """
        model = self._seen[0]() if self._seen else None
        if model is None:
            raise MmsharpError(
                'no model of MMEngine has run since the metric was made; use the metric in val_evaluator or '
                'test_evaluator of a config, or give it a model'
            )
        return model
