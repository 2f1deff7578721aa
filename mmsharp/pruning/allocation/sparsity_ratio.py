r"""Layers decide their own pruning ratio from the sparsity of their weights: PSAP's self-adaptive part, as we read it.

Li and Zhao (2023), "Protective Self-Adaptive Pruning to Better Compress DNNs", arXiv 2303.11881. The abstract states
that the "weight sparsity ratio" sets each layer's pruning ratio before each pruning step; formula, threshold and rule
could not be read. What stands here is our reading: ``alpha``, ``max_ratio``, the proportional rule, and the threshold
of the global variant are ours.
"""

from __future__ import annotations

import math
from collections.abc import Sequence

import torch
from torch import Tensor, nn

from mmsharp.errors import MmsharpError
from mmsharp.pruning.allocation.budget import Fraction, Limits, meet_budget
from mmsharp.pruning.criteria.makers import makers
from mmsharp.pruning.groups import ChannelGroup
from mmsharp.registry import ALLOCATIONS

SCOPES = ('layer', 'global')


@torch.no_grad()
def sparsity_ratios(
    model: nn.Module, groups: Sequence[ChannelGroup], keep: Sequence[Tensor], alpha: float = 0.25
) -> list[float]:
    """``S_l``: the share of a group's weights that are small beside the others of their layer.

    ``S_l = #{w : |w| < alpha * mean |w| of its layer} / #{w}`` over the filters of all layers that make the group's
    living channels; zeros always count. So scaling a layer changes nothing, which batch normalisation would undo.

    Args:
        model: Holds the weights.
        groups: Its groups.
        keep: Bool of shape ``(channels,)`` per group; the others' weights are left out.
        alpha: Threshold relative to the mean magnitude.

    Returns:
        One number in [0, 1] per group; 0 for a group that no layer's weights make.

    Example:
        >>> from mmsharp.pruning import find_groups, tensor_forward
        >>> model = nn.Sequential(nn.Linear(2, 2), nn.Linear(2, 1))
        >>> _ = model[0].weight.data.copy_(torch.tensor([[4.0, -4.0], [0.0, 0.1]]))
        >>> groups = find_groups(model, tensor_forward(torch.zeros(1, 2))).groups
        >>> sparsity_ratios(model, groups, [torch.tensor([True, True])])
        [0.5]
    """
    small = [torch.zeros(()) for _ in groups]
    total = [0] * len(groups)
    for number, (group, alive) in enumerate(zip(groups, keep)):
        for member, filters in makers(model, group):
            magnitude = filters[member.positions[alive[member.channels]].to(filters.device)].abs()
            if magnitude.numel():
                below = (magnitude < alpha * magnitude.mean()) | (magnitude == 0)
                small[number] = small[number].to(filters.device) + below.sum()
                total[number] += magnitude.numel()
    counts = torch.stack([count.double().cpu() for count in small]).tolist() if small else []
    return [count / max(size, 1) for count, size in zip(counts, total)]


