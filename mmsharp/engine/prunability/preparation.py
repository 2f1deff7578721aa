"""A packaged config as it is measured: built without downloads, and quick."""

from __future__ import annotations

import copy
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import numpy as np
import torch
from mmengine.config import Config
from mmengine.model import revert_sync_batchnorm
from torch import Tensor, nn

from mmsharp.engine.configs.building_model import build_model
from mmsharp.engine.configs.config import replace_sync_bn
from mmsharp.pruning.forwards.image_scale import images_like

FEW_PROPOSALS = 50


def prepared(config: Config, folder: Path) -> Config:
    """A copy of a config that builds without downloads and in one process, and takes no time for nothing.

    A teacher's config, which is named by a path from the root of the toolbox's repository, is found in the folder, and
    the teacher keeps its random weights. Synchronised batch normalisation becomes the plain one. Region proposal
    networks hand on few proposals, those without area too, which may be all that random weights give, and batches are
    not padded to full size.

    Args:
        config: Of a toolbox; not changed.
        folder: Where the toolbox keeps its packaged configs.
    """
    config = copy.deepcopy(config)
    model = config.model
    teacher = model.get('teacher_config')
    if isinstance(teacher, str) and not Path(teacher).is_file():
        model.teacher_config = str(folder / teacher.removeprefix('configs/'))
    if 'teacher_ckpt' in model:
        model.teacher_ckpt = None
    replace_sync_bn(model)
    for section, name in (('test_cfg', 'rpn'), ('train_cfg', 'rpn_proposal')):
        proposals = (model.get(section) or {}).get(name)
        if proposals and 'max_per_img' in proposals:
            proposals['max_per_img'] = min(proposals['max_per_img'], FEW_PROPOSALS)
            proposals['min_bbox_size'] = -1
    for owner in (config, model):
        if (owner.get('data_preprocessor') or {}).get('batch_augments'):
            owner.data_preprocessor.batch_augments = None
    return config


def build(config: Config, seed: int) -> nn.Module:
    """The model as a run in one process has it, on the CPU, its weights drawn after this seed.

    Weights that their class leaves as memory happens to be (mmdet's ``TridentConv``) are drawn like others.
    """
    torch.manual_seed(seed)
    np.random.seed(seed)
    with _unset_is_nan():
        model = revert_sync_batchnorm(build_model(config))
    for parameter in model.parameters():
        if parameter.dim() > 1 and bool(parameter.isnan().any()):
            nn.init.kaiming_uniform_(parameter)
    return model


@contextmanager
def _unset_is_nan() -> Iterator[None]:
    """Inside, memory that nobody has written to is not a number."""
    before = torch.are_deterministic_algorithms_enabled()
    torch.use_deterministic_algorithms(True, warn_only=True)
    try:
        yield
    finally:
        torch.use_deterministic_algorithms(before)


def example(model: nn.Module, batch: Mapping[str, Any], seed: int) -> tuple[Tensor, list[Any]]:
    """One image of random numbers, of the shape that the preprocessor gives the batch, and its data sample."""
    data = model.data_preprocessor(copy.deepcopy(dict(batch)), False)  # type: ignore[operator]
    return images_like(model, data['inputs'].shape[1:], seed=seed), data['data_samples'][:1]
