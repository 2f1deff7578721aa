"""Does a slim copy agree with the masked model? The question that every set of groups has to answer before use.

Labels say which channels belong together, but not how the code between the layers writes their number down: a reshape
to a constant, a split by a number that some block stores. So the groups are tried: a slim copy runs on the traced
input, and its outputs are compared with those of a masked copy. Where it fails or they differ, bisection finds the
groups to blame.

What is handed back as right has been shown to be: all groups at once in float64, where the model runs in it, and every
second of them, and the others, in float32, where float64 decides what is not obvious. The latter and all at once run on
other inputs too: a model whose structure depends on the content of its input would agree on one and fail on the next.
It is refused, as no trial can say what it does on a third. Python code can branch only on numbers that it reads: where
lines are seen to read some out of the images, they are named, and images unlike each other are tried as well, unless
all of these lines are the toolboxes' own.

Losses have to run in the slim copy if they do in the masked one; their values are random in part, and not compared.
The order is that of the cost: a slim copy that fails shows it in part of a forward in float32, so most groups that are
wrong are found by such.
"""

from __future__ import annotations

import copy
import logging
import re
from collections.abc import Callable, Iterator, Sequence
from contextlib import nullcontext
from typing import Any

import torch
from mmengine.logging import print_log
from torch import Tensor, nn

from mmsharp.errors import MmsharpError, one_line
from mmsharp.pruning.copies import double_copy, slim_copy
from mmsharp.pruning.decisions import Decisions
from mmsharp.pruning.few_proposals import few_proposals
from mmsharp.pruning.forwards import Forward, TensorForward, looked_at, output_tensors, run_losses
from mmsharp.pruning.groups import ChannelGroup, GroupSet
from mmsharp.pruning.masks import ChannelMasks
from mmsharp.pruning.model_copies import model_copy
from mmsharp.pruning.numbers_read import Reading
from mmsharp.pruning.precision import float64_throughout, full_float32
from mmsharp.pruning.slimming import apply_recipe

TOLERANCES = {torch.float64: 1e-8, torch.float32: 1e-3}
"""Of an output's scale, by the precision that the model runs in. Rounding of float64 gives about 1e-12. What is wrong
by little is wrong all the same: attention that divides by the root of a width that has shrunk, with small weights."""

OBVIOUS = 1e-4
"""What agrees as well as this in float32 is not tried in float64, as long as all groups at once are."""

Probe = Callable[[Sequence[int], int], str | None]
"""``probe(chosen groups, parity)``: what goes wrong when these keep odd (even) numbers of channels, if anything."""


def disagreements(model: nn.Module, found: GroupSet, forward: Forward) -> dict[str, str]:
    """Groups without some of whose channels a slim copy fails, or gives other outputs than the masked model.

    Parameters that are constant, as after initialisation (a scale of zero hides whatever it multiplies), are replaced
    by random numbers in the copies, single ones (a gate that is closed) by numbers that are not near zero. Lines of
    code that read Python numbers out of the images are named in the log.

    Args:
        model: Left bitwise as it is.
        found: Its groups.
        forward: Runs it; it has to give the same outputs for the same random numbers.

    Returns:
        Name of each such group to the reason; a set without these groups agrees.

    Raises:
        MmsharpError: Two copies of the model itself disagree, or a slim copy fails or differs on other inputs only.

    Example:
        >>> from mmsharp.pruning import find_groups, tensor_forward
        >>> model = nn.Sequential(nn.Conv2d(1, 4, 1), nn.Flatten(), nn.Linear(4, 1))
        >>> forward = tensor_forward(torch.zeros(1, 1, 1, 1))
        >>> disagreements(model, find_groups(model, forward), forward)
        {}
    """
    trial = _Trial(model, found, forward)
    trial.look_for_numbers()
    remaining, wrong = list(range(len(found.groups))), dict[str, str]()
    while (failure := _first_failure(trial, remaining)) is not None:
        probe, failing_set, parity, reason = failure
        if probe != trial.crashes and (difference := trial.differs([], 1)) is not None:
            raise MmsharpError(
                f'finding channel groups: two copies of {type(model).__name__} disagree on the same input '
                f'({difference}); give a forward that always computes the same'
            )
        kin, reason = _culprits(found, probe, failing_set, parity, reason)
        wrong.update((group.name, f'a slim copy {reason}') for group in found.groups if _kin(group) == kin)
        remaining = [number for number in remaining if found.groups[number].name not in wrong]
    if trial.may_branch:
        _try_contrasting_images(trial, remaining)
    return wrong


def _try_contrasting_images(trial: _Trial, numbers: list[int]) -> None:
    """Groups that are right on the given input have to be so on images unlike it and each other.

    Raises:
        MmsharpError: On one of them a slim copy fails or differs.
    """
    if not numbers:
        return
    trial.keep_copies(numbers, 1)
    for kind, other in trial.contrasting():
        try:
            reason = other.obviously_differs(numbers, 1)
        except Exception as error:  # the masked model's own code, which may not take such an input
            reason = _failure(error)
        if reason is not None and other.runs():
            raise _depends_on_content(trial, f'one of the kind {kind!r}', reason)


def _depends_on_content(trial: _Trial, where: str, reason: str) -> MmsharpError:
    lines = f' (it reads numbers at {_places(trial.numbers_read)})' if trial.numbers_read else ''
    return MmsharpError(
        f'finding channel groups: what {type(trial.single).__name__} computes depends on the content of its input: '
        f'a slim copy is right on the given one, and on {where} it {reason}. Name the layers concerned in '
        f'ignore=[...], or do without the branch in its code{lines}'
    )