@ALLOCATIONS.register_module()
class SparsityRatio:
    """``P_l = clip(mu * S_l, 0, max_ratio)``: sparser layers lose a larger share; ``mu`` is what meets the budget.

    ``scope='layer'``: ``S_l`` is that of :func:`sparsity_ratios`, and each group loses ``floor(P_l * channels)`` of
    them, those of the lowest score. Where all ``S_l`` are equal, this is :class:`Uniform`; just after random
    initialisation they nearly are. ``scope='global'``: ``S_l`` is the share of the group's weights below one threshold
    for the whole model, and ``P_l = S_l``; the threshold takes the place of ``mu``. With layers of equally many weights
    per filter and a budget of channels, it is the quantile of all magnitudes at the share to be pruned.

    Both are found by going down one order of all channels, so that the budget is met with no filter more than needed
    (a rounding step of the limits, if that is larger). Beyond ``max_ratio``, and from groups without small weights,
    channels go only when the budget cannot be met otherwise; then in equal shares.

    Our reading of PSAP, whose formulas could not be read; see the module.

    Args:
        alpha: Threshold relative to the layer's mean magnitude, positive; of no effect in ``'global'``.
        scope: ``'layer'`` or ``'global'``.
        max_ratio: Largest share that a group loses, in (0, 1].

    Attributes:
        sparsity: ``S_l`` per group, of the last allocation; in ``'global'`` to the resolution of one channel.

    Raises:
        MmsharpError: An argument is not as described; when called, a target that cannot be reached, or weights that
            :meth:`prepare` has not been shown.

    Example:
        >>> from mmsharp.pruning import find_groups, tensor_forward
        >>> model = nn.Sequential(nn.Linear(2, 4), nn.Linear(4, 4), nn.Linear(4, 1))
        >>> _ = nn.init.ones_(model[0].weight), nn.init.ones_(model[1].weight)
        >>> _ = model[0].weight.data[0].zero_(), model[1].weight.data[0, 0].zero_()
        >>> groups = find_groups(model, tensor_forward(torch.zeros(1, 2))).groups
        >>> alive = [torch.ones(4, dtype=torch.bool), torch.ones(4, dtype=torch.bool)]
        >>> allocation = SparsityRatio()
        >>> allocation.prepare(model, groups, alive)
        >>> count = lambda masks: sum(int(mask.sum()) for mask in masks) / 8
        >>> masks = allocation([torch.arange(4.0), torch.arange(4.0)], alive, 0.5, count, Limits())
        >>> allocation.sparsity, [int(mask.sum()) for mask in masks]
        ((0.25, 0.0625), [1, 3])
    """

    def __init__(self, alpha: float = 0.25, scope: str = 'layer', max_ratio: float = 0.9) -> None:
        if isinstance(alpha, bool) or not isinstance(alpha, (int, float)) or not 0 < alpha < math.inf:
            raise MmsharpError(f'SparsityRatio: alpha is {alpha!r}, expected a positive number')
        if scope not in SCOPES:
            raise MmsharpError(f'SparsityRatio: scope is {scope!r}; accepted: {", ".join(SCOPES)}')
        if isinstance(max_ratio, bool) or not isinstance(max_ratio, (int, float)) or not 0 < max_ratio <= 1:
            raise MmsharpError(f'SparsityRatio: max_ratio is {max_ratio!r}, expected a share in (0, 1]')
        self.alpha = float(alpha)
        self.scope = scope
        self.max_ratio = float(max_ratio)
        self.sparsity: tuple[float, ...] = ()
        self._turns: list[Tensor] | None = None

    def prepare(self, model: nn.Module, groups: Sequence[ChannelGroup], keep: Sequence[Tensor]) -> None:
        """Look at the weights; the pruner calls this before each allocation.

        Args:
            model: The model to prune.
            groups: Its groups, in the order of the scores to come.
            keep: Bool of shape ``(channels,)`` per group, the channels still alive.
        """
        if self.scope == 'global':
            self._turns = [_thresholds(model, group) for group in groups]
        else:
            self.sparsity = tuple(sparsity_ratios(model, groups, keep, self.alpha))
            self._turns = [_shares(group.channels) / (ratio or math.nan) for group, ratio in zip(groups, self.sparsity)]

    def __call__(
        self, scores: Sequence[Tensor], keep: Sequence[Tensor], target: float, fraction: Fraction, limits: Limits
    ) -> list[Tensor]:
        """New masks, a subset of ``keep``; see :func:`~mmsharp.pruning.allocation.meet_budget`."""
        turns, self._turns = self._turns, None
        if turns is None or [len(turn) for turn in turns] != [len(mask) for mask in keep]:
            raise MmsharpError(
                'SparsityRatio has not been shown the weights of these groups; call prepare(model, groups, keep) '
                'before each allocation, as ChannelPruner does'
            )
        last = max((float(turn.nan_to_num(0.0).max()) for turn in turns), default=0.0)
        priorities = []
        for turn, score, mask in zip(turns, scores, keep):
            shares = _shares(len(mask))
            held_back = (shares > self.max_ratio + 1e-9) | turn.isnan()
            order = torch.where(mask, score, torch.full_like(score, -math.inf)).sort(stable=True).indices
            priority = torch.empty_like(shares)
            priority[order] = torch.where(held_back, last + shares, turn)
            priorities.append(priority)
        masks = meet_budget(priorities, keep, target, fraction, limits)
        if self.scope == 'global':
            gone = torch.cat([p[old & ~new] for p, old, new in zip(priorities, keep, masks)])
            threshold = min(float(gone.max()), last) if len(gone) else -math.inf
            self.sparsity = tuple(float((turn <= threshold).double().mean()) for turn in turns)
        return masks


def _shares(channels: int) -> Tensor:
    """``(rank + 1) / channels``: the share that is gone when the channel of this rank is the next to go."""
    return torch.arange(1, channels + 1, dtype=torch.float64) / channels


@torch.no_grad()
def _thresholds(model: nn.Module, group: ChannelGroup) -> Tensor:
    """Per rank the threshold below which lies that share of the group's weights; NaN where it has none."""
    parts = [
        filters[member.positions.to(filters.device)].abs().flatten().cpu() for member, filters in makers(model, group)
    ]
    magnitudes = torch.cat(parts).sort().values.double() if parts else torch.empty(0, dtype=torch.float64)
    if not len(magnitudes):
        return torch.full((group.channels,), math.nan, dtype=torch.float64)
    ranks = torch.arange(1, group.channels + 1) * len(magnitudes)
    return magnitudes[(ranks + group.channels - 1) // group.channels - 1]
