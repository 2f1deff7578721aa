"""What a config says of its robustness evaluation, under the key ``robustness``.

    robustness = dict(
        evaluation=dict(corruptions='benchmark', metric='pascal_voc/mAP'),   # for tools/test_robust.py
        hook=dict(interval=5),                                               # for tools/train.py
    )

No toolbox uses that key, so a base that defines it goes with any other (MMEngine allows no key in two bases).
"""

import copy
import inspect
from collections.abc import Callable, Mapping
from typing import Any

from mmengine.config import Config

from mmsharp.engine.hooks import CorruptionEvalHook
from mmsharp.errors import MmsharpError

KEY = 'robustness'
SHARED = ('metric', 'seed', 'channel_order', 'image_order', 'position', 'backend', 'constants')
"""What the hook takes from ``evaluation`` where ``hook`` does not say otherwise."""


def evaluation_settings(cfg: Config, accepted: Callable[..., Any]) -> dict[str, Any]:
    """What ``robustness.evaluation`` sets, as arguments of ``accepted``.

    Raises:
        MmsharpError: The key holds something else, or an argument that does not exist.

    Example:
        >>> from mmsharp.apis import evaluate_robustness
        >>> evaluation_settings(Config(dict(robustness=dict(evaluation=dict(severities=(0, 3))))), evaluate_robustness)
        {'severities': (0, 3)}
    """
    settings = dict(_part(cfg, 'evaluation'))
    names = [name for name in inspect.signature(accepted).parameters if name not in ('config', 'checkpoint')]
    unknown = sorted(set(settings) - set(names))
    if unknown:
        raise MmsharpError(f'{KEY}.evaluation has no {", ".join(unknown)}; accepted are {", ".join(names)}')
    return settings


def add_robustness_hook(cfg: Config) -> None:
    """Add the :class:`mmsharp.CorruptionEvalHook` of ``robustness.hook`` to the hooks of a config, in place.

    Its ``type`` need not be given, and what it shares with ``robustness.evaluation`` is taken from there. Nothing is
    added where the config says nothing, has such a hook already, or does not validate.

    Raises:
        MmsharpError: The key holds something else.
    """
    if 'hook' not in (cfg.get(KEY) or {}) or cfg.get('val_dataloader') is None:
        return
    hook = dict(_part(cfg, 'hook'))
    hooks = list(cfg.get('custom_hooks') or [])
    present = [*hooks, *(cfg.get('default_hooks') or {}).values()]
    if any(isinstance(item, Mapping) and _is_robust(item.get('type')) for item in present):
        return
    evaluation = _part(cfg, 'evaluation')
    shared = {key: evaluation[key] for key in SHARED if key in evaluation}
    cfg.custom_hooks = [*hooks, dict(type='mmsharp.CorruptionEvalHook') | shared | hook]


def _is_robust(kind: Any) -> bool:
    return kind is CorruptionEvalHook or str(kind).rsplit('.', 1)[-1] == CorruptionEvalHook.__name__


def _part(cfg: Config, name: str) -> Mapping[str, Any]:
    whole = cfg.get(KEY) or {}
    unknown = sorted(set(whole) - {'evaluation', 'hook'}) if isinstance(whole, Mapping) else [repr(whole)]
    if unknown:
        raise MmsharpError(f'{KEY} of the config has no {", ".join(unknown)}; accepted are evaluation and hook')
    part = whole.get(name) or {}
    if not isinstance(part, Mapping):
        raise MmsharpError(f'{KEY}.{name} of the config is {part!r}; expected a dictionary of arguments')
    return copy.deepcopy(dict(part))
