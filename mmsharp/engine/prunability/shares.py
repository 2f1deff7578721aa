"""How much of a model its groups hold, and what holds the rest."""

from __future__ import annotations

import math
import re
from collections.abc import Iterable
from typing import Any

from torch import nn
from torch.nn.utils.parametrize import is_parametrized

from mmsharp.pruning import GroupSet
from mmsharp.pruning.layers import axis_size, layer_tensors, prunable_layers


def share_in_groups(model: nn.Module, groups: GroupSet, part: str = '') -> float | None:
    """The share of the parameters of a submodule that some group can remove; ``None`` where there is no such part.

    A weight is out of reach if both its output and its input channel stay, so of a tensor with ``F_a`` fixed out of
    ``S_a`` positions along each axis ``a`` the share ``1 - prod_a F_a / S_a`` is in some group.

    Example:
        >>> import torch
        >>> from mmsharp.pruning import find_groups, tensor_forward
        >>> model = nn.Sequential(nn.Linear(2, 3, bias=False), nn.Linear(3, 1, bias=False), nn.Linear(1, 1, bias=False))
        >>> share_in_groups(model, find_groups(model, tensor_forward(torch.zeros(1, 2))))
        0.9
    """
    modules = dict(model.named_modules())
    if part not in modules:
        return None
    grouped: dict[tuple[str, str], int] = {}
    for group in groups.groups:
        for member in group.members:
            key = (member.module, member.axis)
            grouped[key] = grouped.get(key, 0) + len(member.positions)
    fixed: dict[nn.Parameter, dict[int, float]] = {}
    for path, (module, kind) in prunable_layers(model).items():
        for name in ('out', 'in'):
            axis = kind.axis(name)
            if axis is None or (path, name) not in grouped:
                continue
            left = 1 - grouped[path, name] / axis_size(module, axis)
            for tensor, dim in layer_tensors(module, axis).values():
                if isinstance(tensor, nn.Parameter):
                    fixed.setdefault(tensor, {})[dim] = left
    total = reachable = 0.0
    for parameter in modules[part].parameters():
        total += parameter.numel()
        reachable += parameter.numel() * (1 - math.prod(fixed.get(parameter, {0: 1.0}).values()))
    return reachable / total if total else None


def dense_reasons(model: nn.Module, groups: GroupSet) -> list[dict[str, Any]]:
    """Why layers stay dense: reason, number of layers, and their parameters, those with most parameters first.

    Module paths are left out of the reasons, so that equal ones meet.

    Example:
        >>> import torch
        >>> from mmsharp.pruning import find_groups, tensor_forward
        >>> model = nn.Sequential(nn.Linear(2, 3), nn.Linear(3, 2))
        >>> dense_reasons(model, find_groups(model, tensor_forward(torch.zeros(1, 2))))
        [{'reason': "reaches the model's outputs", 'layers': 1, 'parameters': 8}]
    """
    counted: dict[str, dict[str, Any]] = {}
    for layer in groups.dense:
        reason = without_path(layer.reason)
        entry = counted.setdefault(reason, dict(reason=reason, layers=0, parameters=0))
        entry['layers'] += 1
        module = model.get_submodule(layer.module)
        computed_from = module.get_submodule('parametrizations').modules() if is_parametrized(module) else ()
        entry['parameters'] += _own_parameters([module, *computed_from])
    return sorted(counted.values(), key=lambda entry: (-entry['parameters'], entry['reason']))


def without_path(reason: str) -> str:
    """A reason without the module that it names first.

    Example:
        >>> without_path('`backbone.attn`: softmax over channels')
        'softmax over channels'
    """
    return re.sub(r'^`[^`]*`: ', '', reason)


def _own_parameters(modules: Iterable[nn.Module]) -> int:
    return sum(parameter.numel() for module in modules for parameter in module.parameters(recurse=False))
