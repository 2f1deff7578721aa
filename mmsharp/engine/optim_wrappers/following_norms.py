"""Which BatchNorms take the very output of a layer, seen in one forward pass."""

from __future__ import annotations

import weakref
from typing import Any

from torch import Tensor, nn
from torch.nn.modules.batchnorm import _BatchNorm

from mmsharp.pruning.layers import layer_kind


class FollowingNorms:
    """Looks at the next forward pass of a model, and knows then what normalises the output of each of its layers.

    Args:
        model: Is watched until its next forward pass ends.

    Example:
        >>> import torch
        >>> model = nn.Sequential(nn.Conv2d(1, 2, 1), nn.BatchNorm2d(2), nn.ReLU(), nn.Conv2d(2, 1, 1))
        >>> norms = FollowingNorms(model)
        >>> norms.seen
        False
        >>> _ = model(torch.zeros(1, 1, 2, 2))
        >>> norms.seen, norms.paths_of
        (True, {'0': ['1']})
    """

    def __init__(self, model: nn.Module) -> None:
        self.paths_of: dict[str, list[str]] = {}
        self.seen = False
        self._outputs: dict[int, tuple[weakref.ref[Tensor], int, str]] = {}
        self._handles = [model.register_forward_hook(self._end)]
        for path, module in model.named_modules():
            if isinstance(module, _BatchNorm):
                self._handles.append(module.register_forward_pre_hook(self._taker(path)))
            elif layer_kind(module) is not None:
                self._handles.append(module.register_forward_hook(self._maker(path)))

    def close(self) -> None:
        """Look no longer."""
        for handle in self._handles:
            handle.remove()
        self._outputs.clear()

    def _maker(self, path: str) -> Any:
        def keep(module: nn.Module, inputs: Any, output: Any) -> None:
            if isinstance(output, Tensor):
                # Weakly, since activation checkpoints free it; a sum in place has another version.
                self._outputs[id(output)] = weakref.ref(output), output._version, path

        return keep

    def _taker(self, path: str) -> Any:
        def look(module: nn.Module, inputs: Any) -> None:
            taken = inputs[0] if inputs else None
            if not isinstance(taken, Tensor):
                return
            output, version, maker = self._outputs.get(id(taken), (None, 0, ''))
            if output is not None and output() is taken and taken._version == version:
                norms = self.paths_of.setdefault(maker, [])
                if path not in norms:
                    norms.append(path)

        return look

    def _end(self, model: nn.Module, inputs: Any, output: Any) -> None:
        self.close()
        self.seen = True
