"""AdaSAP: a ball per channel, larger where the channel is about to be pruned.

Bair et al. (ICLR 2024), "Adaptive Sharpness-Aware Pruning for Robust Sparse Networks", arXiv 2306.14306, algorithm 1
and what others cite as equations 3 and 5. No official code exists. What the sources at hand do not settle is an
argument here: the form of the perturbation, the scope of its norm, the scope of the extremes of the score, the score
itself, how often it is looked at, and whether channels that are pruned together share one.
"""

from __future__ import annotations

import math
from collections.abc import Callable, Mapping, Sequence
from dataclasses import replace
from typing import Any

import torch
from torch import Tensor

from mmsharp.errors import MmsharpError
from mmsharp.registry import ASCENTS, CRITERIA, build_part
from mmsharp.sharpness.ascents.asam import PIECE, norm_and_scale_twice_, operator, scale_twice_
from mmsharp.sharpness.ascents.ascent import TINY, Ascent, Turn, gradient_norm, validate_radius
from mmsharp.sharpness.ascents.radius import adaptive_radius
from mmsharp.sharpness.parameters import AscentParameter

FORMS = ('asam', 'sam')
RADII: dict[str, tuple[float, float]] = {'relative': (0.005, 0.05), 'absolute': (0.01, 0.2)}
"""What a radius can be a number of, with the default extremes."""
DENOMINATORS = ('Tg', 'T2g')
"""Of the absolute form: ASAM's, or the norm of what is divided."""
NORM_SCOPES = ('neuron', 'layer', 'global')
SCORE_SCOPES = ('layer', 'global')
SCORES: dict[str, Callable[[Tensor], Tensor]] = {
    'l1': lambda filters: filters.abs().sum(dim=1),
    'l2': lambda filters: torch.linalg.vector_norm(filters, dim=1),
}


