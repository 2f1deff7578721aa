"""How a network is run to see what it does: forwards without post-processing, and the images for them."""

from mmsharp.pruning.forwards.forward import (
    Forward,
    TensorForward,
    looked_at,
    output_tensors,
    run_losses,
    tensor_forward,
)

__all__ = ['Forward', 'TensorForward', 'looked_at', 'output_tensors', 'run_losses', 'tensor_forward']
