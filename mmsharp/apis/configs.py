"""The config that a caller gave, as a path or built."""

from __future__ import annotations

import copy
import os
from collections.abc import Mapping
from typing import Any

from mmengine.config import Config

from mmsharp.engine.configs.config import load_config, merge_options


def as_config(config: str | os.PathLike[str] | Config, options: Mapping[str, Any] | None) -> Config:
    """The config of a path, or a copy of the given one, with the changes."""
    if not isinstance(config, Config):
        return load_config(config, options)
    config = copy.deepcopy(config)
    if options:
        merge_options(config, options)
    return config
