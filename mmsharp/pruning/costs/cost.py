"""What a model costs as a function of its masks, without building the slim model.

Parameters and multiply-accumulates are sums over tensors of products of axis sizes; a mask changes the sizes. So
``cost(keep) = constant + sum_t coefficient_t * prod_a kept_a``, where the coefficient of a multiply-accumulate term
holds the kernel size and the number of positions it is applied at, measured once on the dense model. Seconds are what a
latency table predicts for these sizes.
"""

from __future__ import annotations

import math
from collections import Counter
from collections.abc import Sequence
from dataclasses import dataclass

import torch
from torch import Tensor, nn

from mmsharp.errors import MmsharpError
from mmsharp.pruning.allocation.budget import RESOURCES
from mmsharp.pruning.costs.axis_sizes import AxisSizes
from mmsharp.pruning.costs.complexity import count_macs, count_parameters, plain_attention
from mmsharp.pruning.forwards import Forward, looked_at
from mmsharp.pruning.groups import GroupSet
from mmsharp.pruning.latency.table import LatencyTable
from mmsharp.pruning.layers import layer_tensors, prunable_layers
from mmsharp.pruning.tracing import ChannelTrace


@dataclass(frozen=True)
class _Term:
    """``coefficient * product of the axes' kept sizes``."""

    coefficient: int
    axes: tuple[tuple[str, str], ...]


class CostModel:
    """Parameters, multiply-accumulates, group channels and predicted seconds for any masks of a model.

    Equals ``count_parameters`` and ``count_macs`` of the model slimmed by these masks, exactly.

    Args:
        model: The dense model; left bitwise as it was.
        forward: One forward that says at how many positions each layer is applied.
        groups: The groups of the model.
        latency: Predicts the seconds; without it there is no resource ``latency``.

    Raises:
        MmsharpError: The latency table was measured for another model, or not for all of its layers.

    Example:
        >>> import torch
        >>> from mmsharp.pruning import find_groups, tensor_forward
        >>> model = nn.Sequential(nn.Linear(2, 4, bias=False), nn.Linear(4, 1, bias=False))
        >>> forward = tensor_forward(torch.zeros(1, 2))
        >>> cost = CostModel(model, forward, find_groups(model, forward))
        >>> cost.measure('params', [torch.tensor([True, True, False, False])]), cost.dense['params']
        (6, 12)
    """

    def __init__(
        self, model: nn.Module, forward: Forward, groups: GroupSet, latency: LatencyTable | None = None
    ) -> None:
        if latency is not None:
            latency.check_fits(model, forward)
        self._latency = latency
        self._sizes = AxisSizes(model, groups)
        self._terms = {'params': _parameter_terms(model, self._sizes.names)}
        self._terms['macs'] = self._mac_terms(_products(model, forward, groups))
        everything = [group.channels for group in groups.groups]
        self.dense: dict[str, float] = {
            'params': count_parameters(model),
            'macs': count_macs(model, forward),
            'channels': sum(everything),
        }
        """The dense model's own cost per resource; ``latency`` in seconds."""
        sizes = self._sizes.dense()
        self._constants = {name: self.dense[name] - _total(terms, sizes) for name, terms in self._terms.items()}
        if latency is not None:
            self.dense['latency'] = latency.seconds(sizes)

    def _mac_terms(self, products: list[tuple[int, list[_Width]]]) -> list[_Term]:
        """Products as terms, whose dimensions join the axes under names of their own."""
        names: dict[_Width, tuple[str, str]] = {}
        coefficients: Counter[tuple[tuple[str, str], ...]] = Counter()
        for coefficient, widths in products:
            for width in widths:
                if width not in names:
                    names[width] = name = ('', f'product dimension {len(names)}')
                    self._sizes.add(name, width[0], [(number, torch.tensor(channels)) for number, channels in width[1]])
            coefficients[tuple(sorted(names[width] for width in widths))] += coefficient
        return [_Term(coefficient, axes) for axes, coefficient in coefficients.items()]

    def measure(self, resource: str, keep: Sequence[Tensor]) -> float:
        """Absolute cost with these masks (bool of shape ``(channels,)`` per group); ``latency`` in seconds."""
        if resource == 'channels':
            return sum(int(mask.sum()) for mask in keep)
        sizes = self._sizes(keep)
        if resource == 'latency' and self._latency is not None:
            return self._latency.seconds(sizes)
        return self._constants[resource] + _total(self._terms[resource], sizes)

    def fraction(self, resource: str, keep: Sequence[Tensor]) -> float:
        """Kept fraction of the dense model's cost.

        Raises:
            MmsharpError: The dense model has none of this resource.
        """
        if resource not in RESOURCES:
            raise MmsharpError(f'cost: resource {resource!r} is unknown; accepted: {", ".join(RESOURCES)}')
        if resource not in self.dense:
            raise MmsharpError(f'cost: {resource} needs a latency table, and none was given')
        if not self.dense[resource]:
            raise MmsharpError(f'cost: the dense model has no {resource} to take a fraction of')
        return self.measure(resource, keep) / self.dense[resource]


def _total(terms: Sequence[_Term], sizes: dict[tuple[str, str], int]) -> int:
    return sum(term.coefficient * math.prod(sizes[axis] for axis in term.axes) for term in terms)


_Width = tuple[int, tuple[tuple[int, tuple[int, ...]], ...]]
"""How wide a dimension of a product is: what never goes, and per group the channel of each other position."""


def _parameter_terms(model: nn.Module, grouped: set[tuple[str, str]]) -> list[_Term]:
    """One term per parameter that has an axis in a group; parameters that layers share count once."""
    axes_of: dict[Tensor, dict[int, tuple[str, str]]] = {}
    for path, (module, kind) in prunable_layers(model).items():
        for name, axis in kind.axes.items():
            if (path, name) not in grouped:
                continue
            for tensor, dim in layer_tensors(module, axis).values():
                if isinstance(tensor, nn.Parameter):
                    axes_of.setdefault(tensor, {}).setdefault(dim, (path, name))
    return [
        _Term(
            math.prod(size for dim, size in enumerate(tensor.shape) if dim not in axes),
            tuple(axes[dim] for dim in sorted(axes)),
        )
        for tensor, axes in axes_of.items()
    ]


def _products(model: nn.Module, forward: Forward, groups: GroupSet) -> list[tuple[int, list[_Width]]]:
    """Every product of the forward that is counted: a coefficient and the dimensions that channels leave."""
    with looked_at(model), plain_attention():
        trace = ChannelTrace(model)
        trace.run(model, forward, losses=False)
    roots = trace.labels.roots()
    owner: dict[int, tuple[int, int]] = {}
    for number, group in enumerate(groups.groups):
        for member in group.members:
            labels = roots[trace.layer_axes[member.module, member.axis][member.positions.numpy()]]
            owner.update((root, (number, channel)) for root, channel in zip(labels.tolist(), member.channels.tolist()))
    found = []
    for coefficient, dimensions in trace.products:
        widths = []
        for labels in dimensions:
            owners = [owner.get(root) for root in roots[labels].tolist()]
            by_group: dict[int, list[int]] = {}
            for place in owners:
                if place is not None:
                    by_group.setdefault(place[0], []).append(place[1])
            if by_group:
                parts = tuple((number, tuple(channels)) for number, channels in by_group.items())
                widths.append((owners.count(None), parts))
            else:
                coefficient *= len(labels)
        if widths:
            found.append((coefficient, widths))
    return found
