"""Which BatchNorm takes the very output of a layer, seen in one forward pass."""

from __future__ import annotations

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
        >>> norms.seen, norms.path_of
        (True, {'0': '1'})
    """

    def __init__(self, model: nn.Module) -> None:
        self.path_of: dict[str, str] = {}
        self.seen = False
        self._outputs: list[tuple[Tensor, str]] = []
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
                self._outputs.append((output.detach(), path))

        return keep

    def _taker(self, path: str) -> Any:
        def look(module: nn.Module, inputs: Any) -> None:
            taken = inputs[0] if inputs else None
            for output, maker in reversed(self._outputs):
                if isinstance(taken, Tensor) and _is_same(output, taken):
                    self.path_of.setdefault(maker, path)
                    return

        return look

    def _end(self, model: nn.Module, inputs: Any, output: Any) -> None:
        self.close()
        self.seen = True


def _is_same(first: Tensor, second: Tensor) -> bool:
    return first.data_ptr() == second.data_ptr() and first.shape == second.shape
