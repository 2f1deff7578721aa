"""Forwards of attention blocks that lost heads, for classes whose own forward takes all heads to be there.

The toolboxes' classes compute ``C // num_heads`` and reshape to ``C``, where ``C`` is the width of the block's input;
once a head is gone, the heads together are narrower than the input. The functions below compute the same with the
widths of the layers that are there. ``attention`` is the block; its arguments are those of its class's forward.
"""

from __future__ import annotations

from typing import Any

import torch
from torch import Tensor
from torch.nn import functional


def window_attention(attention: Any, x: Tensor, mask: Tensor | None = None) -> Tensor:
    """``WindowMSA`` of Swin (with a table of position biases) and DaViT (without): ``(windows, tokens, C)``."""
    q, k, v = _queries_keys_values(attention.qkv(x), attention.num_heads)
    scores = q * attention.scale @ k.transpose(-2, -1)
    if getattr(attention, 'relative_position_bias_table', None) is not None:
        scores = scores + _position_bias(attention, attention.relative_position_bias_table)
    return _projected(attention, _masked_softmax(attention, scores, mask) @ v)


def mixed_window_attention(attention: Any, x: Tensor, mask: Tensor | None = None) -> Tensor:
    """``MixMIMWindowAttention``: a mask ``(tokens of all windows, 1)`` says of which of two images each token is."""
    q, k, v = _queries_keys_values(attention.qkv(x), attention.num_heads)
    scores = q * attention.scale @ k.transpose(-2, -1)
    scores = scores + _position_bias(attention, attention.relative_position_bias_table)
    if mask is not None:
        mask = mask.reshape(x.shape[0], 1, 1, -1)
        other = 1 - (mask * mask.transpose(2, 3) + (1 - mask) * (1 - mask).transpose(2, 3))
        scores = scores - (65500 if other.dtype == torch.float16 else 1e30) * other
    return _projected(attention, attention.attn_drop(attention.softmax(scores)) @ v)


def window_attention_v2(attention: Any, x: Tensor, mask: Tensor | None = None) -> Tensor:
    """``WindowMSAV2`` of Swin V2: cosine attention with position biases from a small network."""
    q, k, v = _queries_keys_values(_with_biases(attention, x), attention.num_heads)
    scores = functional.normalize(q, dim=-1) @ functional.normalize(k, dim=-1).transpose(-2, -1)
    scores = scores * torch.clamp(attention.logit_scale, max=4.605170185988092).exp()  # log(100), the class's own
    table = attention.cpb_mlp(attention.relative_coords_table).view(-1, attention.num_heads)
    scores = scores + 16 * torch.sigmoid(_position_bias(attention, table))
    return _projected(attention, _masked_softmax(attention, scores, mask) @ v)


def beit_attention(attention: Any, x: Tensor, rel_pos_bias: Tensor | None = None) -> Tensor:
    """``BEiTAttention``: its own table of position biases, one shared by all blocks, or none."""
    qkv = _with_biases(attention, x) if attention.bias == 'qv_bias' else attention.qkv(x)
    q, k, v = _queries_keys_values(qkv, attention.num_heads)
    scores = q * attention.scale @ k.transpose(-2, -1)
    if attention.relative_position_bias_table is not None:
        scores = scores + _position_bias(attention, attention.relative_position_bias_table)
    if rel_pos_bias is not None:
        scores = scores + rel_pos_bias
    return _projected(attention, attention.attn_drop(scores.softmax(dim=-1)) @ v)


