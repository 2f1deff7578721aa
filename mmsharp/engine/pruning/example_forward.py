"""The forward that shows how the channels of a model in training are coupled."""

from __future__ import annotations

import copy
from collections.abc import Callable, Mapping
from typing import Any

import torch
from torch import nn

from mmsharp.engine.distributed.first_process_decides import first_process_decides
from mmsharp.engine.model_access.fabricated_samples import like
from mmsharp.errors import MmsharpError
from mmsharp.pruning import tensor_forward
from mmsharp.pruning.forwards.image_scale import images_like


def example_forward(
    model: nn.Module, data_batch: Any, input_shape: tuple[int, ...] | None = None
) -> tuple[tuple[int, ...], Callable[[nn.Module], Any]]:
    """Fixed numbers of the shape of one image, through the model.

    Annotations are fabricated from the shape alone: a resumed run, or another process, has other data, and has to find
    the same groups.

    Args:
        model: With its data preprocessor.
        data_batch: As the data loader gives it.
        input_shape: Of an image, as it was the first time; by default that of the batch's first.

    Returns:
        The shape, as the first process has it: ranks see images of different sizes, and what a channel costs depends on
        the size; and the forward.

    Raises:
        MmsharpError: The model takes something else than one image tensor.
    """
    batch = model.data_preprocessor(copy.deepcopy(data_batch), False)  # type: ignore[operator]
    inputs, samples = (batch['inputs'], batch.get('data_samples')) if isinstance(batch, Mapping) else (batch[0], None)
    if not isinstance(inputs, torch.Tensor):
        raise MmsharpError(
            f'the model takes inputs of type {type(inputs).__name__}; pruning needs one image tensor of shape '
            '(batch, channels, height, width) to find its coupled channels'
        )
    shape = first_process_decides(input_shape or tuple(inputs.shape[1:]))
    image = images_like(model, shape, dtype=inputs.dtype).to(inputs)
    sample = like(samples, (image.shape[2], image.shape[3]))
    if sample is not None:
        return shape, tensor_forward(image, [sample])
    return shape, tensor_forward(image, None if samples is None else samples[:1], annotated=False)
