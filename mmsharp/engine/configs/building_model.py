"""The model that a config describes."""

from __future__ import annotations

import copy

from mmengine.config import Config
from mmengine.registry import MODELS, init_default_scope
from torch import nn

from mmsharp.engine.configs.config_errors import naming_broken_config
from mmsharp.models import without_downloads


def build_model(config: Config) -> nn.Module:
    """Build the model of a config on the CPU, in evaluation mode, without loading or downloading any weights."""
    init_default_scope(config.get('default_scope') or 'mmengine')
    description = copy.deepcopy(without_downloads(config.model))
    preprocessor = config.get('data_preprocessor')
    if preprocessor is not None:
        description.setdefault('data_preprocessor', copy.deepcopy(preprocessor))
    with naming_broken_config(config.filename):
        model = MODELS.build(description)
    model.eval()  # not chained: some models' train() returns nothing
    return model
