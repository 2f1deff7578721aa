"""PSAP: layers choose their own ratios, and filters whose gradient says that they matter come back."""

from __future__ import annotations

import logging
import math
from collections.abc import Mapping, Sequence
from typing import Any

import torch
from mmengine.dist import is_main_process
from mmengine.logging import print_log
from torch import Tensor

from mmsharp.engine.hooks.pruning_hook import PruningHook
from mmsharp.engine.model_access.inner_model import inner_model
from mmsharp.engine.optim_wrappers import SharpnessAware
from mmsharp.engine.optim_wrappers.gradients_of_step import gradients_of_step
from mmsharp.engine.pruning.phases import FINE_TUNING, Phases, ends_of, validate_length
from mmsharp.engine.pruning.protective_phases import SOFT, ProtectivePhases, interval_of_parts, protective_phases
from mmsharp.engine.pruning.soft_pruning.pruning_log import PruningLog, step_lines
from mmsharp.engine.pruning.soft_pruning.pruning_scalars import update_scalars
from mmsharp.engine.pruning.soft_pruning.soft_steps import SoftSteps
from mmsharp.errors import MmsharpError
from mmsharp.pruning.protection import check_protection
from mmsharp.registry import ASCENTS, HOOKS, PROTECTIONS, build_part
from mmsharp.sharpness import Ascent
from mmsharp.visualization.pruning_ratios import draw_pruning_ratios

STATE_KEY = 'mmsharp_psap'
"""Where a checkpoint keeps an open watching window, and what the next one needs."""

PARTS = 8
"""Intervals of a soft phase that is shorter than so many epochs, unless the user says how long they are."""


