"""How far rounding moves a model, against what is known of it."""

import torch
from torch import nn

from mmsharp.engine.export.own_rounding import own_rounding


class Cancels(nn.Module):
    """``(x + c) - c`` loses the digits of ``x`` that ``c`` has no room for."""

    def __init__(self, constant):
        super().__init__()
        self.constant = constant

    def forward(self, images):
        return images, (images + self.constant) - self.constant


def test_rounding_is_that_of_the_numbers():
    """2^10 beside numbers of order 1 leaves float32 24 - 10 bits of them; what is handed on loses one ulp at most."""
    images = torch.rand(2, 3, 8, 8, generator=torch.Generator().manual_seed(0))
    same, cancelled = own_rounding(Cancels(2.0**10), images)
    assert 2.0**-17 < cancelled < 2.0**-12
    assert same < 2.0**-21


def test_the_model_stays_as_it_was():
    """A copy goes to float64."""

    class Scores(nn.Linear):
        def forward(self, images):
            return (super().forward(images),)

    model = Scores(3, 2)
    before = model.weight.clone()
    (moved,) = own_rounding(model, torch.ones(1, 3))
    assert moved < 1e-5
    assert model.weight.dtype == torch.float32
    assert torch.equal(model.weight, before)


def test_an_output_without_elements_is_not_moved():
    """No boxes, no difference."""

    class Nothing(nn.Module):
        def forward(self, images):
            return (images[:0],)

    assert own_rounding(Nothing(), torch.ones(1, 3)) == [0.0]
