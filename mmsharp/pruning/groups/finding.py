"""Find the groups of a model: trace one forward, put labels together, and try the result."""

from __future__ import annotations

from collections.abc import Sequence
from fnmatch import fnmatchcase

from torch import nn

from mmsharp.errors import MmsharpError
from mmsharp.pruning.forwards import Forward, looked_at
from mmsharp.pruning.forwards.few_proposals import few_proposals
from mmsharp.pruning.forwards.model_copies import model_copy
from mmsharp.pruning.groups import GroupSet
from mmsharp.pruning.groups.agreement import disagreements
from mmsharp.pruning.groups.channel_groups import assemble
from mmsharp.pruning.layers import prunable_layers
from mmsharp.pruning.tracing import ChannelTrace


def find_groups(model: nn.Module, forward: Forward, ignore: Sequence[str] = (), every_kind: bool = False) -> GroupSet:
    """Find the coupled channel groups of a model by following one forward pass.

    Whole stay, and are listed: channels that reach the model's outputs (classes, box coding), channels whose statistics
    are taken together (layer and group normalisation, softmax, sums without a stored weight), channels taken by number,
    whatever an operation without a rule reads, and groups without some of whose channels a slim copy fails or gives
    other outputs than the masked model (:mod:`~mmsharp.pruning.groups.agreement`).

    Args:
        model: Any module; it is bitwise as before afterwards, also after an error.
        forward: Runs it, from :func:`~mmsharp.pruning.tensor_forward`. Layers it does not reach stay dense.
        ignore: Patterns (``fnmatch``) of module paths whose output channels stay whole, with all modules inside.
        every_kind: Look for branches on the content of images also in models of nothing but the toolboxes' own code,
            which has none that couples channels otherwise as far as is known; takes up to twice as long. Models that
            read no numbers out of their images cannot branch on them, and are left out in any case.

    Raises:
        MmsharpError: A pattern matches no layer, the forward fails, the model cannot be copied
            (:func:`~mmsharp.pruning.forwards.model_copies.model_copy`), or what it computes depends on the content of
            its input.

    Example:
        >>> import torch
        >>> from torch import nn
        >>> from mmsharp.pruning import tensor_forward
        >>> model = nn.Sequential(nn.Conv2d(3, 8, 3), nn.BatchNorm2d(8), nn.Flatten(), nn.Linear(8, 2))
        >>> found = find_groups(model, tensor_forward(torch.zeros(1, 3, 3, 3)))
        >>> [(group.name, group.channels, [m.module for m in group.members]) for group in found.groups]
        [('0', 8, ['0', '1', '3'])]
        >>> found.dense
        (DenseLayer(module='3', reason="reaches the model's outputs"),)
    """
    traced = model_copy(model)  # losses may leave marks of their own, such as a history of overlaps
    with looked_at(traced), few_proposals(traced):
        trace = ChannelTrace(traced)
        for path, reason in _ignored(model, ignore).items():
            for axis in ('out', 'heads'):
                trace.labels.pin(trace.layer_axes.get((path, axis)), reason)
        try:
            trace.run(traced, forward)
        except MmsharpError:
            raise
        except Exception as error:
            raise MmsharpError(
                f'finding channel groups: the forward of {type(model).__name__} failed with {type(error).__name__}: '
                f'{error}; give inputs that the model takes in evaluation mode'
            ) from error
    found = assemble(model, trace.labels, trace.layer_axes)
    wrong = disagreements(model, found, forward, every_kind)
    for group in found.groups:
        if group.name in wrong:
            first = group.members[0]
            trace.labels.pin(trace.layer_axes[first.module, first.axis][first.positions.numpy()], wrong[group.name])
    return assemble(model, trace.labels, trace.layer_axes) if wrong else found


def _ignored(model: nn.Module, patterns: Sequence[str]) -> dict[str, str]:
    """Path of each ignored layer to the reason."""
    if isinstance(patterns, str):
        raise MmsharpError(f'ignore={patterns!r}: expected a sequence of patterns, such as ({patterns!r},)')
    found: dict[str, str] = {}
    layers = list(prunable_layers(model))
    for pattern in patterns:
        matched = [path for path in layers if any(fnmatchcase(part, pattern) for part in _ancestors(path))]
        if not matched:
            raise MmsharpError(
                f'ignore pattern {pattern!r} matches no layer of {type(model).__name__}; paths look like '
                f'{", ".join(repr(path) for path in layers[:3])}'
            )
        found.update((path, f'ignored by the pattern {pattern!r}') for path in matched)
    return found


def _ancestors(path: str) -> list[str]:
    parts = path.split('.')
    return ['.'.join(parts[:length]) for length in range(1, len(parts) + 1)]
