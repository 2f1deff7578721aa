"""SSD's head of mmdet, which can predict again."""

from __future__ import annotations

from typing import Any

from torch import nn

from mmsharp.registry import MODELS


@MODELS.register_module(name='SSDHead')
def ssd_head(**config: Any) -> nn.Module:
    """Build mmdet's ``SSDHead`` with the attribute that its prediction reads: ``loss_cls``, here ``None``.

    Since V3Det came in, ``BaseDenseHead`` asks ``self.loss_cls`` for ``custom_cls_channels`` before it takes the
    softmax of the scores. ``SSDHead`` computes its losses by functions and has no such attribute, so that it trains and
    then fails at the first validation. With ``None`` the answer is no, and nothing else reads it: losses, weights and
    their names are mmdet's. Needed for mmdet 3.3.0 to onedl-mmdetection 3.5.1; harmless where it is mended.

    Args:
        config: The arguments of ``mmdet.SSDHead``.

    Returns:
        An object of mmdet's own class.

    Raises:
        ImportError: mmdet is not installed.
    """
    from mmdet.models import SSDHead

    head = SSDHead(**config)
    if not hasattr(head, 'loss_cls'):
        head.loss_cls = None
    return head
