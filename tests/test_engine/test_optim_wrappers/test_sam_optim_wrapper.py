"""What a config says to the wrapper of full precision."""

import copy

import pytest
import torch
from mmengine.optim import build_optim_wrapper
from small_network import Network, wrapped

from mmsharp.errors import MmsharpError
from mmsharp.sharpness import SAM


def test_config_is_not_changed_and_can_be_used_twice():
    """The parent pops `type` from clip_grad; ours does not pass that on."""
    config = dict(
        type='mmsharp.SAMOptimWrapper',
        ascent=dict(type='AdaSAP'),
        clip_grad=dict(type='value', clip_value=1.0),
        optimizer=dict(type='SGD', lr=0.1),
    )
    before = copy.deepcopy(config)
    for _ in range(2):
        wrapper = build_optim_wrapper(Network(), config)
        assert wrapper.clip_func is torch.nn.utils.clip_grad_value_
    assert config == before


@pytest.mark.parametrize('key', ['loss_scale', 'dtype', 'use_fsdp'])
def test_keys_that_a_config_inherits_from_mixed_precision_are_named(key):
    """Merging our type over an AmpOptimWrapper leaves them behind."""
    with pytest.raises(MmsharpError, match=rf'{key}=.*AmpSAMOptimWrapper'):
        wrapped(Network(), SAM(), **{key: 'dynamic'})
