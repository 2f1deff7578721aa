"""How a model is run to be looked at, and the tensors that it gives."""

from __future__ import annotations

import copy
import inspect
import random
from collections.abc import Callable, Iterator, Mapping
from contextlib import contextmanager
from functools import partial
from typing import Any

import numpy as np
import torch
import torch.distributed
from mmengine.structures import BaseDataElement
from torch import Tensor, nn

from mmsharp.errors import one_line
from mmsharp.pruning.forwards.contrasting_images import KINDS, noise_images
from mmsharp.pruning.forwards.numbers_read import Reading, numbers_read
from mmsharp.pruning.layers.cached_biases import cached_biases

Forward = Callable[[nn.Module], Any]
"""Runs a model on fixed inputs and hands back whatever it gives."""

FURTHER_KINDS: dict[str, Callable[[Tensor], Tensor]] = {
    'somewhat bright': lambda noise: 0.5 + 0.5 * noise,
    'somewhat dark': lambda noise: -0.5 + 0.5 * noise,
    'very strong': lambda noise: 32 * noise,
}
"""Beside the contrasting images that a written file is checked on: there an answer has to be right, here a branch that
only training meets has to be found."""


def tensor_forward(inputs: Any, data_samples: Any = None, annotated: bool = True) -> TensorForward:
    """A forward without post-processing: ``model(inputs, data_samples, mode='tensor')``, else ``model(inputs)``.

    The first form is for MMEngine's models, told by the ``mode`` that their forward takes. Inputs and data samples
    follow the model to its device, and to float64 where its weights are. Whether gradients are recorded is the caller's
    decision.

    Args:
        inputs: What the model's forward takes first: a tensor, or a list or dict of tensors.
        data_samples: What MMEngine's models take beside it. With annotations, finding groups also looks at what the
            losses read, so that layers which only training runs are understood.
        annotated: Whether losses may read the data samples.

    Example:
        >>> import torch
        >>> from torch import nn
        >>> tensor_forward(torch.ones(1, 2))(nn.Flatten()).shape
        torch.Size([1, 2])
    """
    return TensorForward(inputs, data_samples, annotated)


class TensorForward:
    """What :func:`tensor_forward` gives."""

    def __init__(self, inputs: Any, data_samples: Any = None, annotated: bool = True) -> None:
        self.inputs = inputs
        self.data_samples = data_samples
        self.annotated = annotated and data_samples is not None

    def __call__(self, model: nn.Module) -> Any:
        """Run the model without post-processing."""
        return self._run(model, self._placed(model, self.inputs))

    def _run(self, model: nn.Module, placed: Any) -> Any:
        if 'mode' not in inspect.signature(model.forward).parameters:
            return model(placed)
        return model(placed, self._placed(model, self.data_samples), mode='tensor')

    def losses(self, model: nn.Module) -> Any:
        """Run the model as training does.

        Raises:
            TypeError: The model has no losses of its own, or there are no data samples to give it.
        """
        if 'mode' not in inspect.signature(model.forward).parameters or not self.annotated:
            raise TypeError('no annotations were given')
        return model(self._placed(model, self.inputs), self._placed(model, self.data_samples), mode='loss')

    def elsewhere(self) -> tuple[TensorForward, TensorForward] | None:
        """The same on negative and on positive images, far from zero; ``None`` where the inputs are no images.

        Only the content is another: what a model computes has the same structure, unless that depends on the content.

        Example:
            >>> import torch
            >>> low, high = tensor_forward(torch.tensor([[-1.0, 2.0]])).elsewhere()
            >>> low.inputs, high.inputs
            (tensor([[ -3., -12.]]), tensor([[ 3., 12.]]))
        """
        if not self._has_images():
            return None
        low, high = copy.copy(self), copy.copy(self)
        low.inputs = _each(self.inputs, lambda image: -3 * image - 3 * _scale(image))
        high.inputs = _each(self.inputs, lambda image: 3 * image + 3 * _scale(image))
        return low, high

    def contrasting(self) -> list[tuple[str, TensorForward]]:
        """The same on images unlike each other, with what they are; none where the inputs are no images.

        Noise, changed as :data:`~mmsharp.pruning.forwards.contrasting_images.KINDS` says and in some ways more, that
        takes the given image's mean and deviation for 0 and 1: preprocessed or raw, a bright image is bright beside the
        given.

        Example:
            >>> import torch
            >>> contrasts = dict(tensor_forward(torch.randn(1, 3, 32, 32) + 5).contrasting())
            >>> round(contrasts['bright'].inputs.mean().item()), round(contrasts['dark'].inputs.mean().item())
            (7, 3)
        """
        if not self._has_images():
            return []
        found = []
        for number, (kind, change) in enumerate({**KINDS, **FURTHER_KINDS}.items()):
            other = copy.copy(self)
            other.inputs = _each(self.inputs, partial(_contrast, change=change, seed=number))
            found.append((kind, other))
        return found

    def numbers_read(self, model: nn.Module) -> list[Reading]:
        """Lines of the model's code that read Python numbers out of the images; none where the inputs are no images.

        See :func:`mmsharp.pruning.forwards.numbers_read.numbers_read`.

        Raises:
            Exception: What the model's own code raises, or an operation that cannot be followed.
        """
        if not self._has_images():
            return []
        return numbers_read(_OfImages(self, model), self._placed(model, self.inputs))

    def _has_images(self) -> bool:
        images = self.inputs if isinstance(self.inputs, (list, tuple)) else [self.inputs]
        return all(
            isinstance(image, Tensor) and (image.is_floating_point() or image.dtype == torch.uint8) and image.numel()
            for image in images
        )

    def _placed(self, model: nn.Module, value: Any) -> Any:
        """A copy on the model's device; models write into data samples."""
        parameter = next(model.parameters(), None)
        return value if parameter is None else _follow(copy.deepcopy(value), parameter)


