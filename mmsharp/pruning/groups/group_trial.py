"""A model with some channels of chosen groups gone, masked and slim, on one input: do both compute the same?"""

from __future__ import annotations

import copy
import logging
from collections.abc import Iterator, Sequence
from contextlib import nullcontext
from typing import Any

import torch
from mmengine.logging import print_log
from torch import Tensor, nn

from mmsharp.errors import one_line
from mmsharp.pruning.forwards import Forward, TensorForward, looked_at, output_tensors, run_losses
from mmsharp.pruning.forwards.decisions import Decisions
from mmsharp.pruning.forwards.few_proposals import few_proposals
from mmsharp.pruning.forwards.model_copies import model_copy
from mmsharp.pruning.forwards.numbers_read import LIBRARIES, Reading
from mmsharp.pruning.forwards.precision import float64_throughout, full_float32
from mmsharp.pruning.groups import GroupSet
from mmsharp.pruning.groups.masks import ChannelMasks
from mmsharp.pruning.slimming import apply_recipe
from mmsharp.pruning.slimming.copies import double_copy, slim_copy

TOLERANCES = {torch.float64: 1e-8, torch.float32: 1e-3}
"""Of an output's scale, by the precision that the model runs in. Rounding of float64 gives about 1e-12. What is wrong
by little is wrong all the same: attention that divides by the root of a width that has shrunk, with small weights."""

OBVIOUS = 1e-4
"""What agrees as well as this in float32 is not tried in float64, as long as all groups at once are."""


