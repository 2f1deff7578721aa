"""What a slim model costs beside the dense one, and beside the budget that it was pruned to."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

from mmengine.config import Config
from torch import nn

from mmsharp.engine.costs.model_cost import measure_costs
from mmsharp.engine.deployment.slim_config import prunes
from mmsharp.pruning import count_parameters
from mmsharp.pruning.forwards.image_sample import image_sample
from mmsharp.pruning.forwards.image_scale import images_like

LATENCY_SLACK = 1.15
"""Share of a latency budget up to which a measured latency agrees with it."""


def compare(dense: nn.Module, slim: nn.Module, shape: tuple[int, ...] | None, repeats: int) -> dict[str, Any]:
    """Parameters, multiply-accumulates and latency of both; only the first where no input shape is known."""
    models = {'dense': dense, 'slim': slim}
    if shape is None:
        unknown = dict(macs=None, latency_ms=None)
        costs = [dict(unknown, parameters=count_parameters(model)) for model in models.values()]
    else:
        image = images_like(dense, shape)
        costs = measure_costs([(model, image, [image_sample(shape)]) for model in models.values()], repeats)
    return dict(input_shape=None if shape is None else list(shape), **dict(zip(models, costs)))


def budget_notes(config: Config, report: Mapping[str, Any]) -> list[str]:
    """What the config's pruning hook asked for, where the checkpoint keeps more: it is from before the end."""
    hooks = [*(config.get('default_hooks') or {}).values(), *(config.get('custom_hooks') or [])]
    notes = []
    for budget in [hook.get('budget') or {} for hook in hooks if hook and prunes(hook)]:
        for resource, key in (('params', 'parameters'), ('macs', 'macs')):
            if resource in budget and report['dense'][key]:
                kept = report['slim'][key] / report['dense'][key]
                if kept > budget[resource] + 1e-3:
                    notes.append(
                        f'{kept:.1%} of the {key} are left, more than the budget {resource}={budget[resource]}: this '
                        'checkpoint was written before pruning had ended (save_best may choose such a one)'
                    )
        if 'latency' in budget and report['dense']['latency_ms']:
            kept = report['slim']['latency_ms'] / report['dense']['latency_ms']
            if kept > LATENCY_SLACK * budget['latency']:
                notes.append(
                    f'{kept:.0%} of the latency is left in PyTorch on this machine, more than the budget '
                    f'latency={budget["latency"]}: its table predicts another device or engine, this machine was busy, '
                    'or the checkpoint was written before pruning had ended'
                )
    return notes