@HOOKS.register_module()
class PSAPHook(PruningHook):
    """Protective self-adaptive pruning (Li and Zhao 2023, arXiv 2303.11881), **as we read it**.

    Only the abstract and a summary could be read: that pruning and training take turns, that the "weight sparsity
    ratio" sets each layer's ratio before each step, and that gradients are supervised to bring important filters back.
    Every formula, threshold, length and schedule here is our reading, and no published figure is claimed.

    1. Warm-up, by default none: nothing is pruned.
    2. Soft pruning: after every ``interval`` iterations the pruner decides anew what goes, among all channels; the
       filters that make these channels are zeroed, with their momentum, and go on learning. In the first step of the
       optimizer afterwards their raw gradients, the pulses, are read, whatever the optimizer wrapper, and kept out of
       it: they reach no weight, momentum, clipping norm, ascent or check for overflow. Then the protection says which
       filters come back, bitwise as they were, with their momentum and running statistics. Filters without a pulse,
       behind a ReLU that is closed for them, stay zeroed, unless the protection asks for their gate gradients, averaged
       over the steps since the last soft step. What is protected is spared at the next steps, too, until the evidence
       for it has faded (:class:`~mmsharp.pruning.ProtectionMemory`). The others grow back by steps of the usual length
       (``limit_regrowth``), where they get a gradient.
       Groups with a filter that is not trained (``frozen_stages``) are left whole: it could not come back.
    3. Hard pruning: masks, chosen with the evidence of the soft steps, are held in every layer that makes or reads a
       channel. Frozen groups lose theirs here.
    4. Fine-tuning: on a network from which the masked channels have really been removed, as in :class:`PruningHook`.

    ``protection=False``, ``limit_regrowth=False`` and ``clear_momentum=False`` with a ``Uniform`` allocation are soft
    filter pruning (He et al. 2018, arXiv 1808.06866); as published, with ``ramp=0`` and nearly to the end. With a
    sharpness-aware wrapper, AdaSAP's for example, the allocation and protection of PSAP go with its training; that
    combination is ours.

    For every soft step and group the run's folder has a line in ``psap.jsonl``: sparsity ratio (the allocation's, or of
    the weights as they are, zeros included, where it measures none), pruning ratio, and how many channels were zeroed,
    held by evidence, came back, and were zeroed instead. The same numbers are scalars
    ``psap/<group>/...`` of the message hub, and their means and sums are in the log; ``psap.png`` shows them over
    layers and time.

    Args:
        budget: See :class:`PruningHook`.
        pruner: See :class:`PruningHook`; with the allocation ``SparsityRatio`` and the schedule ``Linear`` unless it
            says otherwise.
        protection: ``dict(type='mmsharp.ProtectiveReconstruction', ...)``, which ``None`` stands for, or ``False``; an
            object of your own has ``watch``, ``gate`` and ``refill``, too.
        warmup: Length of the warm-up: a float in [0, 1) is a share of all iterations, an int counts epochs
            (iterations in iteration loops).
        pruning: Length of the soft phase, likewise. A quarter suits trained weights; random ones need longer to say
            what a filter is worth.
        hard: Length of the hard phase, likewise. By default the masked channels are removed at once: the small network
            computes the same and costs less.
        ramp: Share of the soft phase over which the schedule runs; afterwards every step asks for the whole budget.
        interval: Iterations between two soft steps, and before the first one; ``None`` stands for equal parts of
            the soft phase, the last of which ends where the masks are held: as many as it has epochs, or eight if it
            is shorter than that, or fewer where these would be too short for training behind their windows.
        slim: See :class:`PruningHook`; with ``False`` the hard phase lasts to the end.
        limit_regrowth: Whether the gradients of filters that grow back, and their steps where the optimizer is not SGD,
            are shortened to the mean length of the others of their layer
            (:mod:`mmsharp.pruning.protection.limited_regrowth`). Otherwise a filter behind batch
            normalisation comes back by a pulse at once, many times longer than those that were kept.
        clear_momentum: Whether a filter loses its momentum when it is zeroed. With its momentum, it moves away from
            zero at the next step whatever its gradient, as in the released code of soft filter pruning; pulses are then
            those of the first step only.
        measure_whole: Whether the allocation looks at zeroed filters as they were when they were last whole
            (:mod:`mmsharp.pruning.protection.whole_filters`). Otherwise the small weights of those that grow back count
            as the sparsity of their layer, which then loses more at the next step. For allocations that look at weights
            it takes a copy of the zeroed filters' weights, in memory and in the checkpoints of the soft phase.
        fine_tuning: Ascent of a sharpness-aware wrapper from fine-tuning on, as in AdaSAP; ``None`` leaves it.

    Raises:
        MmsharpError: At construction for a bad argument; at the start where the phases do not fit the run or the window
            does not fit the interval; or as in :class:`PruningHook`.
    """

    def __init__(
        self,
        budget: Mapping[str, float],
        pruner: Mapping[str, Any] | None = None,
        protection: Mapping[str, Any] | Any | None = None,
        warmup: float = 0.0,
        pruning: float = 0.25,
        hard: float = 0.0,
        ramp: float = 2 / 3,
        interval: int | None = None,
        slim: bool = True,
        limit_regrowth: bool = True,
        clear_momentum: bool = True,
        measure_whole: bool = True,
        fine_tuning: Mapping[str, Any] | Ascent | None = None,
    ) -> None:
        pruner = dict(type='mmsharp.ChannelPruner') if pruner is None else pruner
        if isinstance(pruner, Mapping) and 'type' in pruner:
            own = dict(allocation=dict(type='mmsharp.SparsityRatio'), schedule=dict(type='mmsharp.Linear'))
            pruner = {**own, **pruner}
        super().__init__(budget, pruner, warmup, pruning, 1 if interval is None else interval, slim)
        self._once_per_epoch = interval is None
        self.hard = validate_length('hard', hard)
        if isinstance(ramp, bool) or not isinstance(ramp, (int, float)) or not 0 <= ramp <= 1:
            raise MmsharpError(f'ramp={ramp!r} is not a share of the soft phase, from 0 to 1')
        self.ramp = float(ramp)
        self.protection = None
        if protection is not False:
            protection = dict(type='mmsharp.ProtectiveReconstruction') if protection is None else protection
            self.protection = build_part(PROTECTIONS, protection)
            if not callable(self.protection):
                raise MmsharpError(f'protection={protection!r} is no config with a `type`, no callable and not False')
            check_protection(self.protection)
        self.fine_tuning = None if fine_tuning is None else build_part(ASCENTS, fine_tuning)
        if not isinstance(self.fine_tuning, (Ascent, type(None))):
            raise MmsharpError(f'fine_tuning={fine_tuning!r} is neither a config with a `type` nor an Ascent')
        switches = dict(limit_regrowth=limit_regrowth, clear_momentum=clear_momentum, measure_whole=measure_whole)
        for name, value in switches.items():
            if not isinstance(value, bool):
                raise MmsharpError(f'{name}={value!r} is neither True nor False')
        self.limit_regrowth = limit_regrowth
        self.clear_momentum = clear_momentum
        self.measure_whole = measure_whole
        self._steps: SoftSteps | None = None
        self._loaded: Mapping[str, Any] | None = None
        self._log: PruningLog | None = None

    def before_train(self, runner: Any) -> None:
        """Lay the phases over the run, and open its list of steps.

        Raises:
            MmsharpError: An ascent for fine-tuning without a sharpness-aware wrapper; weights to start from that were
                saved inside a watching window; or as in :class:`PruningHook`.
        """
        if self.fine_tuning is not None and not isinstance(runner.optim_wrapper, SharpnessAware):
            raise MmsharpError(
                f'fine_tuning is an ascent, but optim_wrapper is a {type(runner.optim_wrapper).__name__}, which takes '
                "none; leave fine_tuning out, or set optim_wrapper=dict(type='mmsharp.SAMOptimWrapper', ascent=...)"
            )
        if self.fine_tuning is not None:
            runner.optim_wrapper.check_ascent(self.fine_tuning)
        if not runner._resume and self._loaded is not None:
            if self._loaded['window'] is not None:
                raise MmsharpError(
                    f'load_from={runner._load_from!r} was saved while filters that had just been zeroed were watched, '
                    'and all of them would be lost; start from a checkpoint of another iteration, or go on with this '
                    'one by resume=True'
                )
            self._loaded = None
        super().before_train(runner)
        if is_main_process():
            self._log = PruningLog(runner.work_dir)
            # A step whose window is still open writes its lines again.
            open_step = {} if self._loaded is None else self._loaded['step']
            self._log.begin(open_step.get('iteration', runner.iter))

    def lay_phases(self, runner: Any, max_iters: int, iters_per_unit: int) -> Phases:
        """Soft steps begin where the optimizer begins a step; their windows end before the next one."""
        stride = runner.optim_wrapper._accumulative_counts
        window = 0 if self.protection is None else self.protection.watch * stride
        if self._once_per_epoch:
            warm_up_end, soft_end = ends_of((self.warmup, self.pruning), max_iters, iters_per_unit)
            begin, end = math.ceil(warm_up_end / stride) * stride, soft_end // stride * stride
            parts = max(PARTS, round((end - begin) / len(runner.train_loop.dataloader)))
            self.interval = interval_of_parts(end - begin, parts, stride, window)
        lengths = (self.warmup, self.pruning, self.hard, self.ramp)
        return protective_phases(*lengths, self.interval, max_iters, iters_per_unit, stride, window)

    def enter_phase(self, runner: Any, phase: str) -> None:
        """Exchange the ascent where fine-tuning begins."""
        super().enter_phase(runner, phase)
        if phase == FINE_TUNING and self.fine_tuning is not None:
            runner.optim_wrapper.set_ascent(self.fine_tuning, resumed=self._was_fine_tuning)

    def before_train_iter(self, runner: Any, batch_idx: int, data_batch: Any = None) -> None:
        """Take due steps, soft or hard, and slim when pruning ends."""
        super().before_train_iter(runner, batch_idx, data_batch)
        if self._steps is None:
            return
        if self._is_soft(runner.iter):
            self._prune_softly(runner, self._steps)
        self._steps.before_iteration()

    def after_train_iter(
        self, runner: Any, batch_idx: int, data_batch: Any = None, outputs: dict[str, Any] | None = None
    ) -> None:
        """Hold the masks, or see whether the window is over."""
        super().after_train_iter(runner, batch_idx, data_batch, outputs)
        if self._steps is not None:
            self._steps.after_iteration()

    def after_train(self, runner: Any) -> None:
        """Draw what was done over layers and time."""
        self._draw()

    def before_save_checkpoint(self, runner: Any, checkpoint: dict[str, Any]) -> None:
        """Put an open window and what the next step needs beside the weights, as tensors and plain data.

        While steps are soft, the figure shows what was done until the checkpoint.
        """
        super().before_save_checkpoint(runner, checkpoint)
        state = self._loaded if self._steps is None else self._steps.state_dict()
        if state is not None and self._state.kind == 'dense':
            checkpoint[STATE_KEY] = state
            self._draw()

    def after_load_checkpoint(self, runner: Any, checkpoint: dict[str, Any]) -> None:
        """Remember what is to be gone on with."""
        super().after_load_checkpoint(runner, checkpoint)
        self._loaded = checkpoint.get(STATE_KEY)

    def decide(self, progress: float) -> list[Tensor]:
        """With what protections of the soft steps have found: the masks that are held are chosen by it, too."""
        assert self._steps is not None
        return self._steps.decide(progress)

    @property
    def _protective(self) -> ProtectivePhases:
        assert isinstance(self._phases, ProtectivePhases)
        return self._phases

    def _draw(self) -> None:
        lines = self._log.read() if self._log is not None and self._log.path.exists() else []
        if not lines:
            return
        path = self._log.path.with_suffix('.png')  # type: ignore[union-attr]
        try:
            draw_pruning_ratios(path, lines)
        except Exception as error:  # whatever a backend or a full disk says, no figure is worth the training
            print_log(f'mmsharp: {path} could not be drawn: {error}', 'current', logging.WARNING)

    def _attach(self, runner: Any, data_batch: Any) -> None:
        super()._attach(runner, data_batch)
        self._steps = SoftSteps(
            inner_model(runner.model),
            runner.optim_wrapper,
            self.pruner,
            self.protection,
            self.limit_regrowth,
            self.clear_momentum,
            self.measure_whole,
            lambda step, protected, extra: self._report(runner, step, protected, extra),
        )
        if self.protection is not None and self.protection.gate:
            # Just before it steps, the optimizer has the gradients of the whole batch, the same on all processes.
            runner.optim_wrapper.optimizer.register_step_pre_hook(
                lambda optimizer, *_: self._read_gates(runner, optimizer)
            )
        if self._loaded is not None:
            self._steps.load_state_dict(self._loaded)
            self._loaded = None

    def _read_gates(self, runner: Any, optimizer: torch.optim.Optimizer) -> None:
        if self._steps is None or self._state.kind != 'dense' or self._protective.at(runner.iter) != SOFT:
            return
        with gradients_of_step(optimizer) as steps:
            if steps:
                self._steps.read_gates()

    def _is_soft(self, iteration: int) -> bool:
        return self._state.kind == 'dense' and self._protective.soft_progress(iteration) is not None

    def _prune_softly(self, runner: Any, steps: SoftSteps) -> None:
        progress = self._protective.soft_progress(runner.iter)
        assert progress is not None
        keep = steps.take(runner.iter, progress)
        share = self.pruner.cost.fraction(self.pruner.resource, keep)
        runner.logger.info(
            f'mmsharp: zeroed {sum(int((~mask).sum()) for mask in keep)} channels at iteration {runner.iter}, progress '
            f'{progress:.0%}; without them {share:.1%} of {self.pruner.resource} would be left'
        )

    def _prune(self, runner: Any, progress: float) -> None:
        assert self._steps is not None
        self._steps.end()
        first, sparsity = self._state.kind == 'dense', self._steps.sparsity()
        super()._prune(runner, progress)
        if first:
            keep = self.pruner.masks.keep
            nobody = [torch.zeros_like(mask) for mask in keep]
            self._report(runner, self._steps.decided(runner.iter, 'hard', keep, sparsity), nobody, nobody)
            self._draw()  # pruning is over, and fine-tuning may be killed
        self._steps.forget()

    def _report(
        self, runner: Any, step: Mapping[str, Any], protected: Sequence[Tensor], extra: Sequence[Tensor]
    ) -> None:
        lines = step_lines(step, self.pruner.groups.groups, protected, extra)
        if self._log is not None:
            self._log.write(lines)
        update_scalars(runner.message_hub, lines)
        if step['phase'] == 'soft' and self.protection is not None:
            back, zeroed = (sum(line[name] for line in lines) for name in ('protected', 'zeroed'))
            runner.logger.info(f'mmsharp: {back} of {zeroed} zeroed channels came back at iteration {runner.iter}')
