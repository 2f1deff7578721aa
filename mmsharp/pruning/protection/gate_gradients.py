r"""Gate gradients: what closing a channel would cost to first order, read from the layers that read the channel.

With a gate ``z_j = 1`` that multiplies channel ``j`` wherever it is read, ``dL/dz_j = sum of gradient * activation``.
For layers that are linear in what they read this is ``sum over readers of <w_j, dL/dw_j>`` with ``w_j`` the weights
that read channel ``j``, so that it takes no activations: weights and gradients say it, as PSAP asks for. Molchanov et
al. (2017), "Pruning Convolutional Neural Networks for Resource Efficient Inference", arXiv 1611.06440, equation 8,
state it with activations. That PSAP's protection uses it is our addition, for filters that get no gradient themselves.
"""

from __future__ import annotations

import torch
from torch import Tensor, nn

from mmsharp.pruning.groups import ChannelGroup
from mmsharp.pruning.layers import layer_kind, layer_tensors


@torch.no_grad()
def gate_gradients(model: nn.Module, group: ChannelGroup) -> Tensor:
    """``| sum over the layers that read channel j of <w_j, dL/dw_j> |``.

    Not seen are readers in many groups, which have no weights of their own per channel, and parameters without
    ``.grad``; a layer that standardises its weights is seen through that.

    Args:
        model: Its parameters hold ``.grad``.
        group: The group.

    Returns:
        Float32 of shape ``(group.channels,)``, on the device of the layers that read the channels.

    Example:
        >>> from mmsharp.pruning import find_groups, tensor_forward
        >>> model = nn.Sequential(nn.Linear(1, 2, bias=False), nn.ReLU(), nn.Linear(2, 1))
        >>> _ = model[0].weight.data.copy_(torch.tensor([[2.0], [-2.0]]))
        >>> _ = model[2].weight.data.copy_(torch.tensor([[3.0, 3.0]]))
        >>> group = find_groups(model, tensor_forward(torch.zeros(1, 1))).groups[0]
        >>> model(torch.ones(1, 1)).sum().backward()
        >>> gate_gradients(model, group).tolist()
        [6.0, 0.0]
    """
    total = torch.zeros(group.channels)
    for member in group.members:
        module = model.get_submodule(member.module)
        kind = layer_kind(module)
        axis = None if kind is None else kind.axis(member.axis)
        if member.axis != 'in' or axis is None:
            continue
        for tensor, dim in layer_tensors(module, axis).values():
            if tensor.grad is not None:
                products = (tensor * tensor.grad).float().movedim(dim, 0).flatten(1).sum(dim=1)
                total = total.to(products.device)
                here = products[member.positions.to(products.device)]
                total.index_add_(0, member.channels.to(products.device), here)
    return total.abs()
