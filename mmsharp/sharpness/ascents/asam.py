"""ASAM: a ball whose axes scale with the weights, so that rescaling a layer does not change the sharpness.

Kwon et al. (2021), "ASAM: Adaptive Sharpness-Aware Minimization for Scale-Invariant Learning of Deep Neural Networks",
equation (7) and algorithm 1, element-wise operator of section 3. Read beside it: SamsungLabs/ASAM.
"""

from __future__ import annotations

from collections.abc import Iterator, Sequence

import torch
from torch import Tensor

from mmsharp.registry import ASCENTS
from mmsharp.sharpness.ascents.ascent import TINY, Ascent, Turn, gradient_norm, validate_radius
from mmsharp.sharpness.parameters import AscentParameter

PIECE = 2**19
"""Numbers that are worked on at a time on CPUs: few enough for the cache, enough to be worth the calls."""


@ASCENTS.register_module()
class ASAM(Ascent):
    r"""``eps = rho * T^2 g / ||T g||_2`` with ``T = |w| + eta`` for weights and ``T = 1`` for biases.

    Kwon et al. (2021), equation (7) and algorithm 1, element by element. ``g``, ``T`` and ``eps`` have the shapes and
    dtypes of the parameters. Departures: none; 1e-12 is added to the norm, so that a zero gradient gives ``eps = 0``.

    Args:
        rho: Radius, without unit (a fraction of the weights, spread over the network); 0.5 for CIFAR-10 and 1.0 for
            CIFAR-100 in the authors' repository.
        eta: Floor of the operator, in the units of the weights; 0.01 is the authors' class default.

    Raises:
        MmsharpError: ``rho`` or ``eta`` is negative or not a number.

    Example:
        >>> from torch import nn
        >>> from mmsharp.sharpness import select_parameters
        >>> layer = nn.Linear(2, 1, bias=False)
        >>> _ = nn.init.constant_(layer.weight, 2.0)
        >>> gradient = torch.tensor([[3.0, 4.0]])
        >>> _ = ASAM(rho=0.5, eta=0.0).perturb_(select_parameters(layer), [gradient], [None])
        >>> [round(value, 4) for value in gradient[0].tolist()]
        [0.6, 0.8]
    """

    def __init__(self, rho: float = 0.5, eta: float = 0.01) -> None:
        self.rho = validate_radius('rho', rho)
        self.eta = validate_radius('eta', eta)

    def turn_(
        self,
        parameters: Sequence[AscentParameter],
        gradients: Sequence[Tensor],
        keep: Sequence[Tensor | None],
    ) -> Turn:
        """Overwrite the gradients with ``T^2 g``, and give the factor ``rho / ||T g||``; see the base class."""
        norm, scaled_norms = norm_and_scale_twice_(gradients, parameters, self.eta)
        factor = self.rho / (torch.linalg.vector_norm(torch.stack(scaled_norms)) + TINY)
        return Turn(norm, norm.new_full((), self.rho), factor)


def norm_and_scale_twice_(
    gradients: Sequence[Tensor], parameters: Sequence[AscentParameter], eta: float
) -> tuple[Tensor, list[Tensor]]:
    """``g <- T^2 g`` in place for each of them.

    Returns:
        ``||g||_2`` over all of them before, and ``||T g||_2`` of each, 0-d float32.
    """
    if all(gradient.device.type == 'cpu' for gradient in gradients):
        # One piece of memory for all: what is allocated anew for each piece costs more than what is computed in it.
        scratch = gradients[0].new_empty(min(PIECE, max(gradient.numel() for gradient in gradients)))
        pairs = [
            scale_twice_(gradient, parameter, eta, scratch=scratch)
            for gradient, parameter in zip(gradients, parameters)
        ]
        return torch.linalg.vector_norm(torch.stack([norm for norm, _ in pairs])), [scaled for _, scaled in pairs]
    norm = gradient_norm(gradients)
    return norm, [scale_twice_(gradient, parameter, eta, norm)[1] for gradient, parameter in zip(gradients, parameters)]


def scale_twice_(
    gradient: Tensor,
    parameter: AscentParameter,
    eta: float | Tensor,
    norm: Tensor | None = None,
    scratch: Tensor | None = None,
) -> tuple[Tensor, Tensor]:
    """``g <- T^2 g`` in place, with ``T = |w| + eta`` for weights and the identity for other parameters.

    On CPUs the gradient is taken in pieces: what is computed from a piece is used while it is in the cache.

    Args:
        gradient: Overwritten.
        parameter: What it is the gradient of.
        eta: Floor of ``T``.
        norm: Anything, where ``||g||_2`` is known already and need not be computed.
        scratch: Memory for ``T`` of a piece, overwritten; used where it is large enough and of the weights' dtype.

    Returns:
        ``||g||_2`` before (or ``norm``) and ``||T g||_2``, 0-d float32.

    Example:
        >>> from torch import nn
        >>> layer = nn.Linear(1, 1)
        >>> _ = nn.init.constant_(layer.weight, -2.0)
        >>> gradient = torch.ones(1, 1)
        >>> before, scaled = scale_twice_(gradient, AscentParameter('weight', layer.weight, 0, True), eta=0.5)
        >>> before.item(), scaled.item(), gradient.item()
        (1.0, 2.5, 6.25)
    """
    if not parameter.scaled:
        whole = torch.linalg.vector_norm(gradient).float()
        return whole, whole
    norms, scaled_norms = [], []
    for piece, weight in _pieces(gradient, parameter.tensor.detach()):
        scale = operator(weight, eta, scratch)
        if norm is None:
            norms.append(torch.linalg.vector_norm(piece).float())
        scaled_norms.append(torch.linalg.vector_norm(piece.mul_(scale)).float())
        piece.mul_(scale)
    before = torch.linalg.vector_norm(torch.stack(norms)) if norm is None else norm
    return before, torch.linalg.vector_norm(torch.stack(scaled_norms))


def operator(weight: Tensor, eta: float | Tensor, scratch: Tensor | None = None) -> Tensor:
    """``T = |w| + eta``, in the scratch memory where it fits, else a new tensor."""
    if scratch is None or scratch.dtype != weight.dtype or scratch.numel() < weight.numel():
        return weight.abs().add_(eta)
    return torch.abs(weight, out=scratch[: weight.numel()].view(weight.shape)).add_(eta)


def _pieces(gradient: Tensor, weight: Tensor) -> Iterator[tuple[Tensor, Tensor]]:
    whole = gradient.is_contiguous() and weight.is_contiguous()
    if gradient.device.type != 'cpu' or not whole or gradient.numel() <= PIECE:
        yield gradient, weight
    else:
        yield from zip(gradient.view(-1).split(PIECE), weight.view(-1).split(PIECE))
