"""Numbers that a model reads out of its images are found, and no others."""

import ctypes
from pathlib import Path

import numpy as np
import pytest
import torch
from torch import nn
from torchvision.ops import nms

from mmsharp.pruning.forwards.numbers_read import numbers_read


class Model(nn.Module):
    """Computes what it is given."""

    def __init__(self, forward):
        super().__init__()
        self.function = forward
        self.scale = nn.Parameter(torch.tensor(2.0))
        self.norm = nn.BatchNorm2d(3)

    def forward(self, images):
        return self.function(self, images)


def through_a_view(model, images):
    """Written into a part of what did not depend on the images."""
    kept = torch.zeros(images.shape)
    kept[:, 0] = images[:, 0]
    return images if kept.max() < 100 else -images


def in_place(model, images):
    """Added to what did not depend on the images."""
    kept = torch.zeros(images.shape)
    kept.add_(images)
    return images * float(kept.max())


def compared(model, images):
    """As a whole."""
    return images if torch.equal(images, images.abs()) else -images


def selected(model, images):
    """A tensor of truths that decides alone."""
    return images if (images > 0).any() else -images


def listed(model, images):
    """All of its numbers."""
    return images * sum(images.mean(dim=(0, 2, 3)).tolist())


def given_to_numpy(model, images):
    """Which computes what torch does not see."""
    return images * np.abs(images.numpy()).max()


def size_of_a_selection(model, images):
    """By truths."""
    return images if len(images[images > 0.5]) > 3 else -images


def places_found(model, images):
    """As detectors ask whether there is a box."""
    found = (images > 30).nonzero()
    return images if found.numel() == 0 else -images


def size_of_what_was_computed_from_it(model, images):
    """It is as large."""
    return images * (2 * images[images > 0.5]).shape[0]


def number_of_values(model, images):
    """Different ones."""
    return images * torch.unique(images.round()).numel()


def one_by_one(model, images):
    """As often as something was found."""
    return images + sum(place[0] for place in (images > 0.5).nonzero())


def nearly_equal(model, images):
    """By an operation that is a comparison of its own."""
    return images if torch.allclose(images, images.abs()) else -images


def made_anew(model, images):
    """A list of numbers that are tensors."""
    return images * torch.tensor([images.max()])


def handed_over(model, images):
    """By the protocol of other libraries."""
    return images * float(np.from_dlpack(images.max()))


SIZES = [
    size_of_a_selection,
    places_found,
    size_of_what_was_computed_from_it,
    number_of_values,
    one_by_one,
    nearly_equal,
    made_anew,
    handed_over,
]


def size_of_what_nms_leaves(model, images):
    """An operator of torchvision, which does not say that it selects."""
    scores = images.flatten()[:4]
    boxes = torch.tensor([[0.0, 0.0, 1.0, 1.0]]).repeat(4, 1) * (1 + scores[:, None])
    return images if len(nms(boxes, scores, 0.3)) > 2 else -images


READING = [size_of_what_nms_leaves, *SIZES, through_a_view, in_place, compared, selected, listed, given_to_numpy]


@pytest.mark.parametrize('function', READING, ids=lambda function: function.__name__)
def test_what_depends_on_the_images_is_followed(function):
    """To the line that reads it."""
    places = numbers_read(Model(function).eval(), torch.rand(1, 3, 4, 4))
    assert len(places) == 1
    path, line = places[0].place.rsplit(':', 1)
    first = function.__code__.co_firstlineno
    assert Path(path) == Path(__file__)
    assert first < int(line) <= first + 6
    assert not places[0].by_toolboxes


NOT_READING = {
    'sizes': lambda model, images: images if images.shape[0] > 1 else images * images.shape[2],
    'a parameter': lambda model, images: images * float(model.scale) if model.scale > 0 else images,
    'a size as a tensor': lambda model, images: images * int(torch.tensor(images.shape[1])),
    'something of its size': lambda model, images: images * float(torch.ones_like(images).sum()),
    'normalisation': lambda model, images: model.norm(images),
    'selection by truths': lambda model, images: images[images > 0],
    'selection by numbers': lambda model, images: images * images[:, torch.tensor([0, 1])].shape[1],
    'the order of values': lambda model, images: images * images.flatten().topk(3).indices.shape[0],
    'a tensor as a tensor': lambda model, images: torch.as_tensor(images) * len(images),
}


@pytest.mark.parametrize('function', NOT_READING.values(), ids=NOT_READING)
def test_what_does_not_is_left(function):
    """Sizes and weights are the same for all images of one size."""
    assert numbers_read(Model(function).eval(), torch.rand(1, 3, 4, 4)) == []


class Compiled(torch.autograd.Function):
    """Its kernel writes past torch's dispatcher, as those of mmcv do."""

    @staticmethod
    def forward(ctx, images):
        output = images.new_zeros(images.shape)
        ctypes.memmove(output.data_ptr(), images.contiguous().data_ptr(), output.numel() * output.element_size())
        return output


def test_what_a_compiled_kernel_gives_is_followed():
    """A branch behind it is found."""
    model = Model(lambda model, images: images if Compiled.apply(images).max() > 0.5 else -images)
    assert len(numbers_read(model.eval(), torch.rand(1, 3, 4, 4))) == 1


@pytest.mark.parametrize('package', ['mmdet', 'torchvision', 'my_detectors'])
def test_code_of_the_toolboxes_is_told_from_others(package):
    """By all that is at work: a line of a toolbox may read for somebody who branches."""
    text = """
from torch import nn
class Reads(nn.Module):
    def forward(self, images):
        return images * float(images.max())
"""
    names = {}
    exec(compile(text, f'{Path(torch.__file__).parents[1]}/{package}/models/reads.py', 'exec'), names)
    reads = names['Reads']()
    images = torch.rand(1, 3, 4, 4)
    place = f'{package}/models/reads.py:5'
    alone = package == 'mmdet'
    assert numbers_read(reads, images) == [(place, alone)]
    assert numbers_read(nn.Sequential(reads, nn.ReLU()), images) == [(place, alone)]
    assert numbers_read(Model(lambda model, images: reads(images)).eval(), images) == [(place, False)]
    assert numbers_read(Model(lambda model, images: -reads(images)).eval(), images)[0].place == place


def test_a_line_is_named_once():
    """However often it reads."""
    model = Model(lambda model, images: images * sum(float(image.max()) for image in images))
    assert len(numbers_read(model, torch.rand(3, 3, 4, 4))) == 1
