"""A classifier of MMPretrain as a function from images in [0, 1] to probabilities of classes."""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from typing import Any, NamedTuple

import torch
from torch import Tensor, nn

from mmsharp.errors import MmsharpError
from mmsharp.robustness import image_id

WHITE = 255.0
"""What pipelines of MMPretrain hold for white, and what its preprocessors are told mean and deviation in."""


class ClassProbabilities:
    """Scores of a classifier for images before its preprocessing.

    The images go through the model's own ``test_step``: its data preprocessor reorders the channels, normalises and
    pads as it does for the test data, and its head turns logits into what it calls ``pred_score``. Nothing is assumed
    of either.

    Args:
        model: Of MMPretrain, in evaluation mode.

    Raises:
        MmsharpError: On a call, if the model predicts no scores of classes for whole images.

    Example:
        >>> from mmengine.registry import DefaultScope
        >>> from mmpretrain.models import ImageClassifier
        >>> head = dict(type='LinearClsHead', num_classes=3, in_channels=64)
        >>> lenet = dict(type='ResNet_CIFAR', depth=18, base_channels=8, out_indices=(3,))
        >>> neck = dict(type='GlobalAveragePooling')
        >>> with DefaultScope.overwrite_default_scope('mmpretrain'):
        ...     model = ImageClassifier(lenet, neck, head, data_preprocessor=dict(mean=[0], std=[255])).eval()
        >>> ClassProbabilities(model)(torch.rand(2, 3, 32, 32)).shape
        torch.Size([2, 3])
    """

    def __init__(self, model: nn.Module) -> None:
        self.model = model

    @property
    def device(self) -> torch.device:
        """Where the model is."""
        return next((parameter.device for parameter in self.model.parameters()), torch.device('cpu'))

    @torch.no_grad()
    def __call__(self, images: Tensor) -> Tensor:
        """From images (N, C, H, W) in [0, 1], in the pipeline's order of channels, to scores (N, classes)."""
        predictions = self.model.test_step({'inputs': images * WHITE})  # type: ignore[operator]
        return torch.stack([scores_of(prediction, self.model) for prediction in predictions])


class LabelledImage(NamedTuple):
    """An image (C, H, W) in [0, 1], its class, and its name."""

    image: Tensor
    label: int
    name: str


def scores_of(prediction: Any, model: nn.Module | None = None) -> Tensor:
    """``pred_score`` of a prediction of MMPretrain.

    Raises:
        MmsharpError: There is none, as of detectors.
    """
    get = prediction.get if hasattr(prediction, 'get') else vars(prediction).get
    scores = get('pred_score')
    if not isinstance(scores, Tensor) or scores.ndim != 1:
        who = 'the model' if model is None else type(model).__name__
        raise MmsharpError(
            f'{who} predicts no probabilities of classes for whole images (pred_score), so that nothing can be '
            'certified: certification is for classifiers of MMPretrain. For detectors measure corruptions, '
            'tools/test_robust.py --corruptions'
        )
    return scores


def labelled_images(batch: Mapping[str, Any], device: torch.device | str = 'cpu') -> Iterator[LabelledImage]:
    """The images of a batch as a pipeline of MMPretrain gives it to a model, before preprocessing.

    Args:
        batch: ``inputs``, a tensor (N, C, H, W) or N tensors (C, H, W), and ``data_samples``.
        device: Where the images shall be.

    Raises:
        MmsharpError: Images are not of 8 bits, so that their range is not known, or a sample has no single label or
            no name.
    """
    samples: Sequence[Any] = batch.get('data_samples') or []
    if len(samples) != len(batch['inputs']):
        raise MmsharpError('the batch has no data_samples with labels; end the test pipeline with PackInputs')
    for image, sample in zip(batch['inputs'], samples, strict=True):
        if image.dtype != torch.uint8:
            raise MmsharpError(
                f'the test pipeline gives images of {image.dtype}, whose range is not known; certification transforms '
                'images of 8 bits before they are normalised. Leave the normalising to the data_preprocessor'
            )
        label = sample.get('gt_label')
        if label is None or label.numel() != 1:
            raise MmsharpError(
                f'a test image has the label {label}; certification needs one class per image (single-label)'
            )
        try:
            name = image_id(sample.metainfo)
        except KeyError as error:
            raise MmsharpError(
                'a test image has neither img_path nor sample_idx, which its draws are seeded by; keep them in '
                'meta_keys of PackInputs'
            ) from error
        yield LabelledImage(image.to(device).float() / WHITE, int(label), name)
