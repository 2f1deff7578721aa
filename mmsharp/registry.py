"""Registries of mmsharp, all under the scope ``mmsharp``.

The first block holds children of MMEngine's registries: a config of any toolbox reaches them as ``type='mmsharp.Name'``
while its own ``default_scope`` stays what it is. The second block holds the kinds of parts that only mmsharp has.
"""

from __future__ import annotations

import inspect
from collections.abc import Mapping
from typing import Any

from mmengine.registry import DATA_SAMPLERS as MMENGINE_DATA_SAMPLERS
from mmengine.registry import DATASETS as MMENGINE_DATASETS
from mmengine.registry import HOOKS as MMENGINE_HOOKS
from mmengine.registry import METRICS as MMENGINE_METRICS
from mmengine.registry import MODELS as MMENGINE_MODELS
from mmengine.registry import OPTIM_WRAPPERS as MMENGINE_OPTIM_WRAPPERS
from mmengine.registry import TRANSFORMS as MMENGINE_TRANSFORMS
from mmengine.registry import Registry

from mmsharp.errors import MmsharpError

SCOPE = 'mmsharp'

HOOKS = Registry('hook', parent=MMENGINE_HOOKS, scope=SCOPE, locations=['mmsharp.engine.hooks'])
OPTIM_WRAPPERS = Registry(
    'optim_wrapper', parent=MMENGINE_OPTIM_WRAPPERS, scope=SCOPE, locations=['mmsharp.engine.optim_wrappers']
)
TRANSFORMS = Registry('transform', parent=MMENGINE_TRANSFORMS, scope=SCOPE, locations=['mmsharp.datasets.transforms'])
DATASETS = Registry('dataset', parent=MMENGINE_DATASETS, scope=SCOPE, locations=['mmsharp.datasets'])
DATA_SAMPLERS = Registry('data sampler', parent=MMENGINE_DATA_SAMPLERS, scope=SCOPE, locations=['mmsharp.datasets'])
METRICS = Registry('metric', parent=MMENGINE_METRICS, scope=SCOPE, locations=['mmsharp.evaluation'])
MODELS = Registry('model', parent=MMENGINE_MODELS, scope=SCOPE, locations=['mmsharp.models'])

ASCENTS = Registry('ascent', scope=SCOPE, locations=['mmsharp.sharpness'])
POLICIES = Registry('policy', scope=SCOPE, locations=['mmsharp.sharpness'])
PRUNERS = Registry('pruner', scope=SCOPE, locations=['mmsharp.pruning'])
CRITERIA = Registry('criterion', scope=SCOPE, locations=['mmsharp.pruning'])
ALLOCATIONS = Registry('allocation', scope=SCOPE, locations=['mmsharp.pruning'])
SCHEDULES = Registry('schedule', scope=SCOPE, locations=['mmsharp.pruning'])
PROTECTIONS = Registry('protection', scope=SCOPE, locations=['mmsharp.pruning'])
MASK_PARAMETERISATIONS = Registry('parameterisation', scope=SCOPE, locations=['mmsharp.pruning.mask_search'])
MASK_PERTURBATIONS = Registry('perturbation', scope=SCOPE, locations=['mmsharp.pruning.mask_search'])
MASK_TERMS = Registry('loss term', scope=SCOPE, locations=['mmsharp.pruning.mask_search'])
IMAGE_TRANSFORMS = Registry('image transform', scope=SCOPE, locations=['mmsharp.robustness'])


def build_part(registry: Registry, part: Any, **defaults: Any) -> Any:
    """Build a part of mmsharp from its config, or hand back a part that is built already.

    A thin door before ``Registry.build``, whose look-up starts at the toolbox's default scope and warns that it has no
    such registry. The config is read and never changed.

    Args:
        registry: One of the registries above that hold parts (``ASCENTS``, ``CRITERIA`` ...).
        part: ``dict(type='Name' or 'mmsharp.Name' or a class, ...)`` or a built part.
        defaults: Arguments that the config may override.

    Raises:
        MmsharpError: No type, an unknown one, or arguments that it does not take.

    Example:
        >>> from mmsharp.registry import ASCENTS, build_part
        >>> build_part(ASCENTS, dict(type='SAM', rho=0.1)).rho
        0.1
    """
    if not isinstance(part, Mapping):
        return part
    registry.import_from_location()
    accepted = ', '.join(sorted(registry.module_dict)) or 'none registered'
    arguments = {**defaults, **part}
    kind = arguments.pop('type', None)
    if kind is None:
        raise MmsharpError(f'{registry.name}={dict(part)!r} has no `type`; accepted: {accepted}')
    made_by = registry.module_dict.get(kind.removeprefix(f'{SCOPE}.')) if isinstance(kind, str) else kind
    if made_by is None or not callable(made_by):
        raise MmsharpError(f'{registry.name} type {kind!r} is unknown; accepted: {accepted}')
    try:
        inspect.signature(made_by).bind(**arguments)
    except TypeError as error:
        raise MmsharpError(f'{registry.name} {kind!r}: {error}; it takes {inspect.signature(made_by)}') from None
    return made_by(**arguments)
