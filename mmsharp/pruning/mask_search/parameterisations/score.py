"""Scores whose largest magnitudes stay: the variables of HYDRA."""

from __future__ import annotations

import math

import torch
from torch import Tensor

from mmsharp.pruning.mask_search.hard_masks import hard_mask, straight_through
from mmsharp.pruning.mask_search.parameterisations.parameterisation import Parameterisation
from mmsharp.registry import MASK_PARAMETERISATIONS


@MASK_PARAMETERISATIONS.register_module()
class Score(Parameterisation):
    """``s`` per entry; the network runs with the binary mask of the largest ``|s|``, straight through to ``|s|``.

    ``s = sqrt(6 / fan_in) * w / max|w|`` to begin with, per layer. Source: Sehwag et al. 2020, "HYDRA: Pruning
    Adversarially Robust Neural Networks" (arXiv 2002.10509), section 3 and the authors' code, read and not copied.

    Example:
        >>> Score().initial(torch.tensor([-2.0, 1.0]), fan_in=6).tolist()
        [-1.0, 0.5]
        >>> Score().mask(torch.tensor([-1.0, 0.5]), kept=1).tolist()
        [1.0, 0.0]
    """

    @torch.no_grad()
    def initial(self, values: Tensor, fan_in: int) -> Tensor:
        """``sqrt(6 / fan_in) * w / max|w|``."""
        largest = values.abs().max()
        return math.sqrt(6 / fan_in) * (values / largest if largest > 0 else torch.ones_like(values))

    def mask(self, variable: Tensor, kept: int) -> Tensor:
        """The binary mask of the ``kept`` largest ``|s|``, with the gradient of ``|s|``."""
        return straight_through(hard_mask(variable.abs(), kept), self.rank(variable))

    def rank(self, variable: Tensor) -> Tensor:
        """``|s|``."""
        return variable.abs()
