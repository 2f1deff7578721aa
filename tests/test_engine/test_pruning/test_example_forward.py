"""Laws of the forward that shows the groups: the shape decides it, and nothing of the data but that."""

import pytest
import torch
from mmengine.model import BaseModel
from torch import nn

from mmsharp.engine.pruning.example_forward import example_forward
from mmsharp.errors import MmsharpError


class Convolution(BaseModel):
    def __init__(self) -> None:
        super().__init__()
        self.layer = nn.Conv2d(3, 2, 3)

    def forward(self, inputs, data_samples=None, mode='tensor'):
        return self.layer(inputs)


def batch(height, width, seed=0):
    return dict(inputs=torch.randn(2, 3, height, width, generator=torch.Generator().manual_seed(seed)))


def test_other_images_of_the_shape_give_the_same_forward():
    """One image of fixed numbers, bit for bit."""
    model = Convolution()
    (shape, one), (_, other) = (example_forward(model, batch(8, 6, seed)) for seed in (0, 1))
    assert shape == (3, 8, 6)
    assert one(model).shape == (1, 2, 6, 4)
    assert torch.equal(one(model), other(model))


def test_the_first_shape_goes_on():
    """Whatever the batch of now has, also in the forward itself."""
    model = Convolution()
    shape, forward = example_forward(model, batch(16, 12), (3, 8, 6))
    assert shape == (3, 8, 6)
    assert torch.equal(forward(model), example_forward(model, batch(8, 6))[1](model))


def test_inputs_that_are_no_image_tensor_are_named():
    """Several views, as in self-supervised learning."""
    views = dict(inputs=[torch.zeros(2, 3, 8, 8), torch.zeros(2, 3, 8, 8)])
    with pytest.raises(MmsharpError, match=r'inputs of type list.*one image tensor'):
        example_forward(Convolution(), views)
