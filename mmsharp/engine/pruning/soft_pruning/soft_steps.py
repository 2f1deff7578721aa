"""Soft pruning steps of a training: decide, zero, watch, bring back, remember, let the others grow."""

from __future__ import annotations

import logging
from collections.abc import Callable, Mapping, Sequence
from contextlib import AbstractContextManager, nullcontext
from typing import Any

import torch
from mmengine.logging import print_log
from torch import Tensor, nn

from mmsharp.engine.distributed.first_process_decides import first_process_decides
from mmsharp.engine.pruning.soft_pruning.lowered_loss_scale import LoweredLossScale
from mmsharp.engine.pruning.soft_pruning.watching_window import WatchingWindow
from mmsharp.pruning import (
    GateMeans,
    LimitedRegrowth,
    ProtectionMemory,
    SoftPruning,
    WholeFilters,
    held,
    reconstruct,
    sparsity_ratios,
)
from mmsharp.pruning.protection import learns

Report = Callable[[Mapping[str, Any], Sequence[Tensor], Sequence[Tensor]], None]
"""Called with a step that is over, what came back, and what was zeroed instead."""


class SoftSteps:
    """One soft step after another on a model that is trained, in as many processes as there are.

    Groups with a filter that is not trained are left whole, and named in the log: it would answer with no pulse, and
    could not grow back.

    Args:
        model: The inner model, which the pruner is attached to.
        wrapper: Its optimizer wrapper.
        pruner: Decides what goes.
        protection: Decides what comes back; ``None`` lets nothing come back.
        limit_regrowth: Whether what stays zeroed grows by steps of the usual length.
        clear_momentum: Whether zeroed filters lose their momentum.
        measure_whole: Whether allocations look at zeroed filters as they were when they were last whole.
        report: Told of each step when it is over.
    """

    def __init__(
        self,
        model: nn.Module,
        wrapper: Any,
        pruner: Any,
        protection: Any,
        limit_regrowth: bool,
        clear_momentum: bool,
        measure_whole: bool,
        report: Report,
    ) -> None:
        self._model, self._wrapper, self._pruner, self._protection = model, wrapper, pruner, protection
        self._limit_regrowth = limit_regrowth
        self._clear_momentum = clear_momentum
        self._report = report
        self._window: WatchingWindow | None = None
        self._regrowth: LimitedRegrowth | None = None
        self._loss_scale = LoweredLossScale(wrapper)
        self._memory = ProtectionMemory(getattr(protection, 'memory', 0.0), getattr(protection, 'weight', 0.0))
        self._scores: list[Tensor] = []
        self._gates = GateMeans()
        looks = measure_whole and hasattr(pruner.allocation, 'prepare')
        self._whole = WholeFilters(model, pruner.groups.groups) if looks else None
        self._step: dict[str, Any] = {}
        self._frozen: list[str] = []

    @property
    def window(self) -> WatchingWindow | None:
        """The open one, if there is one."""
        return self._window

    def decide(self, progress: float) -> list[Tensor]:
        """Keep-masks by the criterion's scores, raised where protections of earlier steps speak for a channel."""

        def raised(scores: list[Tensor]) -> list[Tensor]:
            self._scores = scores
            return self._memory.raised(scores)

        return list(self._pruner.decide(progress, raised, self._view))

    def take(self, iteration: int, progress: float) -> list[Tensor]:
        """Zero what is decided on, and open the window; gives the keep-masks.

        A window that is still open, because no step could be taken in it, ends with what has been seen.
        """
        self._decide_what_returns()
        pruner, protection = self._pruner, self._protection
        sparsity = self.sparsity()
        keep = first_process_decides(self._without_frozen(self.decide(progress)))
        pruner.begin_anew()
        refills = protection is not None and protection.refill
        scores = self._memory.raised(self._scores) if refills and self._scores else None
        step = self.decided(iteration, 'soft', keep, sparsity)
        self._step = dict(step, scores=scores, gates=self._gates.means())
        self._gates.reset()
        self._stop_growing()
        self._before_zeroing([~mask for mask in keep])
        soft = self._soft_pruning(keep)
        soft.zero_()
        self._loss_scale.lower()
        if protection is not None:
            self._window = WatchingWindow(soft, self._wrapper, protection.watch)
            return list(keep)
        nobody = [torch.zeros_like(mask) for mask in keep]
        self._grow([~mask for mask in keep])
        self._close(nobody, nobody)
        return list(keep)

    def before_iteration(self) -> None:
        """Note the loss scale that the pulses of this iteration are multiplied by."""
        if self._window is not None:
            self._window.loss_scale = self._loss_scale.now

    def after_iteration(self) -> None:
        """Bring filters back if the window is over."""
        if self._window is not None and self._window.after_iteration():
            self._decide_what_returns()

    def _decide_what_returns(self) -> None:
        if self._window is None:
            return
        window, soft = self._window, self._window.soft
        window.close()
        self._window = None
        gates, scores = self._step['gates'], self._step['scores']
        names = [group.name for group in self._pruner.groups.groups]
        decision = reconstruct(self._protection, soft.keep, window.pulses(), gates, scores, names)
        protected, extra = first_process_decides(decision)
        soft.restore_(protected)
        self._memory.update(protected)
        self._before_zeroing(extra)  # and no more copies of what is whole again
        self._soft_pruning([~mask for mask in extra]).zero_()
        growing = zip(soft.keep, protected, extra)
        self._grow([~mask & ~back | instead for mask, back, instead in growing])
        self._close(protected, extra)

    def read_gates(self) -> None:
        """Take in the gate gradients of the step that the optimizer is about to make."""
        self._gates.observe(self._model, self._pruner.groups.groups)

    def end(self) -> None:
        """Training goes on as usual: masks are held from now on."""
        self._decide_what_returns()
        self._stop_growing()
        self._loss_scale.restore()

    def forget(self) -> None:
        """There is no further step that evidence would speak at."""
        self._memory.evidence = []
        self._gates.reset()
        if self._whole is not None:
            self._whole.forget()

    def sparsity(self) -> list[float]:
        """Sparsity ratios of now, for allocations that do not say themselves."""
        groups = self._pruner.groups.groups
        everything = [torch.ones(group.channels, dtype=torch.bool) for group in groups]
        with self._view():
            return sparsity_ratios(self._model, groups, everything)

    def decided(self, iteration: int, phase: str, keep: Sequence[Tensor], sparsity: Sequence[float]) -> dict[str, Any]:
        """What a report says of a step, as far as it is known before its window opens."""
        scores, self._scores = self._scores, []
        return dict(
            iteration=iteration,
            phase=phase,
            sparsity=list(getattr(self._pruner.allocation, 'sparsity', ()) or sparsity),
            zeroed=[int((~mask).sum()) for mask in keep],
            held=[held(mask, score) for mask, score in zip(keep, scores)] or [0] * len(keep),
        )

    def state_dict(self) -> dict[str, Any]:
        """An open window, and what the next step needs, as tensors and plain data."""
        return dict(
            gates=self._gates.state_dict(),
            window=None if self._window is None else self._window.state_dict(),
            step=self._step,
            growing=None if self._regrowth is None else self._regrowth.growing,
            loss_scale=self._loss_scale.before,
            evidence=self._memory.evidence,
            whole=None if self._whole is None else self._whole.state_dict(),
        )

    def load_state_dict(self, state: Mapping[str, Any]) -> None:
        """Go on from there; model and optimizer have been loaded."""
        self._gates.load_state_dict(state['gates'])
        self._step = _on_cpu(state['step'])
        self._memory.evidence = [evidence.cpu() for evidence in state.get('evidence', ())]
        if self._whole is not None and state.get('whole') is not None:
            self._whole.load_state_dict(state['whole'])
        elif (self._whole is None) != (state.get('whole') is None):
            before, now = ('with', 'without') if self._whole is None else ('without', 'with')
            print_log(
                f'mmsharp: the checkpoint is of a run that measured layers {before} copies of zeroed filters '
                f'(measure_whole), and this one measures them {now}; its ratios will be others',
                'current',
                logging.WARNING,
            )
        self._loss_scale.go_on(state['loss_scale'])
        if state['growing'] is not None:
            self._grow([mask.cpu() for mask in state['growing']])
        if state['window'] is not None and self._protection is None:
            keep = [mask.cpu() for mask in state['window']['soft']['keep']]
            nobody = [torch.zeros_like(mask) for mask in keep]
            print_log(
                'mmsharp: the checkpoint was saved while zeroed filters were watched; with protection=False none of '
                'them comes back',
                'current',
                logging.WARNING,
            )
            self._grow([~mask for mask in keep])
            self._close(nobody, nobody)
        elif state['window'] is not None:
            soft = self._soft_pruning([mask.cpu() for mask in state['window']['soft']['keep']])
            self._window = WatchingWindow(soft, self._wrapper, self._protection.watch)
            self._window.load_state_dict(state['window'])

    def _without_frozen(self, keep: Sequence[Tensor]) -> list[Tensor]:
        groups = self._pruner.groups.groups
        frozen = [not learns(self._model, group) for group in groups]
        names = [group.name for group, still in zip(groups, frozen) if still]
        if names and names != self._frozen:
            print_log(
                f'mmsharp: soft steps leave {", ".join(map(repr, names))} whole, because filters of theirs are '
                'not trained; what goes of them is decided when the masks are held',
                'current',
                logging.WARNING,
            )
        self._frozen = names
        return [torch.ones_like(mask) if still else mask for mask, still in zip(keep, frozen)]

    def _soft_pruning(self, keep: Sequence[Tensor]) -> SoftPruning:
        groups, optimizer = self._pruner.groups.groups, self._wrapper.optimizer
        return SoftPruning(self._model, groups, keep, optimizer, self._clear_momentum)

    def _view(self) -> AbstractContextManager[object]:
        return nullcontext() if self._whole is None else self._whole.shown()

    def _before_zeroing(self, zeroed: Sequence[Tensor]) -> None:
        if self._whole is not None:
            self._whole.before_zeroing(zeroed)

    def _grow(self, growing: Sequence[Tensor]) -> None:
        if self._limit_regrowth:
            groups, optimizer = self._pruner.groups.groups, self._wrapper.optimizer
            self._regrowth = LimitedRegrowth(self._model, groups, growing, optimizer)

    def _stop_growing(self) -> None:
        if self._regrowth is not None:
            self._regrowth.close()
            self._regrowth = None

    def _close(self, protected: Sequence[Tensor], extra: Sequence[Tensor]) -> None:
        step, self._step = self._step, {}
        self._report(step, protected, extra)


def _on_cpu(step: Any) -> Any:
    """What was decided, where decisions are made: resuming maps a checkpoint to the device of the model.

    Example:
        >>> _on_cpu(dict(iteration=3, gates=[torch.ones(2)], scores=None))
        {'iteration': 3, 'gates': [tensor([1., 1.])], 'scores': None}
    """
    if isinstance(step, Mapping):
        return {name: _on_cpu(value) for name, value in step.items()}
    if isinstance(step, (list, tuple)):
        return type(step)(_on_cpu(value) for value in step)
    return step.cpu() if isinstance(step, Tensor) else step
