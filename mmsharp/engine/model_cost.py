"""Parameters, MACs and latency of a model on the first image of its own test set."""

from typing import Any

import torch
from torch import nn


def preprocessed_inputs(model: Any, dataset: Any, collate: Any) -> torch.Tensor:
    """The first item of a dataset as the model's data preprocessor hands it to the network: shape (1, C, H, W)."""
    with torch.no_grad():
        data = model.data_preprocessor(collate([dataset[0]]), False)
    return data['inputs'][:1]


def measure_cost(model: nn.Module, inputs: torch.Tensor) -> dict[str, Any]:
    """Count and time one forward pass in ``tensor`` mode: the network without the post-processing of predictions.

    Returns:
        ``parameters``, ``macs`` (multiply-accumulates), ``latency_ms`` (median of repeated passes on the model's own
        device), ``input_shape`` and ``device``; a part that could not be measured is ``None`` and ``notes`` says why.
    """
    was_training = model.training
    model.eval()
    cost: dict[str, Any] = {
        'parameters': sum(parameter.numel() for parameter in model.parameters()),
        'macs': None,
        'latency_ms': None,
        'input_shape': list(inputs.shape),
        'device': str(inputs.device),
    }
    try:
        from mmsharp.pruning import count_macs, count_parameters, measure_latency, tensor_forward

        forward = tensor_forward(inputs)
        with torch.no_grad():
            cost['parameters'] = count_parameters(model)
            cost['macs'] = count_macs(model, forward)
            cost['latency_ms'] = 1000 * measure_latency(model, forward)
    except Exception as error:  # models are free in what they do in tensor mode; the evaluation stands without this
        cost['notes'] = f'not measured: {type(error).__name__}: {error}'
    finally:
        model.train(was_training)
    return cost