class _OfImages(nn.Module):
    """A model as a function of images alone, which are not copied: a copy would not be known to depend on them."""

    def __init__(self, forward: TensorForward, model: nn.Module) -> None:
        super().__init__()
        self._forward, self.model = forward, model

    def forward(self, images: Any) -> Any:
        return self._forward._run(self.model, images)


def _each(images: Any, change: Callable[[Tensor], Tensor]) -> Any:
    if isinstance(images, (list, tuple)):
        return type(images)(_each(image, change) for image in images)
    if images.dtype == torch.uint8:
        return change(images.float()).round().clamp(0, 255).to(torch.uint8)
    return change(images)


def _contrast(image: Tensor, change: Callable[[Tensor], Tensor], seed: int) -> Tensor:
    """Noise of an image's shape, changed, on the image's scale."""
    noise = noise_images(image.shape[1:] if image.dim() else (), len(image) if image.dim() else 1, seed)
    content = change(noise.reshape(1, -1) if noise.dim() < 2 else noise).reshape(image.shape).to(image)
    spread = float(image.std(correction=0)) or _scale(image)
    return image.mean() + spread * content


def _scale(image: Tensor) -> float:
    return float(image.abs().max()) or 1.0


def run_losses(forward: Forward, model: nn.Module) -> str | None:
    """Run the losses that belong to a forward, as far as it has any; ``None``, or on one line why they did not run.

    All modules are in training mode but batch normalisations, which one image may be too few for. The process is alone
    meanwhile: losses that average over processes do not wait for others, which may be elsewhere. Random states of NumPy
    and Python come back.
    """
    losses = getattr(forward, 'losses', None)
    if losses is None:
        return 'this forward has none'
    flags = {module: module.training for module in model.modules()}
    numpy_state, python_state = np.random.get_state(), random.getstate()
    try:
        for module in flags:
            module.training = not isinstance(module, nn.modules.batchnorm._BatchNorm)
        with _alone():
            losses(model)
    except Exception as error:  # a loss is the model's own code, and whatever it wants may be missing
        return one_line(error)
    finally:
        for module, flag in flags.items():
            module.training = flag
        np.random.set_state(numpy_state)
        random.setstate(python_state)
    return None


@contextmanager
def _alone() -> Iterator[None]:
    """Inside, nothing believes in other processes."""
    initialised = torch.distributed.is_initialized
    try:
        torch.distributed.is_initialized = lambda: False
        yield
    finally:
        torch.distributed.is_initialized = initialised


def _follow(value: Any, parameter: Tensor) -> Any:
    if isinstance(value, Tensor):
        double = parameter.dtype == torch.float64 and value.is_floating_point()
        return value.to(parameter.device, torch.float64 if double else value.dtype)
    if isinstance(value, BaseDataElement):
        value = value.to(parameter.device)
        return _widened(value) if parameter.dtype == torch.float64 else value
    if isinstance(value, Mapping):
        return {key: _follow(item, parameter) for key, item in value.items()}
    if isinstance(value, (list, tuple)) and not hasattr(value, '_fields'):
        return type(value)(_follow(item, parameter) for item in value)
    return value


def _widened(sample: Any) -> Any:
    """A data element, changed to float64: tensors, and boxes that hold one."""
    changed: dict[str, Any] = {}
    for name, value in sample.items():
        tensor = getattr(value, 'tensor', value)
        if isinstance(value, BaseDataElement):
            changed[name] = _widened(value)
        elif isinstance(tensor, Tensor) and tensor.is_floating_point():
            changed[name] = value.to(torch.float64)
    sample.set_data(changed)
    return sample


def output_tensors(output: Any) -> list[Tensor]:
    """All tensors inside a model's output: nested sequences, mappings and MMEngine's data elements, in order.

    Example:
        >>> import torch
        >>> len(output_tensors({'a': [torch.ones(1), None], 'b': (torch.ones(2),)}))
        2
    """
    found: list[Tensor] = []
    seen: set[int] = set()

    def visit(value: Any) -> None:
        if isinstance(value, Tensor):
            found.append(value)
        elif isinstance(value, Mapping):
            for item in value.values():
                visit(item)
        elif isinstance(value, (list, tuple, set)):
            for item in value:
                visit(item)
        elif hasattr(value, '__dict__') and not isinstance(value, (type, nn.Module)) and id(value) not in seen:
            seen.add(id(value))
            visit(vars(value))

    visit(output)
    return found


@contextmanager
def looked_at(model: nn.Module) -> Iterator[None]:
    """Evaluation mode without gradients, for a look at the model that leaves it bitwise as it was.

    Training flags, buffers and the random states of the CPU and of the model's devices come back, also after an error.

    Example:
        >>> from torch import nn
        >>> model = nn.Dropout()
        >>> with looked_at(model):
        ...     print(model.training)
        False
        >>> model.training
        True
    """
    training = {module: module.training for module in model.modules()}
    buffers = [(buffer, buffer.detach().clone()) for buffer in model.buffers()]
    devices = sorted({tensor.device.index or 0 for tensor in model.parameters() if tensor.device.type == 'cuda'})
    try:
        for module in training:
            module.training = False  # not .eval(): some models override it, and could not be put back
        with torch.random.fork_rng(devices), torch.no_grad(), cached_biases(model):
            yield
    finally:
        for module, flag in training.items():
            module.training = flag
        with torch.no_grad():
            for buffer, saved in buffers:
                buffer.copy_(saved)
