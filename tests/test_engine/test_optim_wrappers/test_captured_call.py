"""The second pass is the call of the first: its inputs, its data samples, its random numbers."""

import pytest
import torch
from mmengine.structures import BaseDataElement
from small_network import SEEN_SHIFTS, Network, batch, wrapped

from mmsharp.errors import MmsharpError
from mmsharp.sharpness import SAM


def test_both_passes_draw_the_same_random_numbers():
    """The dropout mask of the second pass is that of the first; the stream goes on as after one pass."""
    model = Network()
    masks: list[torch.Tensor] = []
    model.layers[3].register_forward_hook(lambda _, inputs, outputs: masks.append((outputs == 0) & (inputs[0] != 0)))
    wrapper = wrapped(model, SAM(rho=1e-6))
    torch.manual_seed(3)
    model.train_step(batch(), wrapper)
    after = torch.rand(1)
    assert len(masks) == 2
    assert torch.equal(masks[0], masks[1])
    assert masks[0].any()
    torch.manual_seed(3)
    model(**batch())
    assert torch.equal(after, torch.rand(1))


def test_both_passes_see_the_same_data_samples():
    """A forward that changes its data samples changes a copy in the second pass."""
    model = Network()
    sample = BaseDataElement()
    sample.shift = 2.0
    SEEN_SHIFTS.clear()
    model.train_step(dict(**batch(), data_samples=[sample]), wrapped(model, SAM()))
    assert SEEN_SHIFTS == [2.0, 2.0]


def test_inputs_changed_in_place_by_the_forward_are_refused():
    """Images are not copied; a forward that overwrites them cannot be repeated."""
    model = Network()
    wrapper = wrapped(model, SAM())
    model.layers[0].register_forward_pre_hook(lambda _, inputs: (inputs[0].mul_(2),))
    with wrapper.optim_context(model):
        loss = model(**batch())['loss']
    with pytest.raises(MmsharpError, match='in place'):
        wrapper.update_params(loss)
