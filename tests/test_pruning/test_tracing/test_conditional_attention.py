"""Attention of Conditional DETR and DAB-DETR: heads go, with their content, positions and the width of them all."""

import warnings

import pytest
import torch
from torch import nn

from mmsharp.pruning import tensor_forward

from ..conftest import assert_masked_equals_slim, masked_and_slim, vary_constants_


class Decoder(nn.Module):
    """Attention of queries to themselves and to places of an image, the first time or later, and a classifier."""

    def __init__(self, first):
        super().__init__()
        utils = pytest.importorskip('mmdet.models.layers.transformer.utils')
        with warnings.catch_warnings():
            warnings.simplefilter('ignore')
            self.own = utils.ConditionalAttention(24, 4)
            self.cross = utils.ConditionalAttention(24, 4, cross_attn=True)
        self.last, self.first = nn.Linear(24, 3), first

    def forward(self, x):
        queries, places, positions = x[:, :5], x[:, 5:12], x[:, 12:]
        queries = self.own(queries, queries, query_pos=positions[:, :5], key_pos=positions[:, :5])
        attended = self.cross(
            queries,
            places,
            query_pos=positions[:, :5],
            key_pos=positions[:, :7],
            ref_sine_embed=positions[:, 2:7],
            is_first=self.first,
        )
        return self.last(attended)


@pytest.mark.parametrize('first', [True, False])
def test_heads_can_go(first):
    """A head of the queries' content is one of their positions, of the keys, the values and the output."""
    torch.manual_seed(0)
    forward = tensor_forward(torch.randn(2, 20, 24, generator=torch.Generator().manual_seed(0)))
    groups, slim, outputs = masked_and_slim(vary_constants_(Decoder(first)).double(), forward)
    assert {group.channels for group in groups.groups if 'proj' in group.name} == {4}
    assert_masked_equals_slim(outputs, 1e-12)
    for block in (slim.own, slim.cross):
        assert block.num_heads < 4
        assert block.embed_dims == block.v_proj.out_features == block.out_proj.in_features == 6 * block.num_heads
