"""SAM: one ball around the whole weight vector.

Foret et al. (2021), "Sharpness-Aware Minimization for Efficiently Improving Generalization", equation (2). Read beside
it: davda54/sam and google-research/sam.
"""

from __future__ import annotations

from collections.abc import Sequence

from torch import Tensor

from mmsharp.registry import ASCENTS
from mmsharp.sharpness.ascents.ascent import TINY, Ascent, Turn, gradient_norm, validate_radius
from mmsharp.sharpness.parameters import AscentParameter


@ASCENTS.register_module()
class SAM(Ascent):
    r"""``eps = rho * g / ||g||_2``, the norm taken over all parameters together.

    Foret et al. (2021), equation (2), with p = 2. ``g`` and ``eps`` have the shapes and dtypes of the parameters.
    Departures: 1e-12 is added to the norm, so that a zero gradient gives ``eps = 0``; weight decay is no part of the
    loss here, as in all PyTorch implementations (the paper's own code has it in the loss).

    Args:
        rho: Radius of the ball, in the units of the weights; 0.05 in the paper for CIFAR-10 and ImageNet. 0 gives
            the plain gradient, bit for bit.

    Raises:
        MmsharpError: ``rho`` is negative or not a number.

    Example:
        >>> import torch
        >>> from torch import nn
        >>> from mmsharp.sharpness import select_parameters
        >>> layer = nn.Linear(2, 1, bias=False)
        >>> gradient = torch.tensor([[3.0, 4.0]])
        >>> _ = SAM(rho=0.5).perturb_(select_parameters(layer), [gradient], [None])
        >>> [round(value, 4) for value in gradient[0].tolist()]
        [0.3, 0.4]
    """

    def __init__(self, rho: float = 0.05) -> None:
        self.rho = validate_radius('rho', rho)

    def turn_(
        self,
        parameters: Sequence[AscentParameter],
        gradients: Sequence[Tensor],
        keep: Sequence[Tensor | None],
    ) -> Turn:
        """Leave the gradients, and give the factor ``rho / ||g||``; see the base class."""
        norm = gradient_norm(gradients)
        return Turn(norm, norm.new_full((), self.rho), self.rho / (norm + TINY))
