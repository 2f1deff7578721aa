"""The gradients of the first pass: made fit to be overwritten, and kept where a policy compares them."""

from __future__ import annotations

from collections.abc import Mapping, Sequence

import torch
from mmengine.dist import all_reduce_params, get_world_size
from torch import Tensor

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

    def clear(self) -> None:
        """Forget them, which a step that was abandoned may have left."""
        self._sums = {}
