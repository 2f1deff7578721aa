"""What of a model is a plain function of images, by its parts."""

import pytest
import torch
from torch import nn

from mmsharp.engine.export.raw_outputs import RawOutputs


class Levels(nn.Module):
    """A head that says how large each level of features is."""

    def forward(self, features):
        return [level.sum() for level in features]


class Cascaded(nn.Module):
    """Its stages need boxes of each other, so that it has no ``forward``."""


class Detector(nn.Module):
    """Anything like a detector of MMDetection, with the parts that it is given."""

    def __init__(self, **parts):
        super().__init__()
        for name, part in parts.items():
            setattr(self, name, part)

    def extract_feat(self, images):
        return images, images[..., ::2, ::2]

    def forward(self, images):
        return self.bbox_head(self.extract_feat(images))


def names(**parts):
    model = RawOutputs(Detector(**parts))
    return model.names(torch.zeros(1, 3, 4, 4)), model.is_partial


def test_a_single_stage_gives_what_its_head_gives():
    """All of it."""
    assert names(bbox_head=Levels()) == (['output_0', 'output_1'], False)


def test_a_second_stage_is_left_out():
    """Features and proposals; of a cascade of proposals the features alone."""
    features = ['neck_0', 'neck_1']
    assert names(rpn_head=Levels(), roi_head=nn.Identity()) == ([*features, 'rpn_0', 'rpn_1'], True)
    assert names(rpn_head=Cascaded(), roi_head=nn.Identity()) == (features, True)


def test_masks_that_need_boxes_are_left_out():
    """The boxes are not, and a part that is there as None is not there."""
    assert names(bbox_head=Levels(), mask_head=Cascaded()) == (['output_0', 'output_1'], True)
    assert names(bbox_head=Levels(), mask_head=None) == (['output_0', 'output_1'], False)


class Suppressing(nn.Module):
    """A head of masks that keeps local maxima when it is not in training, as SOLO's, and normalises."""

    def __init__(self):
        super().__init__()
        self.norm = nn.BatchNorm2d(3)

    def forward(self, features):
        found = self.norm(features[0])
        return [found] if self.training else [found * (found == found.amax())]


def test_a_head_of_masks_alone_gives_what_its_losses_see():
    """Before suppression, with the statistics of evaluation, and in the mode it was left in."""
    head = Suppressing()
    model, images = RawOutputs(Detector(mask_head=head)), torch.randn(1, 3, 4, 4)
    assert torch.allclose(model(images)[0], images, atol=1e-4)
    assert not head.training
    assert int(head.norm.num_batches_tracked) == 0
    assert model.is_partial


class Padded(nn.Module):
    """Masks padding, and therefore asks for data samples."""

    def __init__(self, fails=False):
        super().__init__()
        self.data_preprocessor, self.fails = nn.Identity(), fails

    def forward(self, images, data_samples=None, mode='tensor'):
        assert data_samples is not None
        if self.fails:
            raise ValueError('never')
        height, width = data_samples[-1].metainfo['img_shape']
        return images[..., :height, :width] * len(data_samples)


def test_models_that_mask_padding_get_images_without_any():
    """One sample per image, as large as the batch; the model's own error where that does not help."""
    model, images = RawOutputs(Padded()), torch.randn(2, 3, 4, 5)
    assert model.names(images) == ['output']
    assert torch.equal(model(images)[0], 2 * images)
    model = RawOutputs(Padded(fails=True))
    with pytest.raises(ValueError, match='never'):
        model.names(images)
    assert not model.needs_samples


class Nested(nn.Module):
    """Names parts as it likes."""

    def forward(self, images):
        return {'a': {'x': images}, 'b': [images, {'x': images}], 'a_x': images, '': images}


def test_every_output_has_a_name_of_its_own():
    """However parts are nested and called."""
    model = RawOutputs(Nested())
    names = model.names(torch.zeros(1, 3, 4, 4))
    assert names == ['a_x', 'b_0', 'b_1_x', 'a_x_', 'output']
    assert len(model(torch.zeros(1, 3, 4, 4))) == 5
