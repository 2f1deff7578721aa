"""The contract of a perturbation."""

from __future__ import annotations

import math
from collections.abc import Mapping

from torch import Tensor

from mmsharp.errors import MmsharpError


class Perturbation:
    """Moves the variables of the masks for the perturbed pass.

    Attributes:
        needs_gradient: Whether it wants the gradient of the loss with regard to the variables, at the variables.
        moves: Whether it moves them at all; without, the perturbed pass is the unperturbed one.
    """

    needs_gradient: bool = False
    moves: bool = True

    def __call__(
        self, variables: Mapping[str, Tensor], gradients: Mapping[str, Tensor] | None = None
    ) -> dict[str, Tensor]:
        """What is added to each variable, detached.

        Args:
            variables: By name.
            gradients: Likewise, of the same shapes, where they are needed.
        """
        raise NotImplementedError


def validate_rho(owner: str, rho: float) -> float:
    """Refuse what is no finite number of at least 0.

    Raises:
        MmsharpError: Naming the owner.

    Example:
        >>> validate_rho('UniformPerturbation', 0.05)
        0.05
    """
    if isinstance(rho, bool) or not isinstance(rho, (int, float)) or not 0 <= rho < math.inf:
        raise MmsharpError(f'{owner}: rho is {rho!r}, expected a finite number of at least 0')
    return float(rho)
