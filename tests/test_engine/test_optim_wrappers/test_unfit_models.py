"""Models that a second pass cannot be made on."""

import pytest
import torch
from small_network import ALL_ASCENTS, Network, train, wrapped
from torch import nn
from torch.nn.parallel import DistributedDataParallel

from mmsharp.engine.optim_wrappers.unfit_models import refuse_static_graph
from mmsharp.errors import MmsharpError
from mmsharp.sharpness import SAM


def test_a_compiled_train_step_is_refused_at_the_first_step():
    """The second pass cannot be repeated out of it; plain training would be a lie."""
    model = Network()
    wrapper = wrapped(model, SAM())
    model.train_step = torch.compile(model.train_step, backend='eager')
    with pytest.raises(MmsharpError, match='compile=False'), wrapper.optim_context(model):
        pass


@pytest.mark.parametrize('ascent', ALL_ASCENTS)
def test_a_model_compiled_inside_trains_alike(ascent):
    """What the refusal advises: the layers are compiled, and train_step is not."""
    ends = []
    for compiled in (False, True):
        model = Network()
        if compiled:
            model.layers.compile(backend='aot_eager')
        ends.append(train(model, wrapped(model, dict(type=ascent)), steps=3))
    for name, value in ends[0].items():
        torch.testing.assert_close(ends[1][name], value, rtol=1e-5, atol=1e-6)


def test_a_sharded_model_is_refused_at_the_first_step():
    """Norms and masks of pieces are not those of parameters."""

    class FullyShardedDataParallel(Network):
        pass

    model = FullyShardedDataParallel()
    with pytest.raises(MmsharpError, match='MMDistributedDataParallel'), wrapped(model, SAM()).optim_context(model):
        pass


def test_a_static_graph_is_refused():
    """By name, where PyTorch would ask for a bug report."""

    class Wrapper(DistributedDataParallel):
        def __init__(self, module, static_graph):
            nn.Module.__init__(self)
            self.module, self.static_graph = module, static_graph

    with pytest.raises(MmsharpError, match='static_graph=True'):
        refuse_static_graph(Wrapper(Network(), True))
    refuse_static_graph(Wrapper(Network(), False))
    refuse_static_graph(Network())
