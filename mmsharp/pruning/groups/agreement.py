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

import re
from collections.abc import Callable, Sequence

from torch import nn

from mmsharp.errors import MmsharpError
from mmsharp.pruning.forwards import Forward
from mmsharp.pruning.groups import ChannelGroup, GroupSet
from mmsharp.pruning.groups.group_trial import Trial, failure_of, places_of

Probe = Callable[[Sequence[int], int], str | None]
"""``probe(chosen groups, parity)``: what goes wrong when these keep odd (even) numbers of channels, if anything."""


def disagreements(model: nn.Module, found: GroupSet, forward: Forward, every_kind: bool = False) -> dict[str, str]:
    """Groups without some of whose channels a slim copy fails, or gives other outputs than the masked model.

    Parameters that are constant, as after initialisation (a scale of zero hides whatever it multiplies), are replaced
    by random numbers in the copies, single ones (a gate that is closed) by numbers that are not near zero. Lines of
    code that read Python numbers out of the images are named in the log.

    Args:
        model: Left bitwise as it is.
        found: Its groups.
        forward: Runs it; it has to give the same outputs for the same random numbers.
        every_kind: Try images unlike each other also where none but the toolboxes' code reads numbers.

    Returns:
        Name of each such group to the reason; a set without these groups agrees.

    Raises:
        MmsharpError: Two copies of the model itself disagree, or a slim copy fails or differs on other inputs only.

    Example:
        >>> import torch
        >>> from mmsharp.pruning import find_groups, tensor_forward
        >>> model = nn.Sequential(nn.Conv2d(1, 4, 1), nn.Flatten(), nn.Linear(4, 1))
        >>> forward = tensor_forward(torch.zeros(1, 1, 1, 1))
        >>> disagreements(model, find_groups(model, forward), forward)
        {}
    """
    trial = Trial(model, found, forward, every_kind)
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


def _try_contrasting_images(trial: Trial, numbers: list[int]) -> None:
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
            reason = failure_of(error)
        if reason is not None and other.runs():
            raise _depends_on_content(trial, f'one of the kind {kind!r}', reason)


def _depends_on_content(trial: Trial, where: str, reason: str) -> MmsharpError:
    lines = f' (it reads numbers at {places_of(trial.numbers_read)})' if trial.numbers_read else ''
    return MmsharpError(
        f'finding channel groups: what {type(trial.single).__name__} computes depends on the content of its input: '
        f'a slim copy is right on the given one, and on {where} it {reason}. Name the layers concerned in '
        f'ignore=[...], or do without the branch in its code{lines}'
    )


def _first_failure(trial: Trial, numbers: list[int]) -> tuple[Probe, list[int], int, str] | None:
    """The first trial that fails, and how: of all groups, of every second, of the others.

    Code may need two groups to shrink together, or an even number of channels.

    Raises:
        MmsharpError: One fails on another input only.
    """
    low, high = trial.elsewhere
    trials: list[tuple[Trial, str, list[int], int]] = [
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
