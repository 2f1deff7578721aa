"""The steps between a soft pruning step and the decision which filters come back."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

import torch
from mmengine.dist import all_reduce_params, get_world_size
from torch import Tensor

from mmsharp.engine.optim_wrappers import SharpnessAware
from mmsharp.engine.optim_wrappers.gradients_of_step import gradients_of_step
from mmsharp.engine.optim_wrappers.unfinished_step import go_on_with, gradients_so_far
from mmsharp.pruning import PulseWatch, SoftPruning


class WatchingWindow:
    """Reads pulses for some steps of an optimizer wrapper, of whatever kind, and never lets them through.

    The gradients are those of the whole batch: summed over the micro-batches of a step, averaged over the processes,
    divided by the loss scale. A step that the optimizer does not take, because gradients overflow, says nothing of any
    filter: the window stays open for the next one. A sharpness-aware wrapper is told to leave the zeroed filters where
    they are, and its ascent is not read. All of it is exact also when a run is resumed inside the window; between two
    micro-batches that holds in one process, because a checkpoint knows only what the first one has summed up.

    Args:
        soft: The soft pruning that has just been done.
        wrapper: The optimizer wrapper.
        steps: How many steps of the optimizer the window lasts.
    """

    def __init__(self, soft: SoftPruning, wrapper: Any, steps: int) -> None:
        self.soft = soft
        self.loss_scale = 1.0
        """What the losses of the step under way are multiplied by."""
        self._wrapper = wrapper
        self._remaining = steps
        self._watch = PulseWatch(soft)
        self._stepped = False
        self._handle = wrapper.optimizer.register_step_pre_hook(lambda optimizer, *_: self._before_step(optimizer))
        if hasattr(wrapper, 'set_masks'):
            wrapper.set_masks(soft.parameter_masks())

    def after_iteration(self) -> bool:
        """Count a step of the optimizer, if it took one; whether the window is over."""
        if not self._wrapper.should_update():
            return False
        stepped, self._stepped = self._stepped, False
        if not stepped:
            self._watch.forget_step()
            return False
        gradients = self._watch.gradients()
        if gradients and get_world_size() > 1:
            gradients = [gradient.contiguous() for gradient in gradients]
            all_reduce_params(gradients, op='mean')
        self._watch.take_step(gradients, 1.0 / self.loss_scale)
        self._remaining -= 1
        return self._remaining <= 0

    def pulses(self) -> list[Tensor]:
        """Per group, shape ``(channels,)``: the same on all processes."""
        return self._watch.pulses()

    def close(self) -> None:
        """Give the parameters and the wrapper back."""
        self._watch.close()
        self._handle.remove()
        if hasattr(self._wrapper, 'set_masks'):
            self._wrapper.set_masks({})

    def state_dict(self) -> dict[str, Any]:
        """Tensors and plain numbers, for a checkpoint."""
        watch, gradients = self._watch.state_dict(), {}
        if get_world_size() > 1:
            watch['sums'] = {}
        elif not isinstance(self._wrapper, SharpnessAware) and not self._wrapper.should_update():
            gradients = gradients_so_far(self._wrapper.optimizer)
        return dict(
            soft=self.soft.state_dict(),
            watch=watch,
            remaining=self._remaining,
            gradients=gradients,
        )

    def load_state_dict(self, state: Mapping[str, Any]) -> None:
        """Go on from there; the model and the optimizer have been loaded.

        Raises:
            MmsharpError: It is the state of another window.
        """
        self.soft.load_state_dict(state['soft'])
        self._watch.load_state_dict(state['watch'])
        self._remaining = state['remaining']
        go_on_with(self._wrapper.optimizer, state['gradients'])

    def _before_step(self, optimizer: torch.optim.Optimizer) -> None:
        with gradients_of_step(optimizer) as steps:
            self._stepped = steps
