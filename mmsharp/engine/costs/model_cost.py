"""Parameters, MACs and latency of a model on the first image of its own test set."""

import math
from collections.abc import Sequence
from typing import Any

import torch
from torch import nn

from mmsharp.errors import one_line
from mmsharp.pruning import Forward, count_macs, count_parameters, measure_latencies, tensor_forward


def preprocessed_inputs(model: Any, dataset: Any, collate: Any) -> tuple[torch.Tensor, list[Any] | None]:
    """The first item of a dataset as the network gets it, shape (1, C, H, W), and its data sample.

    Of an item for test-time augmentation, which holds several views, the first.
    """
    item = dataset[0]
    if isinstance(item['inputs'], list):
        item = {key: views[0] for key, views in item.items()}
    with torch.no_grad():
        data = model.data_preprocessor(collate([item]), False)
    samples = data.get('data_samples')
    return data['inputs'][:1], None if samples is None else samples[:1]


def measure_cost(
    model: nn.Module, inputs: torch.Tensor, samples: list[Any] | None = None, repeats: int = 30
) -> dict[str, Any]:
    """Count and time one forward pass in ``tensor`` mode: the network without the post-processing of predictions.

    Args:
        model: Any module; runs in evaluation mode and is left as it was.
        inputs: One image, shape ``(1, C, H, W)``.
        samples: What the model takes beside the image, one entry.
        repeats: Forward passes, of which the median counts.

    Returns:
        ``parameters``, ``macs`` (multiply-accumulates), ``latency_ms`` on the model's own device, ``input_shape`` and
        ``device``; where they could not be measured ``macs`` and ``latency_ms`` are ``None`` and ``notes`` says why.

    Example:
        >>> sorted(measure_cost(nn.Conv2d(1, 2, 1), torch.zeros(1, 1, 4, 4), repeats=1))
        ['device', 'input_shape', 'latency_ms', 'macs', 'parameters']
    """
    return measure_costs([(model, inputs, samples)], repeats)[0]


def measure_costs(
    models: Sequence[tuple[nn.Module, torch.Tensor, list[Any] | None]], repeats: int = 30, limit: float = math.inf
) -> list[dict[str, Any]]:
    """:func:`measure_cost` of several models, timed in turns so that their latencies can be compared.

    Args:
        models: Each with its inputs and samples.
        repeats: Rounds of forward passes.
        limit: Seconds after which no further round begins.
    """
    costs: list[dict[str, Any]] = []
    timed: list[tuple[dict[str, Any], tuple[nn.Module, Forward]]] = []
    for model, inputs, samples in models:
        cost: dict[str, Any] = {'parameters': count_parameters(model), 'macs': None, 'latency_ms': None}
        cost.update(input_shape=list(inputs.shape), device=str(inputs.device))
        forward = tensor_forward(inputs, samples)
        try:
            cost['macs'] = count_macs(model, forward)
            timed.append((cost, (model, forward)))
        except Exception as error:  # models are free in what they do in tensor mode; the evaluation stands without this
            cost['notes'] = f'not measured: {one_line(error)}'
        costs.append(cost)
    for (cost, _), seconds in zip(timed, measure_latencies([pair for _, pair in timed], repeats, limit=limit)):
        cost['latency_ms'] = 1000 * seconds
    return costs