class Trial:
    """Copies of a model with some of the channels of chosen groups gone, masked and slim."""

    def __init__(self, model: nn.Module, found: GroupSet, forward: Forward, every_kind: bool = False) -> None:
        self.found, self.forward, self.every_kind = found, forward, every_kind
        self.generator = torch.Generator().manual_seed(0)
        self.single = model_copy(model)
        self._vary_()
        self.has_double = True
        self.numbers_read: list[Reading] | None = []  # None where it is not known
        self.keep = [[self._part(group.channels, parity) for group in found.groups] for parity in (0, 1)]
        self._slim: dict[tuple[tuple[int, ...], int], tuple[list[Tensor], Decisions]] = {}
        self._kept: dict[tuple[tuple[int, ...], int], tuple[nn.Module, nn.Module]] = {}
        others = forward.elsewhere() if isinstance(forward, TensorForward) else None
        self.elsewhere: tuple[Trial, Trial] = (
            (self, self) if others is None else (self._on(others[0]), self._on(others[1]))
        )

    def _part(self, channels: int, parity: int) -> Tensor:
        """A third to two thirds of the channels, at random, an odd or an even number where there are enough."""
        low, high = -(-channels // 3), max(channels * 2 // 3, 1)
        counts = [count for count in range(min(low, high), high + 1) if count % 2 == parity] or [high]
        count = counts[int(torch.randint(len(counts), (), generator=self.generator))]
        return torch.randperm(channels, generator=self.generator) < count

    @torch.no_grad()
    def _vary_(self) -> None:
        """Replace constant parameters and buffers by random numbers; single parameters that are small by larger ones.

        A single number may close a gate. Single buffers are left: they count, or hold temperatures and the like.
        """
        for tensor in (*self.single.parameters(), *self.single.buffers()):
            if not tensor.numel() or not tensor.is_floating_point() or (tensor != tensor.flatten()[0]).any():
                continue
            noise = torch.randn(tensor.shape, generator=self.generator).to(tensor)
            if tensor.numel() == 1:
                if isinstance(tensor, nn.Parameter):
                    tensor.copy_(_opened(tensor))
            elif tensor.dim() > 1:
                tensor += noise / (tensor.numel() / len(tensor)) ** 0.5
            else:
                tensor += 0.1 * noise.clamp(-3, 3)

    def _on(self, forward: Forward) -> Trial:
        """Trials of the same copies on another input."""
        other = copy.copy(self)
        other.forward, other._slim = forward, {}
        return other

    def keep_copies(self, chosen: Sequence[int], parity: int) -> None:
        """From now on, use the same masked and slim copy for every trial of these groups in the model's precision."""
        self._kept[tuple(chosen), parity] = self._masked_copy(chosen, parity), self._slim_copy(chosen, parity)

    def contrasting(self) -> Iterator[tuple[str, Trial]]:
        """Trials on images unlike each other."""
        for kind, forward in self.forward.contrasting() if isinstance(self.forward, TensorForward) else ():
            yield kind, self._on(forward)

    def runs(self) -> bool:
        """Whether the model itself takes the input, and computes the same on it twice."""
        try:
            return self.differs([], 1) is None
        except Exception:  # whatever the model's own code raises for an input that it does not expect
            return False

    def look_for_numbers(self) -> None:
        """Find the lines that read Python numbers out of the images, and log what is found."""
        if not isinstance(self.forward, TensorForward):
            return
        name = type(self.single).__name__
        try:
            with looked_at(self.single), few_proposals(self.single):
                self.numbers_read = self.forward.numbers_read(self.single)
        except Exception as error:  # an operation that cannot be followed, such as one on a sparse tensor
            self.numbers_read = None
            found = f'which numbers {name} reads out of its images is not known ({one_line(error)})'
        else:
            found = f'{name} reads numbers out of its images at {places_of(self.numbers_read)}'
        if self.may_branch:
            print_log(
                f'finding channel groups: {found}. Such code may treat other images in another way: images unlike each '
                'other are tried; see that there is no further way which couples channels otherwise',
                'current',
                logging.WARNING,
            )
        elif self.numbers_read:
            print_log(f'finding channel groups: {found}, in code of the toolboxes alone', 'current', logging.INFO)

    @property
    def may_branch(self) -> bool:
        """Whether code other than the toolboxes' may treat other images in another way.

        Where numbers are read at all, a module of another's is enough: what is computed past torch's dispatcher is lost
        sight of, and with it who reads it.
        """
        if not self.numbers_read:
            return self.numbers_read is None
        return self.every_kind or not (
            all(reading.by_toolboxes for reading in self.numbers_read)
            and all(_is_known(module) for module in self.single.modules())
        )

    def crashes(self, chosen: Sequence[int], parity: int) -> str | None:
        """How a slim copy fails that runs in the model's own precision; ``None`` if it runs."""
        decisions = Decisions()
        try:
            slim = self._slim_copy(chosen, parity)
            with decisions.recorded():
                outputs = self._outputs(slim, double=False)
        except Exception as error:  # whatever the model's own code raises for a width that it does not expect
            return failure_of(error)
        self._slim[tuple(chosen), parity] = outputs, decisions
        return None

    def obviously_differs(self, chosen: Sequence[int], parity: int) -> str | None:
        """What :meth:`differs` says, which is not asked if outputs are nearly the same in the model's own precision."""
        if (tuple(chosen), parity) not in self._slim and (reason := self.crashes(chosen, parity)) is not None:
            return reason
        outputs, decisions = self._slim.pop((tuple(chosen), parity))
        masked = self._masked_copy(chosen, parity)
        with decisions.taken():
            expected = self._outputs(masked, double=False)
        if (
            _difference(expected, outputs, OBVIOUS) is None
            and max(decisions.differences.values(), default=0) <= OBVIOUS
        ):
            return None
        return self.differs(chosen, parity)

    def differs(self, chosen: Sequence[int], parity: int) -> str | None:
        """What goes wrong in float64, or in float32 where the model has no other; ``None`` if nothing does."""
        masks, decisions = self._masks(chosen, parity), Decisions()
        trial = double_copy(self.single) if self.has_double else model_copy(self.single)
        masks.apply_(trial)
        try:
            with decisions.recorded():
                expected = self._outputs(trial, double=self.has_double)
        except (RuntimeError, TypeError):  # operators and devices without float64
            if not self.has_double:
                raise
            self.has_double = False
            return self.differs(chosen, parity)
        try:
            apply_recipe(trial, masks.recipe(trial))
            with decisions.taken():
                outputs = self._outputs(trial, double=self.has_double)
        except Exception as error:
            return failure_of(error)
        return _difference(
            expected, outputs, TOLERANCES[torch.float64 if self.has_double else torch.float32]
        ) or _other_grounds(decisions)

    def fails_to_train(self, chosen: Sequence[int], parity: int) -> str | None:
        """How the losses of a slim copy fail where those of the masked model run; ``None`` if they do not."""
        slim = model_copy(self.single)  # losses may leave marks in parameters too, as momentum encoders do
        apply_recipe(slim, self._masks(chosen, parity).recipe(slim))
        if (reason := self._losses(slim)) is None:
            return None
        return f'fails in its losses: {reason}' if self._losses(self._masked_copy(chosen, parity)) is None else None

    def _losses(self, model: nn.Module) -> str | None:
        with looked_at(model), few_proposals(model), full_float32():
            return run_losses(self.forward, model)

    def _masked_copy(self, chosen: Sequence[int], parity: int) -> nn.Module:
        if (kept := self._kept.get((tuple(chosen), parity))) is not None:
            return kept[0]
        masked = model_copy(self.single)
        self._masks(chosen, parity).apply_(masked)
        return masked

    def _slim_copy(self, chosen: Sequence[int], parity: int) -> nn.Module:
        if (kept := self._kept.get((tuple(chosen), parity))) is not None:
            return kept[1]
        return slim_copy(self.single, self._masks(chosen, parity).recipe(self.single))

    def _masks(self, chosen: Sequence[int], parity: int) -> ChannelMasks:
        part = set(chosen)
        keep = [mask if number in part else torch.ones_like(mask) for number, mask in enumerate(self.keep[parity])]
        return ChannelMasks(self.found, keep)

    def _outputs(self, model: nn.Module, double: bool) -> list[Tensor]:
        wide: Any = float64_throughout() if double else nullcontext()
        with looked_at(model), few_proposals(model), full_float32(), wide:
            return [tensor for tensor in output_tensors(self.forward(model)) if tensor.is_floating_point()]


def _is_known(module: nn.Module) -> bool:
    """Whether a module is a library's; a graph that was traced is somebody's code in a class of torch's."""
    known = type(module).__module__.split('.')[0] in LIBRARIES
    return known and not isinstance(module, (torch.fx.GraphModule, torch.jit.ScriptModule))


def places_of(readings: list[Reading]) -> str:
    """Where numbers are read, for a message: in code other than the toolboxes' first."""
    return ', '.join(reading.place for reading in sorted(readings, key=lambda reading: reading.by_toolboxes))


def _opened(gate: Tensor) -> Tensor:
    """Of the same sign and about the same size, but neither near zero nor exactly one."""
    return torch.where(gate.abs() < 0.1, torch.where(gate < 0, -0.5, 0.5), gate * 1.1)


def failure_of(error: Exception) -> str:
    """How a model fails, for a message."""
    return f'fails with {type(error).__name__}: {" ".join(str(error).split())[:200]}'


def _other_grounds(decisions: Decisions) -> str | None:
    for dtype, largest in decisions.differences.items():
        if largest > TOLERANCES.get(dtype, TOLERANCES[torch.float32]):
            return f'decides on numbers that differ from those of the masked model by {largest:.1g} of their scale'
    return None


def _difference(expected: list[Tensor], outputs: list[Tensor], tolerance: float) -> str | None:
    if [tensor.shape for tensor in expected] != [tensor.shape for tensor in outputs]:
        return 'gives outputs of other shapes'
    for first, second in zip(expected, outputs):
        finite = first.isfinite()
        if (finite != second.isfinite()).any():
            return 'gives finite numbers where the masked model does not, or the other way round'
        if not finite.any():
            continue
        if not finite.all():
            first, second = first[finite], second[finite]
        scale = float(first.abs().max())
        largest = float((first - second).abs().max())
        if largest > tolerance * scale:
            return f'differs from the masked model by {largest / max(scale, 1e-30):.1g} of the output'
    return None
