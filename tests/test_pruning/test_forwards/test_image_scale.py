"""Noise stands where images would, on the scale on which the preprocessor hands them on."""

import importlib

import pytest
import torch
from mmengine.model import BaseModel, ImgDataPreprocessor
from torch import nn

from mmsharp.pruning.forwards import tensor_forward
from mmsharp.pruning.forwards.image_scale import PIXELS, image_scale, images_like

CAFFE = dict(mean=[103.53, 116.28, 123.675], std=[1.0, 1.0, 1.0])
IMAGENET = dict(mean=[123.675, 116.28, 103.53], std=[58.395, 57.12, 57.375])


class Anything(BaseModel):
    """A model of which only the preprocessor matters."""

    def forward(self, inputs, data_samples=None, mode='tensor'):
        return inputs


@pytest.mark.filterwarnings('ignore')  # the toolboxes warn of their own optional parts
@pytest.mark.parametrize(
    ('package', 'name'),
    [
        ('mmengine.model', 'ImgDataPreprocessor'),
        ('mmdet.models', 'DetDataPreprocessor'),
        ('mmpretrain.models', 'ClsDataPreprocessor'),
    ],
)
@pytest.mark.parametrize('settings', [{}, CAFFE, IMAGENET], ids=['pixels', 'caffe', 'ImageNet'])
def test_the_noise_is_as_photographs_are_behind_the_preprocessor(package, name, settings):
    """The same mean and deviation that pixels have once the toolbox's own code has normalised them."""
    model = Anything(getattr(importlib.import_module(package), name)(**settings))
    pixels = PIXELS[0] + PIXELS[1] * torch.randn(64, 3, 16, 16, generator=torch.Generator().manual_seed(1))
    inputs = pixels if package == 'mmpretrain.models' else list(pixels)
    expected = model.data_preprocessor(dict(inputs=inputs))['inputs']
    noise = images_like(model, (3, 16, 16), batch=64)
    assert noise.shape == expected.shape
    torch.testing.assert_close(noise.mean(), expected.mean(), rtol=0.03, atol=0.03 * float(expected.std()))
    torch.testing.assert_close(noise.std(), expected.std(), rtol=0.15, atol=0.0)


@pytest.mark.filterwarnings('ignore')
def test_the_preprocessor_of_each_branch_counts():
    """Semi-supervised detectors wrap it."""
    wrapper = importlib.import_module('mmdet.models').MultiBranchDataPreprocessor
    model = Anything(wrapper(dict(type='mmdet.DetDataPreprocessor', **CAFFE)))
    assert image_scale(model) == image_scale(Anything(ImgDataPreprocessor(**CAFFE)))


def test_bytes_are_pixels():
    """Of a preprocessor that hands on what was read, whatever the model does with it."""
    images = images_like(nn.ReLU(), (3, 32, 32), dtype=torch.uint8)
    assert images.dtype == torch.uint8
    assert abs(float(images.float().mean()) - PIXELS[0]) < 5
    low, high = tensor_forward(images).elsewhere()
    assert (int(low.inputs.max()), int(high.inputs.min())) == (0, 255)
    kinds = dict(tensor_forward(images).contrasting())
    assert all(forward.inputs.dtype == torch.uint8 for forward in kinds.values())
    assert kinds['bright'].inputs.float().mean() > kinds['dark'].inputs.float().mean() + 100


def test_what_is_not_known_is_taken_for_normalised():
    """Without a preprocessor, or with one that divides by zero."""
    assert image_scale(nn.ReLU()) == (0.0, 1.0)
    assert image_scale(Anything(ImgDataPreprocessor([0.0], [0.0]))) == (0.0, 1.0)
    assert torch.equal(images_like(nn.ReLU(), (1, 2, 2), 3, seed=4), images_like(nn.ReLU(), (1, 2, 2), 3, seed=4))
