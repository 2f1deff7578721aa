"""Prune while training, then go on with the small network."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from dataclasses import asdict
from typing import Any, ClassVar

import torch
from mmengine.hooks import Hook
from mmengine.runner import EpochBasedTrainLoop
from torch import nn

from mmsharp.engine.checkpoints.safe_checkpoint import check_config_checkpoints
from mmsharp.engine.distributed.first_process_decides import first_process_decides
from mmsharp.engine.model_access.inner_model import inner_model
from mmsharp.engine.optim_wrappers.gradients_of_step import gradients_of_step
from mmsharp.engine.pruning.example_forward import example_forward
from mmsharp.engine.pruning.held_models import held_models, shadows, take_new_shapes
from mmsharp.engine.pruning.phases import FINE_TUNING, Phases, phases_from_lengths, validate_length
from mmsharp.engine.pruning.pruning_state import PruningState
from mmsharp.errors import MmsharpError
from mmsharp.pruning import ChannelGroup, DenseLayer, Recipe, apply_recipe
from mmsharp.pruning.slimming.removal import check_optimizer
from mmsharp.pruning.slimming.slim_difference import MASKED_EQUALS_SLIM
from mmsharp.registry import HOOKS, PRUNERS, build_part

CRITERION_KEY = 'mmsharp_criterion'
"""Where a checkpoint keeps what the criterion has seen since the last pruning step."""
ANEW_KEY = 'mmsharp_criterion_begins_anew'
"""Whether that is from before the last pruning step, and the next gradients replace it."""
ASKED_KEY = 'mmsharp_asked'
"""Where a checkpoint keeps the budget and the phases that the run was asked for, and which phase it was in."""


@HOOKS.register_module()
class PruningHook(Hook):
    """Masks coupled channels on a schedule, holds the masks, and makes the network small where pruning ends.

    ``default_hooks = dict(pruning=dict(type='mmsharp.PruningHook', budget=dict(params=0.4)))`` in any config. Training
    has three phases: a warm-up in which nothing is pruned; a pruning phase in which every ``interval`` iterations
    more channels are masked, following the pruner's schedule; and fine-tuning, on a network from which the masked
    channels have really been removed. Optimizer state, EMA shadow and distributed wrapper shrink with it.

    Args:
        budget: What remains of the dense model: ``dict(params=0.4)``, ``dict(macs=0.5)``, ``dict(channels=0.5)``, or
            ``dict(latency=0.5)`` with a pruner that has a ``latency_table``.
        pruner: ``dict(type='mmsharp.ChannelPruner', criterion=..., allocation=..., schedule=...)``; by default
            L2 magnitude, global allocation, FORCE schedule.
        warmup: Length of the warm-up: a float in [0, 1) is a share of all iterations, an int counts epochs
            (iterations in iteration loops).
        pruning: Length of the pruning phase, likewise; 0 prunes in one shot.
        interval: Iterations between two pruning steps.
        slim: Whether to remove the channels when pruning ends; otherwise they stay masked to the end, and
            ``tools/slim.py`` removes them, where that changes nothing.

    Checkpoints carry the phase and a recipe (what is masked, or what has been removed) as plain data under the key
    ``mmsharp``; resuming from any of them restores masks or the small shapes before the weights are copied.

    In a distributed run every process prunes what the first one decides, from the shape of its first batch.

    Raises:
        MmsharpError: At construction for a bad argument; at the first iteration where the model has no prunable group
            or cannot reach the budget.
    """

    masks_until_fine_tuning: ClassVar[bool] = True
    """Whether channels stay masked until fine-tuning begins, and are not removed at the end of the phase before."""
    priority = 'ABOVE_NORMAL'
    """Before EMAHook and CheckpointHook: both have to see masked weights."""

    def __init__(
        self,
        budget: Mapping[str, float],
        pruner: Mapping[str, Any] | None = None,
        warmup: float = 0.1,
        pruning: float = 0.3,
        interval: int = 30,
        slim: bool = True,
    ) -> None:
        if isinstance(interval, bool) or not isinstance(interval, int) or interval < 1:
            raise MmsharpError(f'interval={interval!r} is not a whole number of iterations, at least 1')
        if not isinstance(slim, bool):
            raise MmsharpError(f'slim={slim!r} is neither True nor False')
        pruner = dict(type='mmsharp.ChannelPruner') if pruner is None else pruner
        if isinstance(pruner, Mapping) and 'budget' in pruner:
            raise MmsharpError('give the budget to the hook or to its pruner, not to both; the hook is the place')
        self.pruner = build_part(PRUNERS, pruner, budget=budget)
        self.warmup = validate_length('warmup', warmup)
        self.pruning = validate_length('pruning', pruning)
        self.interval = interval
        self.slim = slim
        self._phases: Phases | None = None
        self._phase: str | None = None
        self._state = PruningState()
        self._forward: Callable[[nn.Module], Any] | None = None
        self._progress = 0.0
        self._asked_before: Mapping[str, Any] = {}
        self._was_fine_tuning = False
        self._optimizer_fits = False

    def before_run(self, runner: Any) -> None:
        """Refuse unsafe checkpoints before MMEngine's loader sees them."""
        check_config_checkpoints(runner._load_from, runner._resume, runner.work_dir)

    def before_train(self, runner: Any) -> None:
        """Lay the phases over the run.

        Raises:
            MmsharpError: The phases are longer than the run, there is more than one optimizer, or the weights that
                training starts from are slim already.
        """
        if not hasattr(runner.optim_wrapper, 'optimizer'):
            raise MmsharpError(
                f'{type(self).__name__} prunes models with one optimizer, but optim_wrapper is a '
                f'{type(runner.optim_wrapper).__name__}; use OptimWrapper, AmpOptimWrapper or one of mmsharp'
            )
        if sum(isinstance(hook, PruningHook) for hook in runner.hooks) > 1:
            raise MmsharpError('the config has more than one pruning hook; keep one in default_hooks and custom_hooks')
        if self._state.kind == 'slim' and not runner._resume:
            raise MmsharpError(
                f'load_from={runner._load_from!r} is slim already, and {type(self).__name__} prunes dense models; '
                'start from a dense one, or fine-tune this one with the config that tools/slim.py writes beside it'
            )
        epoch = len(runner.train_loop.dataloader) if isinstance(runner.train_loop, EpochBasedTrainLoop) else 1
        self._phases = self.lay_phases(runner, runner.train_loop.max_iters, epoch)
        if self._state.kind == 'slim':
            self._tell_groups(runner, ())
        elif self.slim and self.masks_until_fine_tuning and self._phases.pruning_end >= runner.train_loop.max_iters:
            runner.logger.warning(
                f'mmsharp: pruning lasts to the end of the training ({runner.train_loop.max_iters} iterations); '
                'nothing is fine-tuned, and channels are masked but not removed; shorten `warmup` or `pruning`, or '
                'train longer. tools/slim.py removes masked channels'
            )
        asked = self._asked()
        changed = [
            f'{name} {before} instead of {asked.get(name)}'
            for name, before in self._asked_before.items()
            if before != asked.get(name)
        ]
        if changed:
            runner.logger.warning(
                f'mmsharp: the run that is resumed was begun with {", ".join(changed)}; what it has pruned stays '
                'pruned, and what remains follows the config of now'
            )

    def lay_phases(self, runner: Any, max_iters: int, iters_per_unit: int) -> Phases:
        """The phases in iterations; subclasses may have others.

        Args:
            runner: With its loop and optimizer wrapper built.
            max_iters: All iterations of the run.
            iters_per_unit: Iterations of an epoch for epoch loops, 1 for iteration loops.
        """
        return phases_from_lengths(self.warmup, self.pruning, self.interval, max_iters, iters_per_unit)

    def before_train_iter(self, runner: Any, batch_idx: int, data_batch: Any = None) -> None:
        """Enter phases, take due pruning steps, and slim when pruning ends."""
        assert self._phases is not None
        if self._forward is None and self._state.kind != 'slim':
            self._attach(runner, data_batch)
        self._check_optimizer(runner)
        # A resumed run may be longer than it was, and its phases would begin again.
        over = self._was_fine_tuning or self._state.kind == 'slim'
        phase = FINE_TUNING if over else self._phases.at(runner.iter)
        if phase != self._phase:
            self._phase = phase
            self.enter_phase(runner, phase)
        progress = None if over else self._phases.progress(runner.iter)
        if phase == FINE_TUNING and not self._finished():
            progress = 1.0
        if progress is not None and self._state.kind != 'slim':
            self._prune(runner, progress)
        if phase == FINE_TUNING and self.slim and self._state.kind != 'slim':
            self._slim(runner)

    def decide(self, progress: float) -> list[torch.Tensor]:
        """Which channels are kept, one mask per group; subclasses may see more than the criterion does."""
        return list(self.pruner.decide(progress))

    def enter_phase(self, runner: Any, phase: str) -> None:
        """Called when a phase begins, and once after resuming; subclasses extend it."""
        runner.logger.info(f'mmsharp: {phase} from iteration {runner.iter}')

    def after_train_iter(
        self, runner: Any, batch_idx: int, data_batch: Any = None, outputs: dict[str, Any] | None = None
    ) -> None:
        """Hold the masks through momentum, weight decay and statistics."""
        if self._state.kind == 'masked':
            self.pruner.apply_()

    def before_save_checkpoint(self, runner: Any, checkpoint: dict[str, Any]) -> None:
        """Put the state of pruning beside the weights, as plain data."""
        if self._state.kind == 'masked':
            self._state = self._state.with_recipe(self.pruner.recipe())
        state = self._state.to_dict()
        checkpoint[PruningState.KEY] = state
        # Tools that publish checkpoints keep the weights and `meta` alone.
        checkpoint['meta'] = {**checkpoint.get('meta', {}), PruningState.KEY: state}
        checkpoint[ASKED_KEY] = dict(self._asked(), phase=self._phase)
        if self.pruner.observes and not self._finished():
            checkpoint[CRITERION_KEY] = self.pruner.criterion.state_dict()
            checkpoint[ANEW_KEY] = self.pruner.begins_anew

    def after_load_checkpoint(self, runner: Any, checkpoint: dict[str, Any]) -> None:
        """Give the model the shapes of the checkpoint before its weights are copied."""
        loaded = PruningState.from_checkpoint(checkpoint)
        if loaded.kind == 'slim' and loaded.recipe is not None:
            cut = [model for model in held_models(runner) if not loaded.fits(model, checkpoint['state_dict'])]
            if not cut and not runner._resume:
                return  # weights of a slim network for a config that describes it: it may be pruned further
            for model in cut:
                apply_recipe(model, loaded.recipe)
            take_new_shapes(runner)
            self._state = loaded
        elif runner._resume:
            self._state = loaded
        if runner._resume:
            asked = checkpoint.get(ASKED_KEY)
            self._asked_before = dict(asked) if isinstance(asked, Mapping) else {}
            phase = self._asked_before.pop('phase', FINE_TUNING if loaded.kind == 'slim' else None)
            self._was_fine_tuning = phase == FINE_TUNING
        if runner._resume and self.pruner.observes and CRITERION_KEY in checkpoint:
            try:
                self.pruner.criterion.load_state_dict(checkpoint[CRITERION_KEY])
            except MmsharpError as error:
                raise MmsharpError(f'the checkpoint entry {CRITERION_KEY!r}: {error}') from None
            if checkpoint.get(ANEW_KEY) is True:
                self.pruner.begin_anew()

    def _check_optimizer(self, runner: Any) -> None:
        """Refuse an optimizer that cannot follow as soon as it has a state, not where channels are removed."""
        optimizer = runner.optim_wrapper.optimizer
        if self._optimizer_fits or not self.slim or self._state.kind == 'slim' or not optimizer.state:
            return
        modules = dict(inner_model(runner.model).named_modules())
        members = {member.module for group in self.pruner.groups.groups for member in group.members}
        check_optimizer(optimizer, [p for name in members for p in modules[name].parameters(recurse=False)])
        self._optimizer_fits = True

    def _asked(self) -> dict[str, Any]:
        """The budget and the phases, as plain data, for who resumes with others."""
        phases = asdict(self._phases) if self._phases is not None else {}
        return dict(budget={self.pruner.resource: self.pruner.target}, **phases)

    def _attach(self, runner: Any, data_batch: Any) -> None:
        model = inner_model(runner.model)
        shape, forward = example_forward(model, data_batch, self._state.input_shape)
        self._state = self._state.with_input_shape(shape)
        self.pruner.attach(model, forward)
        self._forward = forward
        groups = self.pruner.groups
        self._tell_groups(runner, groups.groups)
        channels = sum(group.channels for group in groups.groups)
        runner.logger.info(
            f'mmsharp: {channels} channels in {len(groups.groups)} coupled groups can be pruned; '
            f'{len({layer.module for layer in groups.dense})} layers stay dense'
        )
        for reason, paths in by_reason(groups.dense).items():
            runner.logger.info(f'mmsharp: dense, because {reason}: {", ".join(paths)}')
        if self._state.kind == 'masked' and self._state.recipe is not None:
            self.pruner.load_recipe(self._state.recipe)
            self._spread_masks(runner)
        if self.pruner.observes:
            # Just before it steps, the optimizer has the gradients accumulated, clipped and averaged.
            runner.optim_wrapper.optimizer.register_step_pre_hook(lambda optimizer, *_: self._observe(optimizer))

    @staticmethod
    def _tell_groups(runner: Any, groups: Sequence[ChannelGroup]) -> None:
        if hasattr(runner.optim_wrapper, 'set_groups'):
            runner.optim_wrapper.set_groups(groups)

    def _observe(self, optimizer: torch.optim.Optimizer) -> None:
        if self._finished():
            return
        with gradients_of_step(optimizer) as steps:
            if steps:
                self.pruner.observe()

    def _prune(self, runner: Any, progress: float) -> None:
        self.pruner.adopt(first_process_decides(self.decide(progress)))
        self._progress = progress
        self._state = self._state.masked()
        self._spread_masks(runner)
        kept = self.pruner.kept
        for name, share in kept.items():
            runner.message_hub.update_scalar(f'train/pruning/{name}_kept', share)
        shares = ', '.join(f'{share:.1%} of {name}' for name, share in kept.items())
        runner.logger.info(f'mmsharp: pruned at iteration {runner.iter}, progress {progress:.0%}; kept {shares}')

    def _finished(self) -> bool:
        return self._state.kind == 'slim' or self._progress >= 1.0

    def _spread_masks(self, runner: Any) -> None:
        for model in held_models(runner):
            self.pruner.apply_(model)
        if hasattr(runner.optim_wrapper, 'set_masks'):
            runner.optim_wrapper.set_masks(self.pruner.parameter_masks())

    def _slim(self, runner: Any) -> None:
        model = inner_model(runner.model)
        recipe: Recipe = self.pruner.recipe()
        # Statistics of BatchNorm are each rank's own.
        difference = first_process_decides(self.pruner.verify(self._forward))
        if not difference <= MASKED_EQUALS_SLIM:
            raise MmsharpError(
                f'removing the masked channels changes the output of {type(model).__name__} by {difference:.2g} '
                'relative to its scale, more than rounding: some channels are coupled in a way that was not found. The '
                'model is as it was; name the layers concerned in `pruner=dict(ignore=[...])`. With slim=False '
                'training ends with a masked model, which tools/slim.py refuses for the same reason'
            )
        apply_recipe(model, recipe, runner.optim_wrapper.optimizer)
        for shadow in shadows(runner):
            apply_recipe(shadow, recipe)
        take_new_shapes(runner)
        self._state = self._state.slimmed(recipe)
        runner.logger.info(
            f'mmsharp: removed the masked channels at iteration {runner.iter}; masked and slim outputs differ by '
            f'{difference:.1e}; {sum(p.numel() for p in model.parameters()):,} parameters remain'
        )


def by_reason(dense: Sequence[DenseLayer]) -> dict[str, list[str]]:
    """The paths of layers by why they stay as they are.

    Example:
        >>> by_reason([DenseLayer('stem', 'frozen'), DenseLayer('', 'frozen')])
        {'frozen': ['stem', 'the model itself']}
    """
    found: dict[str, list[str]] = {}
    for layer in dense:
        found.setdefault(layer.reason, []).append(layer.module or 'the model itself')
    return found