@ASCENTS.register_module()
class AdaSAP(Ascent):
    r"""``eps_i = rho_i * ||w_i||_2 * T_i^2 g_i / ||T_i^2 g_i||_2`` per output channel ``i`` of every weight.

    Bair et al. (2024), algorithm 1, equations (3) and (5) as others cite them; the published numbering could not be
    checked. ``g`` and ``eps`` have the shapes and dtypes of the parameters, ``rho_i`` is one number per output channel.
    The default is our scale-free form: ``rho_i`` is the share of its norm by which a channel moves, so that one value
    serves wide and narrow, dense and depth-wise filters alike. ``radius='absolute'`` is the paper's ``eps_i = rho_i *
    T_i^2 g_i / ||T_i g_i||_2``, which moves a filter of ``n`` weights by about ``1.7 rho_i / sqrt(n)`` of its norm: the
    reported radii of 0.01 and 2.0 are 5 to 14 per cent of a ResNet-50's filters, but more than the whole of a
    depth-wise one. Departures, each an argument: see ``radius``, ``score``, ``score_interval``, ``coupled``,
    ``norm_scope``, ``score_scope`` and ``denominator``.

    ``rho_i`` falls linearly from ``rho_max`` for the least to ``rho_min`` for the most important channel
    (:func:`~mmsharp.sharpness.adaptive_radius`); ``T = |w| + eta`` (``form='asam'``) for every parameter, whatever it
    is called (ASAM itself leaves biases out), or 1 (``form='sam'``). Pruned channels take no part: they enter neither
    the extremes nor the norms, and are not perturbed.

    Args:
        rho_min: Radius of the most important channel, without unit; ``None`` stands for 0.005, and for 0.01 in the
            absolute form.
        rho_max: Radius of the least important channel; ``None`` stands for 0.05, and for 0.2 in the absolute form.
        radius: ``'relative'``: in units of ``||w||`` over what the norm is taken over (default), or ``'absolute'``.
            Reported of the paper are 0.01 and 2.0, absolute, for filters as wide as those of a ResNet-50.
        score: Importance of a channel: ``'l2'`` or ``'l1'`` of its filter, a function from a matrix of shape
            ``(channels, weights per channel)`` to scores of shape ``(channels,)``, or the config of any registered
            pruning criterion, ``dict(type='Magnitude', p=1)``, which MMEngine's wrappers connect. The paper names no
            score; l2 is the reading that its parameter-pruning experiments suggest.
        form: ``'asam'`` (the paper's equation 5 carries ASAM's operator) or ``'sam'``, ``T = 1``, where absolute radii
            are in the units of the weights and need to be about 40 times smaller.
        norm_scope: Over what the denominator is taken: ``'neuron'`` (each channel by itself, our default), ``'layer'``
            or ``'global'``.
        score_scope: Over what ``s_min`` and ``s_max`` are taken: ``'layer'`` (default) or ``'global'``.
        eta: Floor of ``T = |w| + eta``, in the units of the weights; for a relative radius in those of their root mean
            square over the channel (over the layer for wider scopes), so that nothing depends on their scale.
        denominator: Of the absolute form: ``'Tg'``, ASAM's ``||T g||``, which ``None`` stands for, or ``'T2g'``,
            ``||T^2 g||``, as what is public of the paper can also be read; it destroys a network at the reported radii.
            A relative radius is one of ``||T^2 g||`` always.
        score_interval: Perturbations of a parameter from one look at its scores to the next; in between, those seen
            last stand. The paper does not say; algorithm 1 reads as every one (default).
        coupled: Whether channels that can only be pruned together, such as those of a residual sum, share one score,
            the criterion's of their group (of ``'l2'`` and ``'l1'`` the mean over the filters that make the channel).
            The paper does not say; by default every layer is scored by itself. It takes mmsharp's pruning hooks, which
            know the groups; from where channels are removed on, layers are scored by themselves.

    Raises:
        MmsharpError: A radius is negative or not a number, ``rho_min > rho_max``, an option is unknown, a denominator
            is given for relative radii, or a function as the score of coupled channels.

    Example:
        >>> from torch import nn
        >>> from mmsharp.sharpness import select_parameters
        >>> layer = nn.Linear(2, 2, bias=False)
        >>> _ = layer.weight.data.copy_(torch.tensor([[1.0, 1.0], [3.0, 3.0]]))
        >>> gradient = torch.tensor([[3.0, 4.0], [3.0, 4.0]])
        >>> ascent = AdaSAP(rho_min=0.1, rho_max=1.0, form='sam', radius='absolute')
        >>> _ = ascent.perturb_(select_parameters(layer), [gradient], [None])
        >>> [[round(value, 4) for value in row] for row in gradient.tolist()]
        [[0.6, 0.8], [0.06, 0.08]]
        >>> _ = AdaSAP(rho_min=0.125, rho_max=0.5).perturb_(select_parameters(layer), [gradient], [None])
        >>> [round(share, 4) for share in (gradient.norm(dim=1) / layer.weight.norm(dim=1)).tolist()]
        [0.5, 0.125]
    """

    default_parameters = 'weights'

    def __init__(
        self,
        rho_min: float | None = None,
        rho_max: float | None = None,
        score: str | Callable[[Tensor], Tensor] | Mapping[str, Any] = 'l2',
        form: str = 'asam',
        norm_scope: str = 'neuron',
        score_scope: str = 'layer',
        eta: float = 0.01,
        radius: str = 'relative',
        denominator: str | None = None,
        score_interval: int = 1,
        coupled: bool = False,
    ) -> None:
        self.radius = _one_of('radius', radius, tuple(RADII))
        if denominator is not None and radius == 'relative':
            raise MmsharpError(
                f"denominator={denominator!r} is of radius='absolute'; a relative radius is one of ||T^2 g||"
            )
        self.denominator = 'Tg' if denominator is None else _one_of('denominator', denominator, DENOMINATORS)
        least, most = RADII[radius]
        self.rho_min = validate_radius('rho_min', least if rho_min is None else rho_min)
        self.rho_max = validate_radius('rho_max', most if rho_max is None else rho_max)
        if self.rho_min > self.rho_max:
            raise MmsharpError(f'rho_min={self.rho_min!r} is larger than rho_max={self.rho_max!r}; swap them')
        if not isinstance(coupled, bool):
            raise MmsharpError(f'coupled={coupled!r} is neither True nor False')
        if isinstance(score_interval, bool) or not isinstance(score_interval, int) or score_interval < 1:
            raise MmsharpError(f'score_interval={score_interval!r} is not a whole number of at least 1')
        self.coupled = coupled
        self.score_interval = score_interval
        self._seen: dict[str, tuple[int, Tensor]] = {}
        judge = score if isinstance(score, Mapping) else None
        if coupled and isinstance(score, str) and score in SCORES:
            judge = dict(type='Magnitude', p=int(score[1:]))
        self.criterion = None if judge is None else build_part(CRITERIA, judge)
        self.score_by: Callable[[AscentParameter], Tensor | None] | None = None
        """How the criterion scores a parameter; whoever knows the model sets it."""
        if isinstance(score, Mapping):
            score = 'l2'  # for parameters that the criterion does not know
        if not callable(score) and not (isinstance(score, str) and score in SCORES):
            raise MmsharpError(
                f'score={score!r} is neither one of {tuple(SCORES)} nor a function nor the config of a criterion: '
                f'{", ".join(sorted(CRITERIA.module_dict))}'
            )
        if coupled and self.criterion is None:
            raise MmsharpError(
                f'score={score!r} is a function of filters, and coupled=True asks for the scores of groups; give one '
                f'of {tuple(SCORES)} or the config of a criterion'
            )
        self.score: Callable[[Tensor], Tensor] = SCORES[score] if isinstance(score, str) else score
        self.form = _one_of('form', form, FORMS)
        self.norm_scope = _one_of('norm_scope', norm_scope, NORM_SCOPES)
        self.score_scope = _one_of('score_scope', score_scope, SCORE_SCOPES)
        self.eta = validate_radius('eta', eta)

    def turn_(
        self,
        parameters: Sequence[AscentParameter],
        gradients: Sequence[Tensor],
        keep: Sequence[Tensor | None],
    ) -> Turn:
        """Overwrite the gradients with ``eps``; see the base class."""
        radii, channels = self._radii(parameters, keep)
        if self.norm_scope == 'neuron':
            norm = gradient_norm(gradients)
            for parameter, gradient, radius in zip(parameters, gradients, radii):
                self._turn_channels_(parameter, gradient, radius)
        else:
            norm, factors = self._turn_layers_(parameters, gradients)
            if self.norm_scope == 'global':
                over, under = (torch.linalg.vector_norm(torch.stack(norms)) for norms in zip(*factors))
                factors = [(over, under)] * len(factors)
            for parameter, gradient, radius, (over, under) in zip(parameters, gradients, radii, factors):
                share = radius * over if self.radius == 'relative' else radius
                gradient.mul_(_along_channels(share / (under + TINY), parameter))
        return Turn(norm, _wide(torch.cat(radii)).sum() / channels)

    def _turn_layers_(
        self, parameters: Sequence[AscentParameter], gradients: Sequence[Tensor]
    ) -> tuple[Tensor, list[tuple[Tensor, Tensor]]]:
        """``g <- T^2 g`` in place.

        Returns:
            ``||g||`` before; and of each its ``||w||`` with the norm that it is divided by: ``||T g||``, or ``||T^2
            g||`` for a relative radius or on request.
        """
        weights = [_wide(torch.linalg.vector_norm(parameter.tensor.detach())) for parameter in parameters]
        if self.form == 'sam':
            lengths = [_wide(torch.linalg.vector_norm(gradient)) for gradient in gradients]
            return torch.linalg.vector_norm(torch.stack(lengths)), list(zip(weights, lengths))
        scaled = [replace(parameter, scaled=True) for parameter in parameters]
        if self.radius == 'absolute':
            norm, lengths = norm_and_scale_twice_(gradients, scaled, self.eta)
            if self.denominator == 'Tg':
                return norm, list(zip(weights, lengths))
        else:
            norm = gradient_norm(gradients)
            for parameter, gradient, weight in zip(scaled, gradients, weights):
                scale_twice_(gradient, parameter, weight * (self.eta / math.sqrt(gradient.numel())), norm)
        lengths = [_wide(torch.linalg.vector_norm(gradient)) for gradient in gradients]
        return norm, list(zip(weights, lengths))

    def _turn_channels_(self, parameter: AscentParameter, gradient: Tensor, radius: Tensor) -> None:
        """``g_i <- eps_i`` in place, on CPUs a few channels at a time, which stay in the cache."""
        weight, axis = parameter.tensor.detach(), parameter.channel_axis
        if gradient.dim() == 0:
            gradient, weight, axis = gradient[None], weight[None], 0
        others = [dim for dim in range(gradient.dim()) if dim != axis]
        radii = radius.reshape([-1 if dim == axis else 1 for dim in range(gradient.dim())])
        count = len(radius)
        if gradient.device.type == 'cpu':
            count = max(1, PIECE * count // max(1, gradient.numel()))
        turn = self._turn_relative_ if self.radius == 'relative' else self._turn_absolute_
        for piece, weights, rho in zip(*(tensor.split(count, axis) for tensor in (gradient, weight, radii))):
            turn(piece, weights, rho, others)

    def _turn_absolute_(self, gradient: Tensor, weight: Tensor, rho: Tensor, others: list[int]) -> None:
        """``g_i <- rho_i * T_i^2 g_i / ||T_i g_i||``, or by ``||T_i^2 g_i||``."""
        scale = operator(weight, self.eta) if self.form == 'asam' else None
        if scale is not None:
            gradient.mul_(scale)
        if scale is not None and self.denominator == 'T2g':
            gradient.mul_(scale)
            scale = None
        # In half precision 1e-12 is nothing, and a channel without a gradient would divide 0 by 0.
        factor = rho / (_norms(gradient, others) + TINY)
        gradient.mul_(factor if scale is None else _wide(scale).mul_(factor))

    def _turn_relative_(self, gradient: Tensor, weight: Tensor, rho: Tensor, others: list[int]) -> None:
        """``g_i <- rho_i * ||w_i|| * T_i^2 g_i / ||T_i^2 g_i||``."""
        unit = _norms(weight, others)
        if self.form == 'asam':
            root_mean_square = unit * math.sqrt(unit.numel() / weight.numel())
            scale = weight.abs().div_(root_mean_square + TINY).add_(self.eta)  # of order 1: its square is a half's, too
            gradient.mul_(scale).mul_(scale)
        gradient.mul_(rho * unit / (_norms(gradient, others) + TINY))

    def _radii(
        self, parameters: Sequence[AscentParameter], keep: Sequence[Tensor | None]
    ) -> tuple[list[Tensor], Tensor | int]:
        """Of every channel of every parameter, 0 of pruned ones; and how many are not pruned."""
        scores = [self._last_score(parameter) for parameter in parameters]
        kept = [None if mask is None else _kept_channels(mask, parameter) for mask, parameter in zip(keep, parameters)]
        pruned = [(~mask).sum() for mask in kept if mask is not None]
        channels = sum(map(len, scores)) - sum(pruned)
        channels = channels.clamp(min=1) if isinstance(channels, Tensor) else channels
        if self.score_scope == 'layer':
            radii = [adaptive_radius(score, self.rho_min, self.rho_max, mask) for score, mask in zip(scores, kept)]
            return radii, channels
        sizes = [len(score) for score in scores]
        everywhere = torch.cat([torch.ones_like(s, dtype=torch.bool) if m is None else m for s, m in zip(scores, kept)])
        radii = adaptive_radius(torch.cat(scores), self.rho_min, self.rho_max, everywhere).split(sizes)
        return list(radii), channels

    def _last_score(self, parameter: AscentParameter) -> Tensor:
        """The parameter's scores, or those seen last for as long as ``score_interval`` says."""
        if self.score_interval == 1:
            return self._score(parameter)
        age, scores = self._seen.get(parameter.name, (self.score_interval, None))
        tensor = parameter.tensor
        channels = tensor.shape[parameter.channel_axis] if tensor.dim() else 1
        if scores is None or age >= self.score_interval or len(scores) != channels:
            age, scores = 0, self._judged(parameter)
            if scores is None and self.criterion is not None:  # it says nothing yet, and is asked again the next time
                self._seen.pop(parameter.name, None)
                return self._by_filters(parameter)
        scores = self._by_filters(parameter) if scores is None else scores
        self._seen[parameter.name] = (age + 1, scores)
        return scores

    def state_dict(self) -> dict[str, Any]:
        """With an interval, the scores seen last and how often they were taken; see the base class."""
        return {name: dict(age=age, scores=scores.clone()) for name, (age, scores) in self._seen.items()}

    def load_state_dict(self, state: Mapping[str, Any]) -> None:
        """Take over what :meth:`state_dict` gave; what is of no parameter's shape is not used."""
        self._seen = {name: (entry['age'], entry['scores']) for name, entry in state.items()}

    def _score(self, parameter: AscentParameter) -> Tensor:
        scores = self._judged(parameter)
        return self._by_filters(parameter) if scores is None else scores

    def _by_filters(self, parameter: AscentParameter) -> Tensor:
        return self.score(_filters(parameter.tensor.detach(), parameter))

    def _judged(self, parameter: AscentParameter) -> Tensor | None:
        """What the criterion says, if there is one that says anything."""
        if self.criterion is not None:
            if self.score_by is None:
                raise MmsharpError(
                    f'AdaSAP: the criterion {type(self.criterion).__name__} needs the model; set `score_by`, as '
                    'mmsharp.SAMOptimWrapper does, or give a function of the filters as `score`'
                )
            return self.score_by(parameter)
        return None


def _norms(tensor: Tensor, dims: list[int]) -> Tensor:
    """``||.||_2`` over some dimensions, which stay with size 1; over none, the absolute values."""
    return _wide(torch.linalg.vector_norm(tensor, dim=dims, keepdim=True) if dims else tensor.abs())


def _wide(tensor: Tensor) -> Tensor:
    """Half precision as float32, anything else as it is."""
    return tensor.float() if tensor.element_size() < 4 else tensor


def _filters(tensor: Tensor, parameter: AscentParameter) -> Tensor:
    """View a tensor as a matrix, one row per output channel."""
    if tensor.dim() == 0:
        return tensor.reshape(1, 1)
    return tensor.movedim(parameter.channel_axis, 0).reshape(tensor.shape[parameter.channel_axis], -1)


def _along_channels(values: Tensor, parameter: AscentParameter) -> Tensor:
    """Shape one value per output channel so that it broadcasts against the parameter."""
    shape = [1] * parameter.tensor.dim()
    if shape:
        shape[parameter.channel_axis] = -1
    return values.reshape(shape)


def _kept_channels(mask: Tensor, parameter: AscentParameter) -> Tensor:
    return _filters(mask.expand_as(parameter.tensor), parameter).any(dim=1)


def _one_of(name: str, value: str, accepted: tuple[str, ...]) -> str:
    if value not in accepted:
        raise MmsharpError(f'{name}={value!r} is not one of {accepted}')
    return value
