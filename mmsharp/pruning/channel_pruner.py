"""The pruner: criterion, allocation, schedule and masks in one object that a training loop drives."""

from __future__ import annotations

import copy
import logging
import os
from collections import Counter
from collections.abc import Callable, Mapping, Sequence
from contextlib import AbstractContextManager, nullcontext
from dataclasses import replace
from typing import Any

import torch
from mmengine.logging import print_log
from torch import Tensor, nn

from mmsharp.errors import MmsharpError, shown
from mmsharp.pruning.allocation import Limits, floor_masks, parse_budget
from mmsharp.pruning.allocation.budget import reachable
from mmsharp.pruning.costs.cost import CostModel
from mmsharp.pruning.forwards import Forward
from mmsharp.pruning.groups import ChannelGroup, GroupSet
from mmsharp.pruning.groups.finding import find_groups
from mmsharp.pruning.groups.masks import ChannelMasks
from mmsharp.pruning.latency import LatencyTable
from mmsharp.pruning.schedules.checks import is_number
from mmsharp.pruning.slimming.recipe import Recipe
from mmsharp.pruning.slimming.slim_difference import slim_difference
from mmsharp.registry import ALLOCATIONS, CRITERIA, PRUNERS, SCHEDULES, build_part

NAMED = 12
"""Groups left whole that a message names for each reason."""


