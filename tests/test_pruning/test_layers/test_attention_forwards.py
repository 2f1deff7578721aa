"""The forwards of slim attention blocks compute what the classes of the toolboxes compute."""

import copy
import warnings
from functools import partial
from importlib import import_module

import pytest
import torch
from torch import nn

from mmsharp.pruning.layers import layer_kind

from ..conftest import vary_constants_


def tokens(*shape):
    return torch.randn(shape, generator=torch.Generator().manual_seed(1))


WINDOWS = torch.zeros(3, 4, 4).masked_fill(torch.eye(4, dtype=torch.bool), -100.0)
UTILS, BACKBONES = 'mmpretrain.models.utils.attention', 'mmpretrain.models.backbones'
# module, class, arguments of the class, arguments of its forward
BLOCKS = {
    'Swin': (UTILS, 'WindowMSA', (24, (2, 2), 3), (tokens(6, 4, 24),)),
    'Swin, shifted': (UTILS, 'WindowMSA', (24, (2, 2), 3), (tokens(6, 4, 24), WINDOWS)),
    'Swin of mmdet': ('mmdet.models.backbones.swin', 'WindowMSA', (24, 3, (2, 2)), (tokens(6, 4, 24), WINDOWS)),
    'Swin V2': (UTILS, 'WindowMSAV2', (24, (2, 2), 3), (tokens(6, 4, 24), WINDOWS)),
    'Swin V2 without biases': (UTILS, 'WindowMSAV2', (24, (2, 2), 3, False), (tokens(6, 4, 24),)),
    'DaViT': (f'{BACKBONES}.davit', 'DaViTWindowMSA', (24, (2, 2), 3), (tokens(6, 4, 24),)),
    'MixMIM': (f'{BACKBONES}.mixmim', 'MixMIMWindowAttention', (24, (2, 2), 3), (tokens(6, 4, 24),)),
    'MixMIM, mixed': (
        f'{BACKBONES}.mixmim',
        'MixMIMWindowAttention',
        (24, (2, 2), 3),
        (tokens(6, 4, 24), (tokens(6, 4, 1) > 0).float()),
    ),
    'BEiT': (UTILS, 'BEiTAttention', (24, 3, (2, 2), True), (tokens(2, 5, 24),)),
    'BEiT, shared biases': (UTILS, 'BEiTAttention', (24, 3, None, False), (tokens(2, 5, 24), tokens(3, 5, 5))),
    'BEiT, linear biases': (UTILS, 'BEiTAttention', (24, 3, None, False, True), (tokens(2, 5, 24),)),
    'Twins, local': (
        f'{BACKBONES}.twins',
        'LocallyGroupedSelfAttention',
        (24, 3, True, None, 0.0, 0.0, 2),
        (tokens(2, 15, 24), (3, 5)),
    ),
    'Twins, local, whole windows': (
        f'{BACKBONES}.twins',
        'LocallyGroupedSelfAttention',
        (24, 3, True, None, 0.0, 0.0, 2),
        (tokens(2, 24, 24), (4, 6)),
    ),
    'Twins, global': (
        f'{BACKBONES}.twins',
        'GlobalSubsampledAttention',
        partial(dict, embed_dims=24, num_heads=3, sr_ratio=2, norm_cfg=dict(type='LN')),
        (tokens(2, 16, 24), (4, 4)),
    ),
    'XCiT': (f'{BACKBONES}.xcit', 'XCA', (24, 3), (tokens(2, 7, 24),)),
    'XCiT, class token': (f'{BACKBONES}.xcit', 'ClassAttntion', (24, 3), (tokens(2, 7, 24),)),
    'HiViT': (f'{BACKBONES}.hivit', 'Attention', (2, 24, 3), (tokens(2, 4, 24), torch.ones(1))),
    'HiViT, masked': (
        f'{BACKBONES}.hivit',
        'Attention',
        (2, 24, 3),
        (tokens(2, 4, 24), None, torch.tensor([[1, 0, 1, 1], [1, 1, 1, 0]])),
    ),
}


