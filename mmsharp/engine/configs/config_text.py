"""A config as text that stands alone, whether it came from text, from pure Python or from a notebook."""

from __future__ import annotations

import inspect
import types
from collections.abc import Mapping
from typing import Any

from mmengine.config import Config
from mmengine.config.lazy import LazyAttr, LazyObject
from mmengine.utils import get_object_from_string

from mmsharp.errors import MmsharpError, one_line

HELPERS = (types.ModuleType, types.FunctionType, types.BuiltinFunctionType, type)
"""What a pure-Python config may define at its top level only to write its settings with."""


def plain_settings(config: Config) -> dict[str, Any]:
    """The settings of a config as new plain data, in which classes and functions are names that can be imported.

    What a pure-Python config imports, or defines to write its settings with, is no setting and is left out. MMEngine's
    registries import a type by such a name, as they do for the configs that MMEngine itself dumps.

    Raises:
        MmsharpError: A class or a function can be imported from nowhere; the message names its place in the config.

    Example:
        >>> plain_settings(Config(dict(model=dict(type=dict, width=2))))
        {'model': {'type': 'builtins.dict', 'width': 2}}
    """
    settings = config._to_lazy_dict()  # MMEngine's only door that leaves names as the config wrote them
    return {key: _plain(value, key) for key, value in settings.items() if not isinstance(value, HELPERS)}


def config_text(config: Config) -> str:
    """A config as the text of a file.

    Raises:
        MmsharpError: Something in the config has no text that stands for it.
    """
    try:
        return config.pretty_text
    except Exception as error:  # an object that is no plain data may break the formatter in any way
        raise MmsharpError(
            f'the config cannot be written as text ({one_line(error)}); describe its parts as plain data instead'
        ) from error


def _plain(value: Any, place: str) -> Any:
    if isinstance(value, Mapping):
        return {key: _plain(item, f'{place}.{key}') for key, item in value.items()}
    if isinstance(value, (list, tuple, set)):
        return type(value)(_plain(item, f'{place}.{position}') for position, item in enumerate(value))
    if isinstance(value, (LazyObject, LazyAttr)):
        name = f'{value.module}.{value}'
    elif inspect.isclass(value) or inspect.isroutine(value):
        name = f'{value.__module__}.{value.__qualname__}'
    else:
        return value
    if get_object_from_string(name) is None:
        raise MmsharpError(
            f'{place}={name!r} cannot be imported, so that no config file can name it; move it to a module, or give '
            'the name under which it is registered'
        )
    return name
