"""Laws of few proposals: configurations come back as they were, also after an error, and boxes without area count."""

import pytest
import torch
from mmengine.config import ConfigDict
from torch import Tensor, nn

from mmsharp.pruning import find_groups, tensor_forward
from mmsharp.pruning.forwards.few_proposals import PROPOSALS, few_proposals


class TwoStage(nn.Module):
    """As many boxes as the configuration allows that are larger than it says, and a second stage that sees them."""

    def __init__(self) -> None:
        super().__init__()
        self.stem, self.inner, self.last = nn.Conv2d(3, 8, 1), nn.Linear(8, 6), nn.Linear(6, 2)
        self.test_cfg = ConfigDict(max_per_img=1000, min_bbox_size=0)
        self.train_cfg = ConfigDict(rpn_proposal=dict(max_per_img=500), rcnn=None)
        self.seen: list[int] = []

    def forward(self, images: Tensor) -> Tensor:
        pixels = self.stem(images).flatten(2)[0].T
        boxes = pixels[: self.test_cfg.max_per_img] if self.test_cfg.min_bbox_size < 0 else pixels[:0]
        self.seen.append(len(boxes))
        return self.last(self.inner(boxes).relu())


def test_configurations_come_back() -> None:
    """The objects themselves, unchanged, also when something fails inside."""
    model = TwoStage()
    test_cfg, train_cfg = model.test_cfg, model.train_cfg

    def fails_inside() -> None:
        with few_proposals(model):
            assert model.test_cfg.max_per_img == model.train_cfg.rpn_proposal.max_per_img == PROPOSALS
            raise RuntimeError('inside')

    with pytest.raises(RuntimeError, match='inside'):
        fails_inside()
    assert model.test_cfg is test_cfg
    assert model.train_cfg is train_cfg
    assert (test_cfg.max_per_img, test_cfg.min_bbox_size, train_cfg.rpn_proposal.max_per_img) == (1000, 0, 500)


def test_fewer_than_that_stay() -> None:
    """A limit is never raised."""
    model = TwoStage()
    model.test_cfg.max_per_img = 3
    with few_proposals(model):
        assert model.test_cfg.max_per_img == 3


def test_second_stage_is_tried_on_few_boxes() -> None:
    """Its groups are found though the configuration would drop every box, and no trial sees more than eight."""
    model = TwoStage()
    model.seen = seen = _Shared()
    groups = find_groups(model, tensor_forward(torch.randn(1, 3, 8, 8)))
    assert [group.name for group in groups.groups] == ['stem', 'inner']
    assert set(seen) == {PROPOSALS}


class _Shared(list):
    """A list that copies of a model share."""

    def __deepcopy__(self, memo: dict) -> '_Shared':
        return self
