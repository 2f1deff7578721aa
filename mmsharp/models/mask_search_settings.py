"""What ``search=dict(...)`` of ``mmsharp.MaskSearch`` may say."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any

from mmsharp.errors import MmsharpError
from mmsharp.pruning import parse_budget
from mmsharp.pruning.mask_search import CollapseWatch, Parameterisation, Perturbation, Term
from mmsharp.registry import MASK_PARAMETERISATIONS, MASK_PERTURBATIONS, MASK_TERMS, build_part

GRANULARITIES = ('weight', 'channel')
DEFAULT_LOSSES = dict(
    stability=dict(type='Stability'),
    margin_ratio=dict(type='MarginRatio'),
    consistency=dict(type='Consistency'),
    l1=dict(type='L1'),
    task=dict(type='Task'),
)
"""The terms reported of C-SAM and its predecessor, and the task's own loss, which is ours."""


@dataclass
class MaskSearchSettings:
    """The settings of a search, checked; parts may be configs or built.

    Args:
        granularity: ``'weight'``, a mask entry per weight, which removes no layer's channel; or ``'channel'``, one per
            coupled channel, which ends in a slim network.
        ratio: The share that goes: of each layer's weights, or of each group's channels. Needed but for a budget.
        budget: ``dict(params=0.4)``, ``dict(macs=0.5)`` or ``dict(channels=0.5)``: what remains, in place of a ratio,
            of channels only.
        input_shape: ``(channels, height, width)`` of an image as the network gets it; to find coupled channels.
        round_to: With a budget, every group keeps a multiple of this; refused with a ratio, which is exact.
        ignore: Patterns of layers that stay whole.
        parameterisation: What is learned in place of a mask; by default ``Soft`` masks, percentile 90.
        perturbation: By default ``Uniform``, rho 0.05.
        losses: The terms by the names that they are logged under, each a config or ``None`` to leave it out; by default
            stability, margin ratio, consistency, L1 and the task's own loss.
        train_norms: Whether scales and shifts of normalisations are trained beside the masks, as HYDRA does.
        collapse: Of :class:`~mmsharp.pruning.mask_search.CollapseWatch`.

    Raises:
        MmsharpError: A setting is missing, unknown or out of range.

    Example:
        >>> settings = MaskSearchSettings.of(dict(ratio=0.5, losses=dict(task=dict(type='Task'), l1=None)))
        >>> settings.granularity, [*settings.losses]
        ('weight', ['task'])
    """

    granularity: str = 'weight'
    ratio: float | None = None
    budget: Mapping[str, float] | None = None
    input_shape: Sequence[int] | None = None
    round_to: int = 1
    ignore: Sequence[str] = ()
    parameterisation: Any = None
    perturbation: Any = None
    losses: Mapping[str, Any] = field(default_factory=lambda: DEFAULT_LOSSES)
    train_norms: bool = False
    collapse: Mapping[str, Any] | None = None

    def __post_init__(self) -> None:
        if self.granularity not in GRANULARITIES:
            raise MmsharpError(
                f'search.granularity is {self.granularity!r}; accepted: {", ".join(map(repr, GRANULARITIES))}'
            )
        if (self.ratio is None) == (self.budget is None):
            raise MmsharpError(
                f'search.ratio is {self.ratio!r} and search.budget is {self.budget!r}; give exactly one of them, such '
                'as ratio=0.5, the share to remove'
            )
        ratio_is_number = isinstance(self.ratio, (int, float)) and not isinstance(self.ratio, bool)
        if self.ratio is not None and not (ratio_is_number and 0 <= self.ratio < 1):
            raise MmsharpError(f'search.ratio is {self.ratio!r}, expected the share to remove, in [0, 1)')
        if self.granularity == 'weight' and (self.budget is not None or self.input_shape is not None):
            raise MmsharpError(
                "search.budget and search.input_shape are for granularity='channel'; weights take a ratio"
            )
        if self.granularity == 'channel' and not _is_shape(self.input_shape):
            raise MmsharpError(
                f'search.input_shape is {self.input_shape!r}; the search over channels has to find which are coupled '
                'before the first image comes: give (channels, height, width) as the network gets them'
            )
        self.budget_of = None if self.budget is None else parse_budget(self.budget)
        if self.budget_of is not None and self.budget_of[0] == 'latency':
            raise MmsharpError('search.budget of latency is not met by mask search; give params, macs or channels')
        if isinstance(self.round_to, bool) or not isinstance(self.round_to, int) or self.round_to < 1:
            raise MmsharpError(f'search.round_to is {self.round_to!r}, expected a positive whole number')
        if self.round_to != 1 and self.budget is None:
            raise MmsharpError(
                f'search.round_to is {self.round_to}, and search.ratio={self.ratio!r} is met exactly; leave round_to '
                "out, or give a budget of channels, such as granularity='channel', budget=dict(params=0.4)"
            )
        if isinstance(self.ignore, str) or not all(isinstance(pattern, str) for pattern in self.ignore):
            raise MmsharpError(f'search.ignore is {self.ignore!r}, expected a sequence of patterns')
        if not isinstance(self.train_norms, bool):
            raise MmsharpError(f'search.train_norms is {self.train_norms!r}, expected True or False')
        self.parameterisation = _built(MASK_PARAMETERISATIONS, self.parameterisation, 'Soft', Parameterisation)
        self.perturbation = _built(MASK_PERTURBATIONS, self.perturbation, 'Uniform', Perturbation)
        if not isinstance(self.losses, Mapping):
            raise MmsharpError(f'search.losses is {self.losses!r}, expected a dict of terms by name')
        terms = {name: _built(MASK_TERMS, part, '', Term) for name, part in self.losses.items() if part is not None}
        self.losses = {name: term for name, term in terms.items() if term.weight}
        if not self.losses:
            raise MmsharpError('search.losses has no term with a weight above 0; nothing would be learned')
        if self.perturbation.needs_gradient and not any(term.ascends for term in self.losses.values()):
            raise MmsharpError(
                f'search.perturbation {type(self.perturbation).__name__} ascends the loss, but no term of '
                'search.losses says where it rises; add Task or MarginRatio, or take the perturbation Uniform'
            )
        self.watch = CollapseWatch(**_arguments(self.collapse))

    @classmethod
    def of(cls, search: Any) -> MaskSearchSettings:
        """From the dict of a config, which is not changed.

        Raises:
            MmsharpError: It is no dict, or has keys that are not settings.
        """
        if not isinstance(search, Mapping):
            raise MmsharpError(f'search is {search!r}, expected a dict of settings such as dict(ratio=0.5)')
        known = list(cls.__dataclass_fields__)
        unknown = [key for key in search if key not in known]
        if unknown:
            raise MmsharpError(f'search.{unknown[0]} is unknown; accepted: {", ".join(known)}')
        return cls(**search)

    def passes(self) -> frozenset[str]:
        """Which passes beside the clean one the terms ask for."""
        return frozenset().union(*(term.passes for term in self.losses.values()))


def _built(registry: Any, part: Any, default: str, kind: type) -> Any:
    built = build_part(registry, dict(type=default) if part is None else part)
    if not isinstance(built, kind):
        raise MmsharpError(f'search: {part!r} is no {registry.name}; give dict(type=...)')
    return built


def _arguments(collapse: Any) -> dict[str, Any]:
    if collapse is not None and (not isinstance(collapse, Mapping) or not set(collapse) <= {'window', 'limit'}):
        raise MmsharpError(f'search.collapse is {collapse!r}, expected dict(window=..., limit=...)')
    return dict(collapse or {})


def _is_shape(shape: Any) -> bool:
    return (
        isinstance(shape, Sequence)
        and len(shape) == 3
        and all(isinstance(size, int) and not isinstance(size, bool) and size > 0 for size in shape)
    )
