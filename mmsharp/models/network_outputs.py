"""What the head of a toolbox's model gave, as probabilities and boxes."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager
from typing import Any, NamedTuple

import torch
from torch import Tensor, nn

from mmsharp.errors import MmsharpError
from mmsharp.pruning.mask_search import Outputs
from mmsharp.type_names import class_names

REFUSED_HEADS = {
    'MultiLabelClsHead': 'several labels',
    'MultiTaskHead': 'several tasks',
    'RegressionHead': 'numbers that are no classes',
}
"""Heads of mmpretrain without one softmax over classes, and what they give; by class, as all that derive from it."""
SUMMED_HEADS = ('ConformerHead',)
"""Heads whose forward gives several logits, which their prediction adds up."""
HEADLESS = 'BaseClassifier'
"""A class of mmpretrain: what derives from it and has no head gives its logits in mode ``'tensor'``."""


def head_of(model: nn.Module) -> nn.Module:
    """The head whose output is compared: that of a classifier, or of a detector of one stage.

    A classifier without one (``TimmClassifier`` and ``HuggingFaceClassifier``, which wrap a whole network) is its own:
    what it gives in mode ``'tensor'`` is compared, for one pass more where its losses are asked for.

    Raises:
        MmsharpError: The model has none of them, or one whose output is not understood.

    Example:
        >>> model = nn.Module()
        >>> model.head = nn.Linear(4, 3)
        >>> head_of(model)
        Linear(in_features=4, out_features=3, bias=True)
    """
    name = type(model).__name__
    detector = getattr(model, 'bbox_head', None)
    if isinstance(detector, nn.Module):
        if isinstance(getattr(detector, 'cls_out_channels', None), int) and not hasattr(detector, 'num_attrib'):
            return detector
        raise MmsharpError(
            f'mask search: the head {type(detector).__name__} of {name} does not give class scores and boxes as maps '
            'of their own; accepted are heads like those of RetinaNet, SSD, FCOS, ATSS, GFL and RTMDet'
        )
    if hasattr(model, 'roi_head'):
        raise MmsharpError(
            f'mask search: {name} has a roi_head; two stages take other proposals in every pass, which cannot be '
            'compared; accepted are detectors of one stage with maps, such as RetinaNet, and classifiers'
        )
    if not hasattr(model, 'head') and HEADLESS in class_names(model):
        return model
    head = getattr(model, 'head', None)
    if not isinstance(head, nn.Module):
        raise MmsharpError(
            f'mask search: {name} has neither the head of a classifier nor the bbox_head of a detector of one stage; '
            f'call the module that gives the logits `head`, or derive the model from {HEADLESS} of mmpretrain and give '
            "them in mode 'tensor'"
        )
    for kind, gives in REFUSED_HEADS.items():
        if kind in class_names(head):
            raise MmsharpError(
                f'mask search: {type(head).__name__} gives {gives}; accepted are heads with one softmax over classes, '
                'such as LinearClsHead'
            )
    return head


class HeadCall(NamedTuple):
    """One call of a head.

    Attributes:
        output: What it gave.
        with_labels: Whether it got more than features: heads that give the labelled class a margin take labels, in the
            loss alone.
    """

    output: Any
    with_labels: bool


@contextmanager
def captured(head: nn.Module) -> Iterator[list[HeadCall]]:
    """A list that has the head's last call once a forward pass inside is over."""
    found: list[HeadCall] = []

    def keep(module: nn.Module, arguments: Any, named: Any, output: Any) -> None:
        found[:] = [HeadCall(output, len(arguments) + len(named) > 1)]

    handle = head.register_forward_hook(keep, with_kwargs=True)
    try:
        yield found
    finally:
        handle.remove()


def outputs_of(head: nn.Module, output: Any) -> Outputs:
    """Probabilities, and boxes of detectors, in float32.

    Args:
        head: From :func:`head_of`.
        output: What its forward gave: logits of shape ``(N, K)``, or several of them of a Conformer; or per level maps
            of class scores ``(N, A K, H, W)`` and boxes ``(N, A B, H, W)``, in the first two places of a tuple.

    Raises:
        MmsharpError: The output is neither.

    Example:
        >>> outputs_of(nn.Identity(), torch.zeros(1, 2)).scores
        tensor([[[0.5000, 0.5000]]])
    """
    classes = getattr(head, 'cls_out_channels', None)
    if classes is None:
        if isinstance(output, (tuple, list)) and set(SUMMED_HEADS) & set(class_names(head)):
            output = sum(output)
        if not isinstance(output, Tensor) or output.dim() != 2:
            shape = f' of shape {tuple(output.shape)}' if isinstance(output, Tensor) else ''
            raise MmsharpError(
                f'mask search: the forward of {type(head).__name__} gives a {type(output).__name__}{shape}, and logits '
                'of shape (images, classes) are compared; use a head whose forward gives these, such as LinearClsHead'
            )
        return Outputs(output.float().softmax(dim=1).unsqueeze(1))
    if not isinstance(output, (tuple, list)) or len(output) < 2 or not _are_maps(output[0]) or not _are_maps(output[1]):
        raise MmsharpError(
            f'mask search: the head {type(head).__name__} gives no maps of class scores and boxes per level'
        )
    logits, boxes = [], []
    for scores, regressed in zip(output[0], output[1]):
        anchors = scores.shape[1] // classes
        logits.append(_at_places(scores, anchors))
        boxes.append(_at_places(regressed, anchors))
    together = torch.cat(logits, dim=1)
    sigmoid = bool(getattr(head, 'use_sigmoid_cls', True))
    return Outputs(
        together.sigmoid() if sigmoid else together.softmax(dim=2), torch.cat(boxes, dim=1), background=not sigmoid
    )


def _are_maps(value: Any) -> bool:
    return isinstance(value, (tuple, list)) and all(isinstance(part, Tensor) and part.dim() == 4 for part in value)


def _at_places(map_: Tensor, anchors: int) -> Tensor:
    """``(N, A X, H, W)`` to ``(N, H W A, X)``, float32."""
    count, channels = map_.shape[:2]
    return map_.float().permute(0, 2, 3, 1).reshape(count, -1, channels // anchors)
