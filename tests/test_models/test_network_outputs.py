"""What heads give, as probabilities and boxes."""

import pytest
import torch
from mmengine.registry import MODELS, DefaultScope
from torch import nn

from mmsharp.models.network_outputs import outputs_of
from mmsharp.pruning.mask_search import Outputs


class Maps(nn.Module):
    """A detector's head as far as it is asked: two anchors, so many classes."""

    def __init__(self, classes: int, sigmoid: bool):
        super().__init__()
        self.cls_out_channels, self.use_sigmoid_cls = classes, sigmoid


@pytest.mark.parametrize('sigmoid', [True, False])
def test_scores_of_detectors_are_probabilities(sigmoid):
    """Of each class by itself, or among the classes and the background, at every place and anchor of every level."""
    torch.manual_seed(0)
    logits = [torch.randn(2, 6, 4, 5), torch.randn(2, 6, 2, 3)]
    boxes = [torch.randn(2, 8, 4, 5), torch.randn(2, 8, 2, 3)]
    found = outputs_of(Maps(3, sigmoid), (logits, boxes))
    assert found.scores.shape == (2, 2 * (20 + 6), 3)
    assert found.boxes.shape == (2, 2 * (20 + 6), 4)
    assert found.background is not sigmoid
    here = logits[0][1, 3:6, 2, 4]  # the second image, the second anchor, row 2, column 4
    expected = here.sigmoid() if sigmoid else here.softmax(dim=0)
    torch.testing.assert_close(found.scores[1, (2 * 5 + 4) * 2 + 1], expected)
    torch.testing.assert_close(found.boxes[1, (2 * 5 + 4) * 2 + 1], boxes[0][1, 4:8, 2, 4])


@pytest.mark.filterwarnings('ignore')  # mmdet warns of its own optional parts
def test_the_head_of_ssd_gives_a_softmax_whose_last_class_is_the_background():
    """mmdet's own: the scores of a place and anchor sum to 1, and a sure background is no confidence."""
    pytest.importorskip('mmdet')
    anchors = dict(
        type='SSDAnchorGenerator', scale_major=False, min_sizes=[16, 32], max_sizes=[32, 64], strides=[8, 16]
    )
    config = dict(type='SSDHead', num_classes=3, in_channels=(8, 8), anchor_generator=dict(anchors, ratios=[[2], [2]]))
    torch.manual_seed(0)
    with DefaultScope.overwrite_default_scope('mmdet'):
        head = MODELS.build(config)
    found = outputs_of(head, head((torch.randn(2, 8, 4, 4), torch.randn(2, 8, 2, 2))))
    assert found.background
    assert found.scores.shape == (2, 4 * (16 + 4), 3 + 1)
    assert found.boxes.shape == (2, 4 * (16 + 4), 4)
    torch.testing.assert_close(found.scores.sum(dim=2), torch.ones(2, 80))
    sure = found.scores.clone()
    sure[0, 0] = torch.tensor([0.0, 0.0, 0.0, 1.0])
    confidence = Outputs(sure, found.boxes, found.background).confidence
    assert confidence[0, 0] == 0
    assert (confidence[0, 1:] > 0).all()
