"""The ascent of a few layers at a time, drawn anew in each step.

Cheng et al. (2026), "Sparse Layer Sharpness-Aware Minimization for Efficient Fine-Tuning", arXiv 2602.09395 (SL-SAM).
"""

from __future__ import annotations

import math
import random
from collections.abc import Sequence

from mmsharp.errors import MmsharpError
from mmsharp.registry import POLICIES
from mmsharp.sharpness.parameters import AscentParameter
from mmsharp.sharpness.policies.policy import Policy


@POLICIES.register_module()
class RandomLayers(Policy):
    """Each step perturbs ``ceil(fraction * layers)`` layers, drawn without replacement.

    After SL-SAM, Cheng et al. (2026). A layer is what a module holds itself. The first backward pass computes the
    weights' gradients of these layers alone, and goes no deeper than the deepest of them. Departures from the paper: it
    draws by gradient norm, as in a bandit problem, where we draw evenly, which needs no gradient to have been seen; and
    it also leaves the other layers out of the update, where we train all.

    Args:
        fraction: Share of the layers, in (0, 1].
        seed: Of the draw; the layers of step ``t`` depend on ``(seed, t)`` alone and are the same on all processes.

    Raises:
        MmsharpError: ``fraction`` is outside (0, 1], or ``seed`` no whole number.

    Example:
        >>> from torch import nn
        >>> from mmsharp.sharpness import select_parameters
        >>> parameters = select_parameters(nn.Sequential(nn.Linear(1, 1), nn.Linear(1, 1)))
        >>> [parameter.name for parameter in RandomLayers(fraction=0.5).select(0, parameters)]
        ['1.weight', '1.bias']
    """

    def __init__(self, fraction: float = 0.5, seed: int = 0) -> None:
        if isinstance(fraction, bool) or not isinstance(fraction, (int, float)) or not 0 < fraction <= 1:
            raise MmsharpError(f'RandomLayers: fraction={fraction!r} is not a share in (0, 1]')
        if isinstance(seed, bool) or not isinstance(seed, int):
            raise MmsharpError(f'RandomLayers: seed={seed!r} is not a whole number')
        self.fraction = float(fraction)
        self.seed = seed

    def select(self, step: int, parameters: Sequence[AscentParameter]) -> Sequence[AscentParameter]:
        """The parameters of this step's layers, in the model's order."""
        layers = sorted({_layer(parameter) for parameter in parameters})
        drawn = random.Random(f'{self.seed}/{step}').sample(layers, math.ceil(self.fraction * len(layers)))
        chosen = set(drawn)
        return [parameter for parameter in parameters if _layer(parameter) in chosen]


def _layer(parameter: AscentParameter) -> str:
    return parameter.name.rpartition('.')[0]
