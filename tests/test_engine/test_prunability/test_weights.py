"""Random weights that hide nothing."""

import torch
from torch import nn

from mmsharp.engine.prunability.weights import randomise_


def test_nothing_stays_constant():
    """Zero biases, scales of one, zero-initialised layers and statistics all move; drawn weights do not."""
    torch.manual_seed(0)
    model = nn.Sequential(nn.Conv2d(3, 4, 3), nn.BatchNorm2d(4), nn.LayerNorm(4), nn.Linear(4, 4))
    nn.init.zeros_(model[3].weight)
    nn.init.zeros_(model[0].bias)
    drawn = model[0].weight.clone()
    randomise_(model, seed=1)
    assert torch.equal(model[0].weight, drawn)
    tensors = [*model.parameters(), model[1].running_mean, model[1].running_var]
    assert all(len(tensor.unique()) == tensor.numel() for tensor in tensors)
    assert model[1].running_var.min() > 0.4


def test_the_seed_decides():
    """Twice the same with one seed, another with another."""
    models = [nn.BatchNorm1d(3) for _ in range(3)]
    for model, seed in zip(models, (1, 1, 2)):
        randomise_(model, seed)
    assert torch.equal(models[0].weight, models[1].weight)
    assert not torch.equal(models[0].weight, models[2].weight)
