"""Weights that hide nothing: no zero, no one, no equal numbers that would let a wrong cut go unnoticed."""

from __future__ import annotations

import torch
from torch import Tensor, nn

CONSTANT_NOISE = 0.1


@torch.no_grad()
def randomise_(model: nn.Module, seed: int) -> None:
    """Move everything that initialisation leaves constant away from it, in place.

    Statistics and affines of batch normalisation are drawn around their start; any other parameter whose elements are
    all equal (zero biases, layer scales of 1e-6, zero-initialised last layers) gets normal noise: of 0.1 where it
    has one dimension, of ``0.1 / sqrt(inputs)`` where it is a matrix or a filter. Convolutions of DetectoRS, which
    standardise their weights, get back the scale and the mean of their own weights, as when they are loaded.

    Example:
        >>> layer = nn.Linear(2, 4)
        >>> _ = nn.init.zeros_(layer.bias)
        >>> randomise_(layer, seed=0)
        >>> len(layer.bias.unique())
        4
    """
    generator = torch.Generator().manual_seed(seed)
    for module in model.modules():
        if isinstance(module, nn.modules.batchnorm._BatchNorm):
            if module.running_mean is not None and module.running_var is not None:
                module.running_mean.normal_(0, 0.3, generator=generator)
                module.running_var.uniform_(0.5, 1.5, generator=generator)
            if module.affine:
                module.weight.uniform_(0.5, 1.5, generator=generator)
                module.bias.normal_(0, 0.3, generator=generator)
            continue
        if {'weight_gamma', 'weight_beta'} <= module._buffers.keys():
            gamma, beta, weight = module.weight_gamma, module.weight_beta, module.weight
            assert isinstance(gamma, Tensor)
            assert isinstance(beta, Tensor)
            assert isinstance(weight, Tensor)
            gamma.copy_(weight.flatten(1).std(dim=1).view_as(gamma))
            beta.copy_(weight.flatten(1).mean(dim=1).view_as(beta))
        for parameter in module.parameters(recurse=False):
            if parameter.numel() > 1 and parameter.is_floating_point() and bool((parameter == parameter.min()).all()):
                inputs = parameter[0].numel() if parameter.dim() > 1 else 1
                noise = torch.randn(parameter.shape, generator=generator) * CONSTANT_NOISE / inputs**0.5
                parameter.add_(noise.to(parameter))
