"""Which parameters move, while what trains changes."""

import pytest
from small_network import Network, batch, wrapped

from mmsharp.errors import MmsharpError
from mmsharp.sharpness import SAM


def test_unknown_filters_are_refused_at_construction():
    """Before any data is read."""
    with pytest.raises(MmsharpError, match='norm_only'):
        wrapped(Network(), SAM(), parameters='everything')


def test_parameters_on_which_no_loss_depends_are_refused():
    """By the name of the first, with what to change."""
    model = Network()
    with pytest.raises(MmsharpError, match=r'none of the 2 parameters.*unused\.weight.*choose other `parameters`'):
        model.train_step(batch(), wrapped(model, SAM(), parameters=['unused.*']))


def test_parameters_that_are_frozen_later_are_followed():
    """A stage frozen during training is left alone; with nothing left to move, it is an error and not plain SGD."""
    model = Network(dropout=0.0)
    wrapper = wrapped(model, SAM(), parameters=['layers.0.*', 'layers.5.*'])
    model.train_step(batch(0), wrapper)
    model.layers[0].requires_grad_(False)
    model.train_step(batch(1), wrapper)
    model.layers[5].requires_grad_(False)
    with pytest.raises(MmsharpError, match='frozen'):
        model.train_step(batch(2), wrapper)


def test_parameters_that_are_unfrozen_later_are_followed():
    """A stage that thaws during training is moved from then on."""
    model = Network(dropout=0.0)
    model.layers[0].requires_grad_(False)
    moved: list[set[str]] = []

    class Watched(SAM):
        def perturb_(self, parameters, gradients, keep):
            moved.append({parameter.name for parameter in parameters})
            return super().perturb_(parameters, gradients, keep)

    wrapper = wrapped(model, Watched())
    model.train_step(batch(0), wrapper)
    model.layers[0].requires_grad_(True)
    model.train_step(batch(1), wrapper)
    assert moved[1] - moved[0] == {'layers.0.weight', 'layers.0.bias'}