def _places(readings: list[Reading]) -> str:
    return ', '.join(reading.place for reading in readings)


def _first_failure(trial: _Trial, numbers: list[int]) -> tuple[Probe, list[int], int, str] | None:
    """The first trial that fails, and how: of all groups, of every second, of the others.

    Code may need two groups to shrink together, or an even number of channels.

    Raises:
        MmsharpError: One fails on another input only.
    """
    low, high = trial.elsewhere
    trials: list[tuple[_Trial, str, list[int], int]] = [
        (high, 'crashes', numbers, 1),
        (low, 'crashes', numbers[::2], 0),
        (low, 'crashes', numbers[1::2], 1),
        (low, 'obviously_differs', numbers[::2], 0),
        (low, 'obviously_differs', numbers[1::2], 1),
        (high, 'obviously_differs', numbers if high is not trial else [], 1),
        (trial, 'differs', numbers, 1),
        (trial, 'fails_to_train', numbers, 1),
    ]
    for tried, name, chosen, parity in trials:
        if not chosen or (reason := getattr(tried, name)(chosen, parity)) is None:
            continue
        if tried is trial:
            return getattr(trial, name), chosen, parity, reason
        asked: list[tuple[Probe, list[int], int]] = [
            (getattr(trial, name), chosen, parity),
            (trial.differs, chosen, parity),
            (trial.differs, numbers, 1),
        ]
        for probe, again, which in asked:
            if (here := probe(again, which)) is not None:
                return probe, again, which, here
        if getattr(tried, name)([], 1) is None:
            raise _depends_on_content(trial, 'another one', reason)
        trial.elsewhere = trial, trial  # the model itself does not take such an input
        return _first_failure(trial, numbers)
    return None


Kin = tuple[tuple[str, str], ...]


def _culprits(found: GroupSet, probe: Probe, failing_set: list[int], parity: int, reason: str) -> tuple[Kin, str]:
    """The kind of groups, the last of the fewest kinds in the model's order that fail together, and how they fail."""
    classes: dict[Kin, list[int]] = {}
    for number in failing_set:
        classes.setdefault(_kin(found.groups[number]), []).append(number)
    kinds = list(classes)
    passing, failing = 0, len(kinds)
    while failing - passing > 1:
        middle = (passing + failing) // 2
        chosen = sorted(number for kind in kinds[:middle] for number in classes[kind])
        if (how := probe(chosen, parity)) is not None:
            failing, reason = middle, how
        else:
            passing = middle
    return kinds[failing - 1], reason


def _kin(group: ChannelGroup) -> Kin:
    """What groups at the same place of repeated blocks have in common: they are taken to fail alike."""
    return tuple(sorted({(re.sub(r'\d+', '#', member.module), member.axis) for member in group.members}))


class _Trial:
    """Copies of a model with some of the channels of chosen groups gone, masked and slim."""

    def __init__(self, model: nn.Module, found: GroupSet, forward: Forward) -> None:
        self.found, self.forward = found, forward
        self.generator = torch.Generator().manual_seed(0)
        self.single = model_copy(model)
        self._vary_()
        self.has_double = True
        self.numbers_read: list[Reading] | None = []  # None where it is not known
        self.keep = [[self._part(group.channels, parity) for group in found.groups] for parity in (0, 1)]
        self._slim: dict[tuple[tuple[int, ...], int], tuple[list[Tensor], Decisions]] = {}
        self._kept: dict[tuple[tuple[int, ...], int], tuple[nn.Module, nn.Module]] = {}
        others = forward.elsewhere() if isinstance(forward, TensorForward) else None
        self.elsewhere: tuple[_Trial, _Trial] = (
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

    def _on(self, forward: Forward) -> _Trial:
        """Trials of the same copies on another input."""
        other = copy.copy(self)
        other.forward, other._slim = forward, {}
        return other

    def keep_copies(self, chosen: Sequence[int], parity: int) -> None:
        """From now on, use the same masked and slim copy for every trial of these groups in the model's precision."""
        self._kept[tuple(chosen), parity] = self._masked_copy(chosen, parity), self._slim_copy(chosen, parity)

    def contrasting(self) -> Iterator[tuple[str, _Trial]]:
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
            found = f'{name} reads numbers out of its images at {_places(self.numbers_read)}'
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
        """Whether code that is not known may treat other images in another way."""
        return self.numbers_read is None or not all(reading.by_toolboxes for reading in self.numbers_read)

    def crashes(self, chosen: Sequence[int], parity: int) -> str | None:
        """How a slim copy fails that runs in the model's own precision; ``None`` if it runs."""
        decisions = Decisions()
        try:
            slim = self._slim_copy(chosen, parity)
            with decisions.recorded():
                outputs = self._outputs(slim, double=False)
        except Exception as error:  # whatever the model's own code raises for a width that it does not expect
            return _failure(error)
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
            return _failure(error)
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


def _opened(gate: Tensor) -> Tensor:
    """Of the same sign and about the same size, but neither near zero nor exactly one."""
    return torch.where(gate.abs() < 0.1, torch.where(gate < 0, -0.5, 0.5), gate * 1.1)


def _failure(error: Exception) -> str:
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
