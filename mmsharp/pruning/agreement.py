"""Does a slim copy agree with the masked model? The question that every set of groups has to answer before use.

Labels say which channels belong together, but not how the code between the layers writes their number down: a reshape
to a constant, a split by a number that some block stores. So the groups are tried: a copy of the model is masked, a
copy of that is slimmed, and both run on the traced input. Where they differ, bisection finds the groups to blame.
"""

from __future__ import annotations

import copy
import re
from collections.abc import Sequence
from contextlib import nullcontext

import torch
from torch import Tensor, nn

from mmsharp.errors import MmsharpError
from mmsharp.pruning.decisions import Decisions
from mmsharp.pruning.forwards import Forward, looked_at, output_tensors
from mmsharp.pruning.groups import ChannelGroup, GroupSet
from mmsharp.pruning.masks import ChannelMasks
from mmsharp.pruning.precision import float64_throughout, full_float32
from mmsharp.pruning.slimming import apply_recipe

TOLERANCES = {torch.float64: 1e-8, torch.float32: 1e-3}
"""Of an output's scale, by the precision that the model runs in. Rounding of float64 gives about 1e-12. What is wrong
by little is wrong all the same: attention that divides by the root of a width that has shrunk, with small weights."""


def disagreements(model: nn.Module, found: GroupSet, forward: Forward) -> dict[str, str]:
    """Groups without some of whose channels a slim copy fails, or gives other outputs than the masked model.

    Parameters that are constant, as after initialisation (a scale of zero hides whatever it multiplies), are replaced
    by random numbers in the copies.

    Args:
        model: Left bitwise as it is.
        found: Its groups.
        forward: Runs it; it has to give the same outputs for the same random numbers.

    Returns:
        Name of each such group to the reason; a set without these groups agrees.

    Raises:
        MmsharpError: Two copies of the model itself disagree.

    Example:
        >>> from mmsharp.pruning import find_groups, tensor_forward
        >>> model = nn.Sequential(nn.Conv2d(1, 4, 1), nn.Flatten(), nn.Linear(4, 1))
        >>> forward = tensor_forward(torch.zeros(1, 1, 1, 1))
        >>> disagreements(model, find_groups(model, forward), forward)
        {}
    """
    trial = _Trial(model, found, forward)
    remaining, wrong = list(range(len(found.groups))), dict[str, str]()
    while (failure := _first_failure(trial, remaining)) is not None:
        failing_set, parity = failure
        if (reason := trial.fails([])) is not None:
            raise MmsharpError(
                f'finding channel groups: two copies of {type(model).__name__} disagree on the same input ({reason}); '
                'give a forward that always computes the same'
            )
        passing, failing = 0, len(failing_set)
        while failing - passing > 1:
            middle = (passing + failing) // 2
            passing, failing = (
                (passing, middle) if trial.fails(failing_set[:middle], parity) is not None else (middle, failing)
            )
        culprit = failing_set[failing - 1]
        reason = f'a slim copy {trial.fails(failing_set[:failing], parity)}'
        kin = _kin(found.groups[culprit])
        wrong.update((group.name, reason) for group in found.groups if _kin(group) == kin)
        remaining = [number for number in remaining if found.groups[number].name not in wrong]
    return wrong


def _first_failure(trial: _Trial, numbers: list[int]) -> tuple[list[int], int] | None:
    """The first trial that fails: of all groups, of every second, of the others.

    Code may need two groups to shrink together, or an even number of channels.
    """
    trials = [(numbers, 1), (numbers[::2], 0), (numbers[1::2], 1)]
    return next((each for each in trials if each[0] and trial.fails(*each) is not None), None)


def _kin(group: ChannelGroup) -> tuple[tuple[str, str], ...]:
    """What groups at the same place of repeated blocks have in common: they are taken to fail alike."""
    return tuple(sorted({(re.sub(r'\d+', '#', member.module), member.axis) for member in group.members}))


class _Trial:
    """A copy of a model with some of the channels of chosen groups gone, masked and slim."""

    def __init__(self, model: nn.Module, found: GroupSet, forward: Forward) -> None:
        self.found, self.forward = found, forward
        self.generator = torch.Generator().manual_seed(0)
        self.model = copy.deepcopy(model)
        self._vary_()
        self.dtype = self._precision()
        self.keep = [[self._part(group.channels, parity) for group in found.groups] for parity in (0, 1)]

    def _part(self, channels: int, parity: int) -> Tensor:
        """A third to two thirds of the channels, at random, an odd or an even number where there are enough."""
        low, high = -(-channels // 3), max(channels * 2 // 3, 1)
        counts = [count for count in range(min(low, high), high + 1) if count % 2 == parity] or [high]
        count = counts[int(torch.randint(len(counts), (), generator=self.generator))]
        return torch.randperm(channels, generator=self.generator) < count

    def _precision(self) -> torch.dtype:
        """Float64 where the model runs in it; it is turned to it then."""
        double = copy.deepcopy(self.model).double()
        try:
            with float64_throughout(), looked_at(double):
                self.forward(double)
        except (RuntimeError, TypeError):  # operators and devices without float64
            return torch.float32
        self.model = double
        return torch.float64

    @torch.no_grad()
    def _vary_(self) -> None:
        for tensor in (*self.model.parameters(), *self.model.buffers()):
            if tensor.numel() < 2 or not tensor.is_floating_point() or (tensor != tensor.flatten()[0]).any():
                continue
            noise = torch.randn(tensor.shape, generator=self.generator).to(tensor)
            if tensor.dim() > 1:
                tensor += noise / (tensor.numel() / len(tensor)) ** 0.5
            else:
                tensor += 0.1 * noise.clamp(-3, 3)

    def fails(self, chosen: Sequence[int], parity: int = 1) -> str | None:
        """What goes wrong when the chosen groups keep odd (even) numbers of channels; ``None`` if nothing does."""
        part = set(chosen)
        keep = [mask if number in part else torch.ones_like(mask) for number, mask in enumerate(self.keep[parity])]
        masks = ChannelMasks(self.found, keep)
        masked = copy.deepcopy(self.model)
        masks.apply_(masked)
        decisions = Decisions()
        with decisions.recorded():
            expected = self._outputs(masked)
        try:
            apply_recipe(masked, masks.recipe(masked))
            with decisions.taken():
                outputs = self._outputs(masked)
        except Exception as error:  # whatever the model's own code raises for a width that it does not expect
            return f'fails with {type(error).__name__}: {" ".join(str(error).split())[:200]}'
        return _difference(expected, outputs, TOLERANCES[self.dtype])

    def _outputs(self, model: nn.Module) -> list[Tensor]:
        wide = float64_throughout() if self.dtype == torch.float64 else nullcontext()
        with looked_at(model), full_float32(), wide:
            return [tensor for tensor in output_tensors(self.forward(model)) if tensor.is_floating_point()]


def _difference(expected: list[Tensor], outputs: list[Tensor], tolerance: float) -> str | None:
    if [tensor.shape for tensor in expected] != [tensor.shape for tensor in outputs]:
        return 'gives outputs of other shapes'
    for first, second in zip(expected, outputs):
        finite = first.isfinite()
        if (finite != second.isfinite()).any():
            return 'gives finite numbers where the masked model does not, or the other way round'
        if not finite.any():
            continue
        scale = float(first[finite].abs().max())
        largest = float((first[finite] - second[finite]).abs().max())
        if largest > tolerance * scale:
            return f'differs from the masked model by {largest / max(scale, 1e-30):.1g} of the output'
    return None
