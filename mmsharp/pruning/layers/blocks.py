"""Blocks of the toolboxes that hold the number of their heads, or the width of their parts, in attributes of their own.

Attention splits ``heads * width`` channels into heads: a head is the unit that can go, with its share of the queries,
keys, values and of the output projection. Where the code takes these numbers from attributes, a row that names them is
enough; where it takes them from the width of its input, the row brings a forward for the slim block. A row holds for
the class whose own forward it was written for, named by its import path, so nothing here imports a toolbox.
"""

from __future__ import annotations

from collections.abc import Callable

from mmsharp.pruning.layers import attention_forwards as forwards
from mmsharp.pruning.layers.kinds import Axis, LayerKind, defines_forward


def _heads(name: str, *paths: str, width: str | None = None, forward: Callable | None = None) -> LayerKind:
    """A row of an attention block: ``num_heads``, an attribute with the width of all heads."""
    axes = {'heads': Axis({}, ('num_heads',))}
    if width is not None:
        axes['width'] = Axis({}, (width,), runs_of='heads')
    return LayerKind(name, defines_forward(*paths), axes, forward)


def _stored_width(name: str, *paths: str, attribute: str, of: tuple[str, str]) -> LayerKind:
    """A row of a block with an attribute that its code takes for the width of a layer inside."""
    return LayerKind(name, defines_forward(*paths), {'width': Axis({}, (attribute,), same_as=of)})


_IS_TORCH_ATTENTION = defines_forward('torch.nn.modules.activation.MultiheadAttention')
_UTILS = 'mmpretrain.models.utils.attention'
_BACKBONES = 'mmpretrain.models.backbones'
_LISTS_ITS_WIDTHS = defines_forward(
    'mmdet.models.backbones.swin.SwinTransformer',
    f'{_BACKBONES}.swin_transformer.SwinTransformer',
    f'{_BACKBONES}.davit.DaViT',
)
is_biased_attention = defines_forward(
    f'{_UTILS}.LeAttention',
    f'{_BACKBONES}.levit.Attention',
    f'{_BACKBONES}.levit.AttentionSubsample',
    f'{_BACKBONES}.efficientformer.AttentionWithBias',
)

BLOCK_KINDS: tuple[LayerKind, ...] = (
    _heads('MultiheadAttention', f'{_UTILS}.MultiheadAttention', width='embed_dims'),
    _heads(
        'ChannelAttention',
        f'{_UTILS}.ChannelMultiheadAttention',
        f'{_BACKBONES}.davit.ChannelAttention',
        width='embed_dims',
    ),
    LayerKind(
        'BiasedAttention',
        is_biased_attention,
        {
            'heads': Axis({'attention_biases': 0, 'ab': 0}, ('num_heads',)),  # see cached_biases.py
            'width': Axis({}, ('dh',), runs_of='heads'),
        },
    ),
    _heads('MultiScaleAttention', f'{_BACKBONES}.mvit.MultiScaleAttention', width='out_dims'),
    _heads('AttentionByHeads', f'{_BACKBONES}.vit_eva02.AttentionWithRoPE', f'{_BACKBONES}.vit_sam.Attention'),
    _heads(
        'WindowAttention',
        f'{_UTILS}.WindowMSA',
        f'{_BACKBONES}.davit.DaViTWindowMSA',
        'mmdet.models.backbones.swin.WindowMSA',
        forward=forwards.window_attention,
    ),
    _heads(
        'MixedWindowAttention', f'{_BACKBONES}.mixmim.MixMIMWindowAttention', forward=forwards.mixed_window_attention
    ),
    _heads('WindowAttentionV2', f'{_UTILS}.WindowMSAV2', forward=forwards.window_attention_v2),
    _heads('BEiTAttention', f'{_UTILS}.BEiTAttention', forward=forwards.beit_attention),
    _heads(
        'LocalAttention', f'{_BACKBONES}.twins.LocallyGroupedSelfAttention', forward=forwards.locally_grouped_attention
    ),
    _heads(
        'SubsampledAttention',
        f'{_BACKBONES}.twins.GlobalSubsampledAttention',
        width='embed_dims',
        forward=forwards.subsampled_attention,
    ),
    _heads('CrossCovarianceAttention', f'{_BACKBONES}.xcit.XCA', forward=forwards.cross_covariance_attention),
    _heads('ClassAttention', f'{_BACKBONES}.xcit.ClassAttntion', forward=forwards.class_attention),
    _heads('HierarchicalAttention', f'{_BACKBONES}.hivit.Attention', forward=forwards.hierarchical_attention),
    _heads('ConditionalAttention', 'mmdet.models.layers.transformer.utils.ConditionalAttention', width='embed_dims'),
    LayerKind(
        'TorchAttention',
        lambda m: _IS_TORCH_ATTENTION(m) and m.bias_k is None and not m.add_zero_attn,
        {'heads': Axis({}, ('num_heads',))},
        forwards.torch_multihead_attention,
        head_width='head_dim',
    ),
    LayerKind(
        'Bottle2neck',
        defines_forward(f'{_BACKBONES}.res2net.Bottle2neck', 'mmdet.models.backbones.res2net.Bottle2neck'),
        {'part': Axis({}, ('width',))},
    ),
    LayerKind(
        'SDTAEncoder', defines_forward(f'{_BACKBONES}.edgenext.SDTAEncoder'), {'part': Axis({}, ('conv_channels',))}
    ),
    _stored_width(
        'SwinStage',
        f'{_BACKBONES}.swin_transformer.SwinBlockSequence',
        attribute='embed_dims',
        of=('blocks.0.norm1', 'out'),
    ),
    _stored_width(
        'SwinStageV2',
        f'{_BACKBONES}.swin_transformer_v2.SwinBlockV2Sequence',
        attribute='out_channels',
        of=('blocks.0.norm1', 'out'),
    ),
    _stored_width(
        'PatchMerging', 'mmpretrain.models.utils.embed.PatchMerging', attribute='out_channels', of=('reduction', 'out')
    ),
    _stored_width('PixelEmbed', f'{_BACKBONES}.tnt.PixelEmbed', attribute='embed_dims_inner', of=('proj', 'out')),
    _stored_width('VANBlock', f'{_BACKBONES}.van.VANBlock', attribute='out_channels', of=('norm1', 'out')),
    _stored_width(
        'PositionEmbedding',
        'mmdet.models.backbones.pvt.AbsolutePositionEmbedding',
        attribute='pos_dim',
        of=('', 'pos_embed.2'),
    ),
    LayerKind(
        'DynamicConv',
        defines_forward('mmdet.models.layers.transformer.utils.DynamicConv'),
        {
            'inner': Axis({}, ('feat_channels',)),
            'first': Axis({}, ('num_params_in',), tiles_of='inner'),
            'last': Axis({}, ('num_params_out',), runs_of='inner'),
        },
    ),
    LayerKind(
        'FourStages',
        lambda m: _LISTS_ITS_WIDTHS(m) and len(vars(m)['num_features']) == 4,
        {f'stage{i}': Axis({}, (f'num_features.{i}',), same_as=(f'norm{i}', 'out')) for i in range(4)},
    ),
)
"""``'heads'`` are the heads of an attention block, ``'width'`` the channels of all of them, ``'part'`` the channels of
each of the equal parts that a block splits its input into. ``'first'`` and ``'last'`` are the parts that a block cuts
off the two ends of a layer's channels; here they are the weights of a product with the ``'inner'`` channels and of one
from them."""