def locally_grouped_attention(attention: Any, x: Tensor, hw_shape: tuple[int, int]) -> Tensor:
    """``LocallyGroupedSelfAttention`` of Twins: attention inside each window of a padded map."""
    (batch, tokens, width), (height, length), side = x.shape, hw_shape, attention.window_size
    pad_right, pad_bottom = -length % side, -height % side
    x = functional.pad(x.view(batch, height, length, width), (0, 0, 0, pad_right, 0, pad_bottom))
    rows, columns = (height + pad_bottom) // side, (length + pad_right) // side
    padding = torch.zeros((1, rows * side, columns * side), device=x.device)
    padding[:, -pad_bottom:, :].fill_(1)  # of everything where nothing is padded, as the class has it
    padding[:, :, -pad_right:].fill_(1)
    x = x.reshape(batch, rows, side, columns, side, width).transpose(2, 3)
    padding = padding.reshape(1, rows, side, columns, side).transpose(2, 3).reshape(1, rows * columns, side * side)
    difference = padding.unsqueeze(2) - padding.unsqueeze(3)
    mask = torch.zeros_like(difference).masked_fill(difference != 0, -1000.0)
    qkv = attention.qkv(x).reshape(batch, rows * columns, side * side, 3, attention.num_heads, -1)
    q, k, v = qkv.permute(3, 0, 1, 4, 2, 5).unbind(0)
    scores = (q @ k.transpose(-2, -1)) * attention.scale + mask.unsqueeze(2)
    x = (attention.attn_drop(scores.softmax(dim=-1)) @ v).transpose(2, 3)
    x = x.reshape(batch, rows, columns, side, side, -1).transpose(2, 3)
    x = x.reshape(batch, rows * side, columns * side, -1)[:, :height, :length, :].reshape(batch, tokens, -1)
    return attention.proj_drop(attention.proj(x))


def subsampled_attention(attention: Any, x: Tensor, hw_shape: tuple[int, int]) -> Tensor:
    """``GlobalSubsampledAttention`` of Twins: keys and values of a map that a convolution has made smaller."""
    batch, tokens, width = x.shape
    q = attention.q(x).reshape(batch, tokens, attention.num_heads, -1).permute(0, 2, 1, 3)
    if attention.sr_ratio > 1:
        x = attention.sr(x.permute(0, 2, 1).reshape(batch, width, *hw_shape))
        x = attention.norm(x.flatten(2).permute(0, 2, 1))
    k, v = attention.kv(x).reshape(batch, -1, 2, attention.num_heads, attention.head_dims).permute(2, 0, 3, 1, 4)
    dropped = attention.attn_drop if attention.training else 0.0
    x = attention.scaled_dot_product_attention(q, k, v, dropout_p=dropped)
    x = attention.proj(x.transpose(1, 2).reshape(batch, tokens, -1))
    return attention.out_drop(attention.proj_drop(x))


def cross_covariance_attention(attention: Any, x: Tensor) -> Tensor:
    """``XCA`` of XCiT: attention between the channels of each head."""
    batch, tokens, _ = x.shape
    qkv = attention.qkv(x).reshape(batch, tokens, 3, attention.num_heads, -1)
    q, k, v = qkv.permute(2, 0, 3, 4, 1).unbind(0)
    scores = functional.normalize(q, dim=-1) @ functional.normalize(k, dim=-1).transpose(-2, -1)
    weights = attention.attn_drop((scores * attention.temperature).softmax(dim=-1))
    x = (weights @ v).permute(0, 3, 1, 2).reshape(batch, tokens, -1)
    return attention.proj_drop(attention.proj(x))


def class_attention(attention: Any, x: Tensor) -> Tensor:
    """``ClassAttntion`` of XCiT: only the class token asks."""

    def by_head(values: Tensor) -> Tensor:
        return values.reshape(x.shape[0], -1, attention.num_heads, values.shape[-1] // attention.num_heads).transpose(
            1, 2
        )

    q, k, v = by_head(attention.q(x[:, :1])), by_head(attention.k(x)), by_head(attention.v(x))
    weights = attention.attn_drop((q * attention.scale @ k.transpose(-2, -1)).softmax(dim=-1))
    return _projected(attention, weights @ v)


def hierarchical_attention(
    attention: Any, x: Tensor, rpe_index: Tensor | None = None, mask: Tensor | None = None
) -> Tensor:
    """Attention of HiViT: with a table of position biases, and tokens that may be left out."""
    q, k, v = _queries_keys_values(attention.qkv(x), attention.num_heads)
    scores = q * attention.scale @ k.transpose(-2, -1)
    if rpe_index is not None:
        scores = scores + _position_bias(attention, attention.relative_position_bias_table)
    if mask is not None:
        scores = scores.masked_fill(~mask.bool()[:, None, None, :], float('-inf'))
    return _projected(attention, attention.attn_drop(attention.softmax(scores)) @ v)


