r"""Taylor expansion: how much the loss would change if the channel were gone, to first order.

Molchanov et al. (2019), "Importance Estimation for Neural Network Pruning", arXiv 1906.10771, section 3: squared
products of parameters and gradients. The form on BatchNorm's affine parameters, summed over coupled layers, and
absolute values instead of squares are HALP's (Shen et al. 2022, "Structural Pruning via Latency-Saliency Knapsack").
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from typing import Any

import torch
from torch import Tensor, nn

from mmsharp.errors import MmsharpError, shown
from mmsharp.pruning.criteria.makers import maker_parameters
from mmsharp.pruning.groups import ChannelGroup, Member
from mmsharp.pruning.layers import layer_kind
from mmsharp.registry import CRITERIA

PARTS = ('norm', 'weight')
NOTHING_TO_READ = 'it has neither BatchNorm scales nor filters that Taylor reads'
FROZEN = 'no parameter of it that Taylor reads has a gradient, as in frozen layers'
BATCH_STATISTICS = (
    'its BatchNorm has no gradient and normalises by the statistics of each batch, which undoes the length of the '
    'filters, so that their gradients say nothing either (norm_eval=True would let it use its running statistics)'
)

Part = tuple[Member, int, list[Tensor]]
"""A layer of a group: the member, the dimension of its channels, and the parameters that have it."""


@CRITERIA.register_module()
class Taylor:
    r"""``score_c = mean over steps of L / G * | sum over the layers that make channel c of <theta_c, dL/dtheta_c> |``.

    ``theta_c`` are the scale and shift of the channel in its BatchNorms (``on='norm'``, HALP's; a group none of whose
    BatchNorms has a gradient takes its weights) or the filters that make it (``on='weight'``). The mean runs over the
    optimizer's steps since the last pruning step in which the group had a gradient; steps whose gradients are not
    finite are left out. The gradients are those that the optimizer steps with: accumulated, clipped, averaged over the
    processes, and taken at ``w + eps`` in sharpness-aware training.

    A parameter without a gradient (of a frozen layer, or one that a step has not used) says nothing, which is not the
    same as 0. The sum goes over those ``G`` of the ``L`` layers of the group that have one, and the others count as
    much as these do on average, so that groups compare whatever part of them is frozen. A group of which nothing has a
    gradient has no score, and neither has one whose BatchNorms are frozen in training mode: they normalise by each
    batch, and where the length of a filter does not matter ``<w_c, dL/dw_c>`` is 0. :meth:`unscored` gives the reason,
    and :class:`~mmsharp.pruning.ChannelPruner` leaves such a group whole until it has a score.

    Args:
        on: ``'norm'`` or ``'weight'``. For the same reason, ``'weight'`` is for networks without BatchNorm, or with
            BatchNorms that use their running statistics.

    Raises:
        MmsharpError: ``on`` is unknown; when called, no finite gradient has been seen, or the group has no score.

    Example:
        >>> from mmsharp.pruning import find_groups, tensor_forward
        >>> model = nn.Sequential(nn.Linear(1, 2, bias=False), nn.Linear(2, 1))
        >>> _ = model[0].weight.data.copy_(torch.tensor([[2.0], [-3.0]]))
        >>> groups = find_groups(model, tensor_forward(torch.zeros(1, 1))).groups
        >>> model[0].weight.grad = torch.tensor([[0.5], [1.0]])
        >>> taylor = Taylor(on='weight')
        >>> taylor.observe(model, groups)
        >>> taylor(model, groups[0]).tolist()
        [1.0, 3.0]
    """

    def __init__(self, on: str = 'norm') -> None:
        if on not in PARTS:
            raise MmsharpError(f'Taylor: on is {on!r}; accepted: {", ".join(PARTS)}')
        self.on = on
        self._sums: dict[str, Tensor] = {}
        self._steps: dict[str, Tensor] = {}
        self._reasons: dict[str, str] = {}

    @torch.no_grad()
    def observe(self, model: nn.Module, groups: tuple[ChannelGroup, ...]) -> None:
        """Take in the gradients of one step; nothing waits for a GPU.

        Args:
            model: Its parameters hold ``.grad``; those without say nothing.
            groups: All groups that will be scored.

        Raises:
            MmsharpError: A group has another number of channels than in what has been seen, as after loading the state
                of another model.
        """
        seen: dict[str, Tensor] = {}
        for group in groups:
            found = self._contribution(model, group)
            if isinstance(found, str):
                self._reasons[group.name] = found
            else:
                seen[group.name] = found
        if not seen:
            return
        for name, value in seen.items():
            if name in self._sums and self._sums[name].shape != value.shape:
                raise MmsharpError(
                    f'Taylor: group {name!r} has {len(value)} channels, but {len(self._sums[name])} in what has been '
                    'seen so far; that is of another model'
                )
        finite = torch.stack([value.sum() for value in seen.values()]).isfinite().all()
        step = finite.float()
        for name, value in seen.items():
            value = value.masked_fill(~finite, 0.0)
            self._sums[name] = value if name not in self._sums else self._sums[name].to(value).add_(value)
            self._steps[name] = step if name not in self._steps else self._steps[name].to(step) + step

    def unscored(self, model: nn.Module, group: ChannelGroup) -> str | None:
        """Why a group has no score, or ``None``.

        Before the first step it is said of groups that are frozen throughout, by ``requires_grad``, and of those whose
        BatchNorms are, by the mode that the model is in.

        Example:
            >>> from mmsharp.pruning import find_groups, tensor_forward
            >>> model = nn.Sequential(nn.Linear(1, 2), nn.Linear(2, 1))
            >>> groups = find_groups(model, tensor_forward(torch.zeros(1, 1))).groups
            >>> Taylor().unscored(model, groups[0]) is None
            True
            >>> _ = model[0].requires_grad_(False)
            >>> Taylor().unscored(model, groups[0])
            'no parameter of it that Taylor reads has a gradient, as in frozen layers'
        """
        if group.name in self._sums:
            return None
        if group.name in self._reasons:
            return self._reasons[group.name]
        norms, weights = list(self._norms(model, group)), list(_weights(model, group))
        if _train(norms):
            return None
        if _train(weights):
            return BATCH_STATISTICS if self.on == 'norm' and _normalises_by_batch(model, group) else None
        return FROZEN if norms or weights else NOTHING_TO_READ

    def __call__(self, model: nn.Module, group: ChannelGroup) -> Tensor:
        """Scores of shape ``(group.channels,)``, float32 on the CPU."""
        if (reason := self.unscored(model, group)) is not None:
            raise MmsharpError(
                f'Taylor has no score of group {group.name!r}: {reason}; let its layers train, or choose a criterion '
                'that needs no gradients, such as mmsharp.Magnitude'
            )
        if group.name in self._sums and not self._steps[group.name].item():
            raise MmsharpError(
                f'Taylor has seen no finite gradient of group {group.name!r}: the training diverges; lower the '
                'learning rate, or clip the gradients'
            )
        if group.name not in self._sums:
            raise MmsharpError(
                f'Taylor has seen no gradient of group {group.name!r}; let the warm-up of the hook last at least one '
                'step of the optimizer, or call observe(model, groups) after a backward pass'
            )
        return (self._sums[group.name] / self._steps[group.name]).float().cpu()

    def reset(self) -> None:
        """Begin a new mean, as after each pruning step."""
        self._sums.clear()
        self._steps.clear()
        self._reasons.clear()

    def state_dict(self) -> dict[str, Any]:
        """Sums, numbers of steps and reasons by the names of groups, as tensors and text, for a checkpoint."""
        return dict(sums=dict(self._sums), steps=dict(self._steps), reasons=dict(self._reasons))

    def load_state_dict(self, state: Mapping[str, Any]) -> None:
        """Take over what :meth:`state_dict` gave.

        Raises:
            MmsharpError: It is something else; what had been seen before stays.

        Example:
            >>> Taylor().load_state_dict(dict(sums=dict(stem=torch.zeros(8))))
            Traceback (most recent call last):
            mmsharp.errors.MmsharpError: the state of Taylor: expected a dict of sums, steps, reasons, found 'sums'; ...
        """
        sums, steps, reasons = _checked_state(state)
        self._sums = {name: tensor.clone() for name, tensor in sums.items()}
        self._steps = {name: tensor.clone() for name, tensor in steps.items()}
        self._reasons = dict(reasons)

    def _contribution(self, model: nn.Module, group: ChannelGroup) -> Tensor | str:
        """``L / G * | sum over layers of <theta_c, g_c> |`` on the model's device, or why there is none.

        Shape ``(group.channels,)``.
        """
        parts = list(self._norms(model, group))
        scored = _with_gradients(parts)
        if not scored:
            parts = list(_weights(model, group))
            scored = _with_gradients(parts)
            if not scored:
                return FROZEN if parts else NOTHING_TO_READ
            if self.on == 'norm' and _normalises_by_batch(model, group):
                return BATCH_STATISTICS
        total = torch.zeros(group.channels, device=scored[0][2][0].device)
        for member, dim, tensors in scored:
            products: Any = 0
            for tensor in tensors:
                assert tensor.grad is not None
                product = (tensor.detach() * tensor.grad).float().movedim(dim, 0)
                products = products + product.reshape(len(product), -1).sum(dim=1)
            total.index_add_(0, member.channels.to(total.device), products[member.positions.to(total.device)])
        return total.abs_().mul_(len(parts) / len(scored))

    def _norms(self, model: nn.Module, group: ChannelGroup) -> Iterator[Part]:
        """The BatchNorms of the group with scales, where they are what is read."""
        for member, module in _batch_norms(model, group) if self.on == 'norm' else ():
            if module._parameters.get('weight') is not None:
                yield member, 0, [tensor for tensor in (module.weight, module.bias) if tensor is not None]


def _weights(model: nn.Module, group: ChannelGroup) -> Iterator[Part]:
    for member, name, dim in maker_parameters(model, group):
        yield member, dim, [getattr(model.get_submodule(member.module), name)]


def _with_gradients(parts: list[Part]) -> list[Part]:
    """The layers that have gradients, each with the parameters that have one.

    A frozen parameter may still hold zeros, or the gradient of the step before it was frozen.
    """
    found = (
        (member, dim, [tensor for tensor in tensors if tensor.requires_grad and tensor.grad is not None])
        for member, dim, tensors in parts
    )
    return [part for part in found if part[2]]


def _train(parts: list[Part]) -> bool:
    return any(tensor.requires_grad for _, _, tensors in parts for tensor in tensors)


def _batch_norms(model: nn.Module, group: ChannelGroup) -> Iterator[tuple[Member, nn.modules.batchnorm._BatchNorm]]:
    for member in group.members:
        module = model.get_submodule(member.module)
        kind = layer_kind(module)
        if kind is not None and kind.name == 'BatchNorm' and member.axis == 'out':
            yield member, module  # type: ignore[misc]


def _normalises_by_batch(model: nn.Module, group: ChannelGroup) -> bool:
    return any(module.training or module.running_mean is None for _, module in _batch_norms(model, group))


def _checked_state(state: Any) -> tuple[Mapping[str, Tensor], Mapping[str, Tensor], Mapping[str, str]]:
    advice = 'resume from a checkpoint of a run with this criterion, written by this version of mmsharp'
    names = ('sums', 'steps', 'reasons')
    if not isinstance(state, Mapping) or state.keys() != set(names):
        found = ', '.join(sorted(map(shown, state))[:5]) if isinstance(state, Mapping) else f'a {type(state).__name__}'
        raise MmsharpError(
            f'the state of Taylor: expected a dict of {", ".join(names)}, found {found or "nothing"}; {advice}'
        )
    sums, steps, reasons = parts = tuple(state[name] for name in names)
    for name, part in zip(names, parts):
        wanted = str if name == 'reasons' else Tensor
        if not isinstance(part, Mapping) or not all(
            isinstance(group, str) and isinstance(value, wanted) for group, value in part.items()
        ):
            raise MmsharpError(
                f'the state of Taylor: {name} is not a dict of names to {wanted.__name__}, but {shown(part)}; {advice}'
            )
    for group, total in sums.items():
        count = steps.get(group)
        if total.dim() != 1 or not total.is_floating_point() or count is None or count.numel() != 1:
            raise MmsharpError(
                f'the state of Taylor: group {shown(group)} has a sum of shape {tuple(total.shape)} and '
                f'{"no" if count is None else count.numel()} numbers of steps, expected (channels,) and one; {advice}'
            )
    if unknown := steps.keys() - sums.keys():
        raise MmsharpError(f'the state of Taylor: steps of {shown(min(unknown))}, which has no sum; {advice}')
    return sums, steps, reasons
