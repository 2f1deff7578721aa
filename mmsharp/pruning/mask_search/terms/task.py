"""The network's own loss."""

from __future__ import annotations

from typing import Any, ClassVar

from torch import Tensor

from mmsharp.errors import MmsharpError
from mmsharp.pruning.mask_search.passes import Passes
from mmsharp.pruning.mask_search.terms.term import Term, total_loss
from mmsharp.registry import MASK_TERMS


@MASK_TERMS.register_module()
class Task(Term):
    """The losses that the base model computes itself, with perturbed masks, under their own names.

    One that is called ``loss``, as the total is, becomes ``loss_<name of the term>``.

    A reviewer of C-SAM's predecessor saw no label in its loss. Stability, margin ratio and consistency are smallest
    when every image gets the same confident answer, so we have this term, on by default; without it watch for a
    collapse.

    Args:
        weight: As in :class:`Term`.

    Example:
        >>> import torch
        >>> from mmsharp.pruning.mask_search import Outputs, Passes
        >>> outputs = Outputs(torch.zeros(1, 1, 2))
        >>> losses = {'loss_cls': [torch.tensor(1.0), torch.tensor(2.0)], 'accuracy': 90}
        >>> Task(weight=2.0).losses('task', Passes(outputs, outputs, None, None, losses, {}))
        {'loss_cls': [tensor(2.), tensor(4.)], 'accuracy': 90}
    """

    passes: ClassVar[frozenset[str]] = frozenset({'perturbed', 'task'})
    ascends: ClassVar[bool] = True

    def value(self, passes: Passes) -> Tensor:
        """Their sum, as MMEngine takes it."""
        return total_loss(self._of(passes))

    def losses(self, name: str, passes: Passes) -> dict[str, Any]:
        """Each loss times the weight; what is only logged stays as it is."""
        return {
            f'loss_{name}' if key == 'loss' else key: self._weighted(value) if 'loss' in key else value
            for key, value in self._of(passes).items()
        }

    def _weighted(self, value: Any) -> Any:
        return [self.weight * part for part in value] if isinstance(value, (list, tuple)) else self.weight * value

    @staticmethod
    def _of(passes: Passes) -> dict[str, Any]:
        if passes.task is None:
            raise MmsharpError("Task: it needs the network's own losses")
        return dict(passes.task)