@pytest.mark.filterwarnings('ignore:torch.meshgrid')
@pytest.mark.parametrize('name', BLOCKS)
def test_slim_forward_of_a_whole_block_is_its_own(name):
    """With all heads there, the forward for slim blocks gives what the class gives."""
    module, cls, arguments, inputs = BLOCKS[name]
    pytest.importorskip(module.split('.')[0])
    with warnings.catch_warnings():
        warnings.simplefilter('ignore')  # mmpretrain imports what mmcv has moved
        build = getattr(import_module(module), cls)
    block = vary_constants_(build(**arguments()) if callable(arguments) else build(*arguments)).eval()
    forward = layer_kind(block).slim_forward
    assert forward is not None
    with torch.no_grad():
        torch.testing.assert_close(forward(block, *inputs), block(*inputs), rtol=1e-5, atol=1e-6)


FLOAT_MASK = tokens(5, 5)
TORCH = {
    'itself': ({}, (tokens(5, 2, 24),) * 3, {}),
    'others': ({}, (tokens(5, 2, 24), tokens(3, 2, 24), tokens(3, 2, 24)), {}),
    'other widths': ({'kdim': 7, 'vdim': 9}, (tokens(5, 2, 24), tokens(3, 2, 7), tokens(3, 2, 9)), {}),
    'batch first, no biases': ({'batch_first': True, 'bias': False}, (tokens(2, 5, 24),) * 3, {}),
    'no batch': ({}, (tokens(5, 24),) * 3, {}),
    'a mask that adds': ({}, (tokens(5, 2, 24),) * 3, {'attn_mask': FLOAT_MASK}),
    'a mask that forbids': ({}, (tokens(5, 2, 24),) * 3, {'attn_mask': torch.triu(torch.ones(5, 5), 1).bool()}),
    'a mask per head': ({}, (tokens(5, 2, 24),) * 3, {'attn_mask': tokens(6, 5, 5)}),
    'padding': ({}, (tokens(5, 2, 24),) * 3, {'key_padding_mask': torch.tensor([[0, 0, 1, 0, 1], [0] * 5]).bool()}),
    'weights by head': ({}, (tokens(5, 2, 24),) * 3, {'average_attn_weights': False}),
    'no weights': ({}, (tokens(5, 2, 24),) * 3, {'need_weights': False}),
}


@pytest.mark.parametrize('name', TORCH)
def test_slim_forward_of_torch_attention(name):
    """The same for ``nn.MultiheadAttention``, outputs and attention weights."""
    settings, inputs, options = TORCH[name]
    torch.manual_seed(0)
    block = vary_constants_(nn.MultiheadAttention(24, 3, **settings))  # in training mode: no fused kernel, no dropout
    ours, theirs = layer_kind(block).slim_forward(block, *inputs, **options), block(*inputs, **options)
    torch.testing.assert_close(ours[0], theirs[0], rtol=1e-5, atol=1e-6)
    assert (ours[1] is None) == (theirs[1] is None)
    if theirs[1] is not None:
        torch.testing.assert_close(ours[1], theirs[1], rtol=1e-5, atol=1e-6)


def test_attention_with_learned_keys_has_no_slim_form():
    """Its extra keys are not in the forward for slim blocks, so it stays as it is."""
    assert layer_kind(nn.MultiheadAttention(24, 3, add_bias_kv=True)) is None
    assert layer_kind(nn.MultiheadAttention(24, 3, add_zero_attn=True)) is None


def test_a_slim_block_can_be_copied():
    """The forward of a copy is the copy's own."""
    block = nn.MultiheadAttention(24, 3)
    block.forward = partial(layer_kind(block).slim_forward, block)
    twin = copy.deepcopy(block)
    twin.out_proj.weight.data.zero_()
    inputs = (tokens(5, 2, 24),) * 3
    assert not twin(*inputs)[0].any()
    assert block(*inputs)[0].any()
