"""Two-stage detectors with few regions: what channels are does not depend on how many boxes look at them.

A second stage runs once per proposal, a thousand by default, and so takes most of a look at the model. An untrained
first stage may also give only boxes without area, which its configuration drops: then there would be nothing to see.
"""

from __future__ import annotations

import copy
from collections.abc import Iterator, MutableMapping
from contextlib import contextmanager
from typing import Any

from torch import nn

PROPOSALS = 8


@contextmanager
def few_proposals(model: nn.Module) -> Iterator[None]:
    """Inside, modules whose configuration limits their boxes give at most 8, and boxes without area too.

    Told by mmdet's names: ``max_per_img`` in a module's ``test_cfg``, and in ``rpn_proposal`` of its ``train_cfg``.

    Example:
        >>> model = nn.Identity()
        >>> model.test_cfg = dict(max_per_img=1000, min_bbox_size=0)
        >>> with few_proposals(model):
        ...     print(model.test_cfg)
        {'max_per_img': 8, 'min_bbox_size': -1}
        >>> model.test_cfg
        {'max_per_img': 1000, 'min_bbox_size': 0}
    """
    before: list[tuple[nn.Module, str, Any]] = []
    try:
        for module in model.modules():
            for name, part in (('test_cfg', None), ('train_cfg', 'rpn_proposal')):
                config = vars(module).get(name)
                if not isinstance(config, MutableMapping):
                    continue
                changed = copy.deepcopy(config)
                limited = changed if part is None else changed.get(part)
                if isinstance(limited, MutableMapping) and isinstance(limited.get('max_per_img'), int):
                    limited['max_per_img'] = min(limited['max_per_img'], PROPOSALS)
                    if 'min_bbox_size' in limited:
                        limited['min_bbox_size'] = -1
                    before.append((module, name, config))
                    setattr(module, name, changed)
        yield
    finally:
        for module, name, config in before:
            setattr(module, name, config)