@PRUNERS.register_module()
class ChannelPruner:
    """Structured pruning of any module to a budget, in steps.

    Args:
        budget: Kept fraction of the dense model's ``params``, ``macs``, ``channels`` or ``latency``:
            ``dict(params=0.4)``.
        criterion: ``(model, group) -> scores``, an object or its config. One that may have no score of a group, as
            :class:`~mmsharp.pruning.Taylor` of a frozen one, has a method ``unscored(model, group)``, which gives the
            reason or ``None``: such a group is left whole, which the log names, and the others meet the budget.
        allocation: Spreads the budget over groups, an object or its config. One that needs more than scores has a
            method ``prepare(model, groups, keep)``, which is called before each allocation. Each group keeps at least
            ``limits.allowed_in(group, 0, alive)`` channels.
        schedule: ``(progress, target) -> kept fraction``, an object or its config.
        min_channels: Each group keeps at least this many channels.
        min_share: Each group keeps at least this share of its channels, in [0, 1].
        round_to: Each group keeps a multiple of this in the layers that make it (a head of 64 channels is a multiple of
            8 by itself), or all it has. The default of 8 is what vector units and tensor cores like; it costs budget
            resolution in narrow layers, where 1 may be the better choice.
        ignore: Patterns of module paths whose output channels stay whole.
        latency_table: A :class:`~mmsharp.pruning.latency.LatencyTable` or the path of its file, measured for this model
            by ``tools/analysis_tools/latency_table.py``; what a budget of latency is predicted by. A file is read when
            the pruner is attached to a model, so that a slim checkpoint is tested or resumed without it.

    Raises:
        MmsharpError: An argument is not as described.

    Example:
        >>> from mmsharp.pruning import tensor_forward
        >>> model = nn.Sequential(nn.Linear(2, 64), nn.ReLU(), nn.Linear(64, 1))
        >>> pruner = ChannelPruner(budget=dict(params=0.5))
        >>> pruner.attach(model, tensor_forward(torch.zeros(1, 2)))
        >>> _ = pruner.update(progress=1.0)
        >>> pruner.kept['channels'], pruner.recipe().modules['0'].axes['out'].size
        (0.375, 64)
    """

    def __init__(
        self,
        budget: Mapping[str, float],
        criterion: Any = None,
        allocation: Any = None,
        schedule: Any = None,
        min_channels: int = 1,
        min_share: float = 0.0,
        round_to: int = 8,
        ignore: Sequence[str] = (),
        latency_table: LatencyTable | str | os.PathLike[str] | None = None,
    ) -> None:
        self.resource, self.target = parse_budget(budget)
        if self.resource == 'latency' and latency_table is None:
            raise MmsharpError(
                'ChannelPruner: a budget of latency needs latency_table=..., the file that '
                'tools/analysis_tools/latency_table.py writes for your model on your device'
            )
        if latency_table is not None and not isinstance(latency_table, (LatencyTable, str, os.PathLike)):
            raise MmsharpError(f'ChannelPruner: latency_table is {latency_table!r}, expected the path of a file')
        self.latency_table = latency_table
        self.limits = Limits(min_channels, round_to, min_share=min_share)
        self.criterion = build_part(CRITERIA, {'type': 'mmsharp.Magnitude'} if criterion is None else criterion)
        self.allocation = build_part(ALLOCATIONS, {'type': 'mmsharp.Global'} if allocation is None else allocation)
        self.schedule = build_part(SCHEDULES, {'type': 'mmsharp.FORCE'} if schedule is None else schedule)
        for name in ('criterion', 'allocation', 'schedule'):
            if not callable(getattr(self, name)):
                raise MmsharpError(f'ChannelPruner: {name} is {getattr(self, name)!r}, expected a config or a callable')
        if not isinstance(ignore, Sequence) or isinstance(ignore, str):
            raise MmsharpError(f'ChannelPruner: ignore is {ignore!r}, expected a sequence of patterns')
        if not all(isinstance(pattern, str) for pattern in ignore):
            raise MmsharpError(f'ChannelPruner: ignore is {ignore!r}, expected patterns that are strings')
        self.ignore = tuple(ignore)
        self._model: nn.Module | None = None
        self._masks: ChannelMasks | None = None
        self._cost: CostModel | None = None
        self._last_named: dict[str, str] = {}
        self._begins_anew = False

    def attach(self, model: nn.Module, forward: Forward, groups: GroupSet | None = None) -> None:
        """Find the groups of a dense model and check that the budget can be reached.

        Args:
            model: The dense model.
            forward: Runs it, from :func:`~mmsharp.pruning.tensor_forward`.
            groups: Its groups, where :func:`~mmsharp.pruning.find_groups` has found them already.

        Raises:
            MmsharpError: No group can be pruned (with the reasons), the budget is below the smallest reachable fraction
                (which the message says, with the groups that the criterion has no score of), or the latency table
                cannot be read or does not fit the model.
        """
        table = self.latency_table
        if isinstance(table, (str, os.PathLike)):
            table = self.latency_table = LatencyTable.load(table)
        groups = find_groups(model, forward, self.ignore) if groups is None else groups
        if not groups.groups:
            raise MmsharpError(f'{type(model).__name__} has no prunable channel group: {_reasons(groups)}')
        cost, masks = CostModel(model, forward, groups, table), ChannelMasks(groups)
        widths, sizes = (tuple(getattr(group, name) for group in groups.groups) for name in ('width', 'channels'))
        self.limits = replace(self.limits, widths=widths, sizes=sizes)
        criterion = self.criterion
        if hasattr(criterion, 'unscored') and self.observes:
            # what it has seen, from a checkpoint for example, is of a few steps, and the budget is that of the end
            criterion = copy.deepcopy(criterion)
            criterion.reset()
        self._check_reachable(model, masks, cost, self.target, _unscored(criterion, model, groups.groups))
        self._model, self._cost, self._masks = model, cost, masks

    @property
    def model(self) -> nn.Module:
        """The model attached to."""
        return self._attached(self._model)

    @property
    def masks(self) -> ChannelMasks:
        """The current masks."""
        return self._attached(self._masks)

    @property
    def groups(self) -> GroupSet:
        """The groups of the model."""
        return self.masks.groups

    @property
    def cost(self) -> CostModel:
        """The cost of the model as a function of masks."""
        return self._attached(self._cost)

    @property
    def kept(self) -> dict[str, float]:
        """Kept fraction of parameters, multiply-accumulates, group channels and, with a table, predicted latency."""
        keep = self.masks.keep
        return {name: self.cost.fraction(name, keep) for name, dense in self.cost.dense.items() if dense}

    def update(self, progress: float) -> ChannelMasks:
        """Score, allocate to the scheduled budget, and apply the masks; channels never come back.

        Args:
            progress: Of the pruning phase, 0 to 1.

        Raises:
            MmsharpError: Progress is no number from 0 to 1, scores are no numbers of the right shape, or the budget is
                out of reach, because the criterion has no score of some groups.
        """
        self.adopt(self.decide(progress))
        self.apply_()
        return self.masks

    def adopt(self, keep: Sequence[Tensor]) -> None:
        """Take over keep-masks, from :meth:`decide` here or on another process; the criterion begins anew."""
        self.masks.update(list(keep))
        self.begin_anew()

    def begin_anew(self) -> None:
        """Let the criterion forget what it has seen as soon as it sees more.

        A pruning step before that, as where more batches are accumulated than lie between two steps, goes by the old.
        """
        self._begins_anew = self.observes

    @property
    def begins_anew(self) -> bool:
        """Whether what the criterion has seen is from before the last pruning step."""
        return self._begins_anew

    @property
    def observes(self) -> bool:
        """Whether the criterion wants to see the gradients of each step, through :meth:`observe`."""
        return hasattr(self.criterion, 'observe')

    def observe(self) -> None:
        """Show the criterion the gradients that the optimizer is about to step with."""
        if self._begins_anew:
            self.criterion.reset()
            self._begins_anew = False
        self.criterion.observe(self.model, self.groups.groups)

    def decide(
        self,
        progress: float,
        adjust: Callable[[list[Tensor]], list[Tensor]] | None = None,
        view: Callable[[], AbstractContextManager[object]] = nullcontext,
    ) -> list[Tensor]:
        """The keep-masks that :meth:`update` would take over now, one per group; nothing is changed.

        Args:
            progress: Of the pruning phase, 0 to 1.
            adjust: From the criterion's scores to those that are compared, in the form of :meth:`scores`.
            view: A context in which the allocation looks at the model's weights.

        Raises:
            MmsharpError: As :meth:`update`.
        """
        if not is_number(progress) or not 0 <= progress <= 1:
            raise MmsharpError(f'ChannelPruner: progress is {shown(progress)}, expected a number from 0 to 1')
        target = self.schedule(progress, self.target)
        if not is_number(target):
            raise MmsharpError(
                f'{type(self.schedule).__name__}: the kept fraction at progress {progress} is {shown(target)}, '
                'expected a number'
            )
        keep = self.masks.keep
        if self.cost.fraction(self.resource, keep) <= target:
            return keep
        whole = self.unscored()
        limits = self._check_reachable(self.model, self.masks, self.cost, target, whole)
        scores = self.scores() if adjust is None else adjust(self.scores())
        if hasattr(self.allocation, 'prepare'):
            with view():
                self.allocation.prepare(self.model, self.groups.groups, keep)
        cost, resource = self.cost, self.resource
        chosen = list(self.allocation(scores, keep, target, lambda masks: cost.fraction(resource, masks), limits))
        for number in sorted(limits.whole):
            if not torch.equal(chosen[number], keep[number]):
                raise MmsharpError(
                    f'{type(self.allocation).__name__} prunes group {self.groups.groups[number].name!r}, of which '
                    f'{type(self.criterion).__name__} has no score; an allocation leaves each group at least '
                    'limits.allowed_in(group, 0, alive) channels'
                )
        return chosen

    def unscored(self) -> dict[str, str]:
        """The groups that the criterion has no score of now, by name, each with the reason; they are left whole."""
        return _unscored(self.criterion, self.model, self.groups.groups)

    def scores(self) -> list[Tensor]:
        """The criterion's scores of now, float32 on the CPU, shape ``(channels,)`` per group.

        They are zeros, and say nothing, for the groups of :meth:`unscored`.

        Raises:
            MmsharpError: They are no finite numbers of that shape.
        """
        whole = self.unscored()
        return [
            torch.zeros(group.channels) if group.name in whole else self._scores(group) for group in self.groups.groups
        ]

    def _check_reachable(
        self, model: nn.Module, masks: ChannelMasks, cost: CostModel, target: float, whole: Mapping[str, str]
    ) -> Limits:
        """The limits with the groups that are left whole, which the log names when they change."""
        groups = masks.groups
        limits = replace(
            self.limits, whole=frozenset(n for n, group in enumerate(groups.groups) if group.name in whole)
        )
        smallest = cost.fraction(self.resource, floor_masks(masks.keep, limits))
        if smallest > target:
            criterion = type(self.criterion).__name__
            unscored = (
                f'; {criterion} has no score of {_named(whole)}; ask for at least that, let these train, or choose a '
                'criterion that needs no gradients, such as mmsharp.Magnitude'
            )
            raise MmsharpError(
                f'budget {self.resource}={self.target:.4g} cannot be reached on {type(model).__name__}'
                f'{"" if target == self.target else f" ({target:.4g} is due now)"}: with {limits}, '
                f'{f"{len(whole)} of {len(groups.groups)} groups left whole and " if whole else ""}{len(groups.dense)} '
                f'layers left dense the smallest kept fraction is {reachable(smallest)}; dense: {_reasons(groups)}'
                f'{unscored if whole else ""}'
            )
        if whole != self._last_named:
            self._last_named = dict(whole)
            text = f'has no score of {_named(whole)}; they are left whole' if whole else 'now has a score of each group'
            print_log(f'mmsharp: {type(self.criterion).__name__} {text}', 'current', logging.WARNING)
        return limits

    def _scores(self, group: ChannelGroup) -> Tensor:
        scores = torch.as_tensor(self.criterion(self.model, group)).detach().float().cpu()
        if scores.shape != (group.channels,) or not scores.isfinite().all():
            raise MmsharpError(
                f'{type(self.criterion).__name__}: scores of group {group.name!r} have shape {tuple(scores.shape)} and '
                f'{int((~scores.isfinite()).sum())} values that are not finite, expected {group.channels} numbers'
            )
        return scores

    def apply_(self, model: nn.Module | None = None) -> None:
        """Zero the dead channels of the attached model, or of a copy of it such as an average of its weights."""
        self.masks.apply_(self.model if model is None else model)

    def parameter_masks(self) -> dict[nn.Parameter, Tensor]:
        """A broadcastable 0/1 mask per parameter of the attached model that has dead positions."""
        return self.masks.parameter_masks(self.model)

    def recipe(self) -> Recipe:
        """The recipe that slims the attached model to its living channels."""
        return self.masks.recipe(self.model)

    def load_recipe(self, recipe: Recipe) -> None:
        """Take over the masks of a recipe, to resume in the middle of pruning, and apply them.

        Raises:
            MmsharpError: The recipe does not fit the model's groups.
        """
        self._masks = ChannelMasks.from_recipe(self.groups, recipe)
        self.apply_()

    def verify(self, forward: Forward) -> float:
        """Largest difference between the masked model and a slim copy of it, relative to the output's scale.

        It is that of :func:`~mmsharp.pruning.slimming.slim_difference.slim_difference`. The model is masked first and
        otherwise left as it is.

        Raises:
            MmsharpError: The outputs have no finite numbers or differ in shape.
        """
        self.apply_()
        return slim_difference(self.model, self.recipe(), forward)

    def _attached(self, part: Any) -> Any:
        if part is None:
            raise MmsharpError('ChannelPruner: attach it to a model first')
        return part


def _unscored(criterion: Any, model: nn.Module, groups: Sequence[ChannelGroup]) -> dict[str, str]:
    if not hasattr(criterion, 'unscored'):
        return {}
    reasons = {group.name: criterion.unscored(model, group) for group in groups}
    return {name: reason for name, reason in reasons.items() if reason is not None}


def _named(whole: Mapping[str, str]) -> str:
    """Groups by their reason."""
    by_reason: dict[str, list[str]] = {}
    for name, reason in whole.items():
        by_reason.setdefault(reason, []).append(repr(name))
    parts = []
    for reason, names in by_reason.items():
        shown_names = ', '.join(names[:NAMED] + ['...'] * (len(names) > NAMED))
        parts.append(f'{len(names)} group{"s" if len(names) > 1 else ""} ({shown_names}), because {reason}')
    return '; '.join(parts)


def _reasons(groups: GroupSet) -> str:
    counted = Counter(layer.reason for layer in groups.dense).most_common(5)
    return (
        '; '.join(f'{count} layers: {reason}' for reason, count in counted)
        or 'it has no layers with channels that are known'
    )
