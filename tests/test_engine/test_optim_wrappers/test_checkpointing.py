"""Activation checkpoints under an ascent."""

import pytest
import torch
from small_network import ALL_ASCENTS, Network, batch, wrapped
from torch.utils.checkpoint import checkpoint


@pytest.mark.parametrize('reentrant', [True, False])
@pytest.mark.parametrize('ascent', ALL_ASCENTS)
def test_activation_checkpointing_changes_nothing(ascent, reentrant):
    """with_cp and MMEngine's switch reenter autograd, which an ascent cannot see through; here they do not."""

    class Checkpointed(Network):
        def forward(self, inputs, data_samples=None, mode='loss'):
            hidden = checkpoint(self.layers[2:4], self.layers[:2](inputs), use_reentrant=reentrant)
            return dict(loss=checkpoint(self.layers[4:], hidden, use_reentrant=reentrant).square().mean())

    ends = []
    for kind in (Network, Checkpointed):
        model = kind(dropout=0.3)
        wrapper = wrapped(model, dict(type=ascent))
        torch.manual_seed(7)
        for step in range(3):
            model.train_step(batch(step), wrapper)
        ends.append(dict(model.layers.named_parameters()))
    for key, value in ends[0].items():
        torch.testing.assert_close(ends[1][key], value, rtol=1e-5, atol=1e-6)
