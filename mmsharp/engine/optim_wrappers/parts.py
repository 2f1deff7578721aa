"""The ascent and the policy that a config describes, built or refused by name."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

from mmsharp.errors import MmsharpError
from mmsharp.registry import ASCENTS, POLICIES, build_part
from mmsharp.sharpness import Ascent, Policy


def build_policy(policy: Mapping[str, Any] | Policy | None) -> Policy:
    """The policy; ``None`` stands for an ascent in every step.

    Raises:
        MmsharpError: It is none.

    Example:
        >>> type(build_policy(None)).__name__
        'EveryStep'
    """
    built = build_part(POLICIES, dict(type='EveryStep') if policy is None else policy)
    if not isinstance(built, Policy):
        raise MmsharpError(
            f'policy={policy!r} is neither a Policy nor the config of one; accepted types: '
            f'{", ".join(sorted(POLICIES.module_dict))}'
        )
    return built


def build_ascent(ascent: Mapping[str, Any] | Ascent, policy: Policy) -> Ascent:
    """The ascent, which has to go with the policy.

    Raises:
        MmsharpError: It is none, or the policy compares two gradients and it takes one.

    Example:
        >>> build_ascent(dict(type='SAM', rho=0.1), build_policy(None)).rho
        0.1
    """
    built = build_part(ASCENTS, ascent)
    if not isinstance(built, Ascent):
        raise MmsharpError(
            f'ascent={ascent!r} is neither an Ascent nor the config of one; accepted types: '
            f'{", ".join(sorted(ASCENTS.module_dict))}'
        )
    if built.direction != 'gradient' and policy.corrects:
        raise MmsharpError(
            f'{type(policy).__name__} compares two gradients, and {type(built).__name__} takes one; use another policy '
            'or another ascent'
        )
    return built
