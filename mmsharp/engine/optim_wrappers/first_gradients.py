"""The gradients of the first pass: made fit to be overwritten, and kept where a policy compares them."""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Mapping, Sequence
from contextlib import contextmanager

import torch
from mmengine.dist import all_reduce_params, get_world_size
from torch import Tensor, nn

from mmsharp.errors import MmsharpError
from mmsharp.sharpness import AscentParameter


def separate(gradients: Sequence[Tensor | None], parameters: Sequence[AscentParameter]) -> list[Tensor | None]:
    """Gradients that may be overwritten one by one.

    Autograd hands out one tensor for both operands of a sum, and expanded ones for a sum over a parameter.

    Raises:
        MmsharpError: A gradient is sparse.

    Example:
        >>> shared = torch.ones(1)
        >>> parameter = AscentParameter('weight', torch.nn.Parameter(torch.ones(1)), 0, True)
        >>> first, second = separate([shared, shared], [parameter, parameter])
        >>> first is shared, second is shared
        (True, False)
    """
    seen: set[int] = set()
    apart: list[Tensor | None] = []
    for gradient, parameter in zip(gradients, parameters):
        if gradient is not None:
            if gradient.layout != torch.strided:
                raise MmsharpError(
                    f'the gradient of {parameter.name!r} is sparse, and an ascent needs dense ones; build that layer '
                    'with sparse=False, or leave it out of `parameters`'
                )
            storage = gradient.untyped_storage().data_ptr()
            expanded = any(stride == 0 and size > 1 for stride, size in zip(gradient.stride(), gradient.shape))
            if expanded or storage in seen:
                gradient = gradient.clone()
            seen.add(storage)
        apart.append(gradient)
    return apart


def marks_of(gradients: Iterable[Tensor | None]) -> list[tuple[int, int]]:
    """What tells a gradient that somebody writes, or puts in another's place, from one that is left alone.

    Example:
        >>> gradient = torch.zeros(1)
        >>> before = marks_of([gradient, None])
        >>> _ = gradient.add_(1.0)
        >>> [mark == old for mark, old in zip(marks_of([gradient, None]), before)]
        [False, True]
    """
    return [(0, 0) if gradient is None else (id(gradient), gradient._version) for gradient in gradients]


@contextmanager
def untouched_gradients(optimizer: torch.optim.Optimizer, model: nn.Module) -> Iterator[None]:
    """Refuse a backward pass inside that writes ``.grad``, as a first pass must not.

    It does so where a layer runs a backward pass of its own, through which ``torch.autograd.grad`` does not see either:
    its parameters would silently not be moved.

    Raises:
        MmsharpError: Naming the first parameter whose gradient was written.

    Example:
        >>> layer = nn.Linear(1, 1)
        >>> optimizer = torch.optim.SGD(layer.parameters(), lr=0.1)
        >>> with untouched_gradients(optimizer, layer):
        ...     layer(torch.ones(1, 1)).sum().backward()
        Traceback (most recent call last):
        mmsharp.errors.MmsharpError: the first pass has written the gradient of 'weight': ...
    """
    parameters = [parameter for group in optimizer.param_groups for parameter in group['params']]
    before = marks_of(parameter.grad for parameter in parameters)
    yield
    for parameter, mark, old in zip(parameters, marks_of(parameter.grad for parameter in parameters), before):
        if mark != old:
            name = next((name for name, value in model.named_parameters() if value is parameter), 'a parameter')
            raise MmsharpError(
                f'the first pass has written the gradient of {name!r}: a layer around it runs a backward pass of its '
                'own (a reversible network, a reentrant checkpoint that is not of torch), through which no ascent can '
                'be taken; switch that off (no_custom_backward=True for RevVisionTransformer)'
            )


def mean_over_processes(
    gradients: Sequence[Tensor | None], parameters: Sequence[AscentParameter]
) -> list[Tensor | None]:
    """The mean of all processes' gradients, where there are several; a process that lacks one counts as zero.

    Processes may lack different gradients, but have to exchange the same.
    """
    if get_world_size() == 1:
        return list(gradients)
    present = [torch.zeros_like(p.tensor) if g is None else g for p, g in zip(parameters, gradients)]
    all_reduce_params(present, op='mean')
    return list(present)


class FirstGradients:
    """The gradients at ``w``, summed over the micro-batches of a step, until its policy asks for them.

    Example:
        >>> kept = FirstGradients()
        >>> parameter = AscentParameter('weight', torch.nn.Parameter(torch.ones(1)), 0, True)
        >>> for _ in range(2):
        ...     kept.add([parameter], [torch.ones(1)])
        >>> kept.take({'weight': torch.ones(1)}), kept.take({'weight': torch.ones(1)})
        ({'weight': tensor([2.])}, {})
    """

    def __init__(self) -> None:
        self._sums: dict[str, Tensor] = {}

    def add(self, parameters: Sequence[AscentParameter], gradients: Sequence[Tensor]) -> None:
        """Add those of a micro-batch, which are copied."""
        for parameter, gradient in zip(parameters, gradients):
            if parameter.name in self._sums:
                self._sums[parameter.name].add_(gradient)
            else:
                self._sums[parameter.name] = gradient.clone()

    def take(self, final: Mapping[str, Tensor]) -> dict[str, Tensor]:
        """Give away what was kept, averaged over the processes; empty for a plain step.

        Args:
            final: The gradients that the optimizer is about to step with, which all processes have in common. A process
                may lack first gradients that others have.
        """
        first, self._sums = self._sums, {}
        if first and get_world_size() > 1:
            first = {name: first.get(name, torch.zeros_like(value)) for name, value in final.items()}
            all_reduce_params(list(first.values()), op='mean')
        return first

    def state_dict(self) -> dict[str, Tensor]:
        """What is kept now."""
        return dict(self._sums)

    def load_state_dict(self, state: Mapping[str, Tensor]) -> None:
        """Go on from there."""
        self._sums = {name: value.clone() for name, value in state.items()}

    def clear(self) -> None:
        """Forget them, which a step that was abandoned may have left."""
        self._sums = {}