def torch_multihead_attention(
    attention: Any,
    query: Tensor,
    key: Tensor,
    value: Tensor,
    key_padding_mask: Tensor | None = None,
    need_weights: bool = True,
    attn_mask: Tensor | None = None,
    average_attn_weights: bool = True,
    is_causal: bool = False,
) -> tuple[Tensor, Tensor | None]:
    """``nn.MultiheadAttention``: ``(tokens, batch, C)``, or batch first, or without a batch; masks forbid or add.

    ``is_causal`` is a hint there that comes with the mask it stands for, and is not needed here.
    """
    batched, swap = query.dim() == 3, attention.batch_first and query.dim() == 3

    def by_head(x: Tensor, weight: Tensor, bias: Tensor | None) -> Tensor:
        x = functional.linear(x if batched else x.unsqueeze(1), weight, bias)
        x = x if swap else x.transpose(0, 1)
        return x.reshape(*x.shape[:2], attention.num_heads, attention.head_dim).transpose(1, 2)

    if attention.in_proj_weight is not None:
        weights = attention.in_proj_weight.chunk(3)
    else:
        weights = (attention.q_proj_weight, attention.k_proj_weight, attention.v_proj_weight)
    biases = (None,) * 3 if attention.in_proj_bias is None else attention.in_proj_bias.chunk(3)
    q, k, v = (by_head(x, weight, bias) for x, weight, bias in zip((query, key, value), weights, biases))
    scores = q * attention.head_dim**-0.5 @ k.transpose(-2, -1)
    if attn_mask is not None:
        mask = attn_mask if attn_mask.dim() == 2 else attn_mask.view(scores.shape)
        scores = scores.masked_fill(mask, float('-inf')) if mask.dtype == torch.bool else scores + mask
    if key_padding_mask is not None:
        mask = key_padding_mask.reshape(scores.shape[0], 1, 1, -1)
        scores = scores.masked_fill(mask, float('-inf')) if mask.dtype == torch.bool else scores + mask
    attended = functional.dropout(scores.softmax(dim=-1), attention.dropout, attention.training)
    out = (attended @ v).transpose(1, 2).flatten(2)
    out = attention.out_proj(out if swap else out.transpose(0, 1))
    if average_attn_weights:
        attended = attended.mean(dim=1)
    if not batched:
        out, attended = out.squeeze(1), attended.squeeze(0)
    return out, attended if need_weights else None


def _queries_keys_values(qkv: Tensor, heads: int) -> tuple[Tensor, Tensor, Tensor]:
    """``(batch, tokens, 3 * heads * width)`` to three of ``(batch, heads, tokens, width)``."""
    batch, tokens, _ = qkv.shape
    q, k, v = qkv.reshape(batch, tokens, 3, heads, -1).permute(2, 0, 3, 1, 4)
    return q, k, v


def _with_biases(attention: Any, x: Tensor) -> Tensor:
    """Queries, keys and values, where the first and the last have biases as parameters of the block."""
    bias = None
    if attention.q_bias is not None:
        bias = torch.cat((attention.q_bias, torch.zeros_like(attention.v_bias), attention.v_bias))
    return functional.linear(x, attention.qkv.weight, bias)


def _position_bias(attention: Any, table: Tensor) -> Tensor:
    """``(distances, heads)`` to ``(heads, tokens, tokens)``, by the block's index of distances."""
    return table[attention.relative_position_index].permute(2, 0, 1)


def _masked_softmax(attention: Any, scores: Tensor, mask: Tensor | None) -> Tensor:
    """Softmax over keys; a mask ``(windows, tokens, tokens)`` is repeated over the images of the batch."""
    if mask is not None:
        by_image = scores.view(-1, mask.shape[0], *scores.shape[1:])
        scores = (by_image + mask[None, :, None]).view(scores.shape)
    return attention.attn_drop(attention.softmax(scores))


def _projected(attention: Any, values: Tensor) -> Tensor:
    """``(batch, heads, tokens, width)`` through the output projection."""
    batch, _, tokens, _ = values.shape
    return attention.proj_drop(attention.proj(values.transpose(1, 2).reshape(batch, tokens, -1)))
