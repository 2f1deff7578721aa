"""A pruning criterion as the score of an ascent: the link between the two pure packages."""

from __future__ import annotations

import logging
from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import replace
from typing import Any

import torch
from mmengine.logging import print_log
from torch import Tensor, nn

from mmsharp.engine.optim_wrappers.following_norms import FollowingNorms
from mmsharp.engine.optim_wrappers.gradients_of_step import gradients_of_step
from mmsharp.errors import MmsharpError, shown
from mmsharp.pruning import ChannelGroup, Member
from mmsharp.pruning.layers import axis_size, layer_kind
from mmsharp.sharpness import AdaSAP, Ascent, AscentParameter, MomentumSAM
from mmsharp.type_names import class_names

Criterion = Callable[[nn.Module, ChannelGroup], Tensor]


class CriterionScores:
    """What a criterion says of the output channels of a parameter's layer, taken as a group of its own.

    AdaSAP compares the channels of a layer with each other (its ``score_scope``), so each layer is judged by itself,
    unless ``coupled`` gives the groups that its channels are pruned with: then a channel has the score of its group,
    and only channels of none are judged by their layer. ``BatchNormScale`` sees no BatchNorm in a layer and scores
    it by magnitude, which is said once in the log. A criterion that looks at gradients is shown those of every step of
    the optimizer, and means over all of them since the ascent began, not since the last pruning step; until the first
    of a layer, it scores nothing. The BatchNorms that take the layer's output, as the first forward pass shows, are
    part of its group: behind them, ``<w, dL/dw>`` of the filters is 0 whatever they are worth.

    Args:
        model: Holds the parameters, by the names that they were selected with.
        criterion: Any of ``CRITERIA``, built.
        optimizer: Whose gradients the criterion is shown, if it looks at them.
        parameters: Gives those that may be asked for. The gradients of all are shown, whatever part a step perturbs.
        coupled: Groups of channels that are pruned together, over the model's layers. A group is scored once for each
            layer that makes its channels.

    Example:
        >>> from mmsharp.pruning import Magnitude
        >>> from mmsharp.sharpness import select_parameters
        >>> model = nn.Sequential(nn.Linear(1, 2))
        >>> _ = model[0].weight.data.copy_(torch.tensor([[3.0], [-4.0]]))
        >>> parameters = select_parameters(model, 'weights')
        >>> optimizer = torch.optim.SGD(model.parameters(), lr=0.1)
        >>> scores = CriterionScores(model, Magnitude(), optimizer, lambda: parameters)
        >>> scores(parameters[0])
        tensor([3., 4.])
    """

    def __init__(
        self,
        model: nn.Module,
        criterion: Criterion,
        optimizer: torch.optim.Optimizer,
        parameters: Callable[[], Sequence[AscentParameter]],
        coupled: Sequence[ChannelGroup] = (),
    ) -> None:
        self.model = model
        self.criterion = criterion
        self.parameters = parameters
        self._looks = hasattr(criterion, 'observe')
        self._groups: dict[str, ChannelGroup | None] = {}
        self._coupled = tuple(replace(group, name=f'coupled {group.name}') for group in coupled)
        self._observed: set[str] = set()
        self._looked_at: set[str] = set()
        if 'BatchNormScale' in class_names(criterion) and not coupled:
            print_log(
                'BatchNormScale judges a layer by the BatchNorm behind it, which an ascent does not see: channels are '
                'scored by the magnitude of their filters',
                'current',
                logging.WARNING,
            )
        self._hook = optimizer.register_step_pre_hook(self._observe) if self._looks else None
        self._norms = FollowingNorms(model) if self._looks else None

    def __call__(self, parameter: AscentParameter) -> Tensor | None:
        """Scores of shape ``(channels,)`` on the parameter's device, or ``None`` where there are none.

        There are none for a parameter of a layer that criteria do not know, such as an attention's joint projection,
        none of a criterion that has yet to see a gradient, and none where it says itself that it has none.

        Raises:
            MmsharpError: The criterion gives something else than one finite score per channel.
        """
        group = self._group(parameter)
        if group is None or (self._looks and group.name not in self._observed):
            return None
        if self._unscored(group):
            return None
        scores = self._scores_of(group).clone()  # a criterion may give what it remembers
        for whole, member in self._coupled_with(parameter):
            unseen = self._looks and whole.name not in self._observed
            if not unseen and not self._unscored(whole):
                scores[member.positions] = self._scores_of(whole)[member.channels]
        return scores.to(parameter.tensor.device)

    def _coupled_with(self, parameter: AscentParameter) -> Iterator[tuple[ChannelGroup, Member]]:
        path = parameter.name.rpartition('.')[0]
        for group in self._coupled:
            for member in group.members:
                if (member.module, member.axis) == (path, 'out'):
                    yield group, member

    def _unscored(self, group: ChannelGroup) -> bool:
        return hasattr(self.criterion, 'unscored') and self.criterion.unscored(self.model, group) is not None

    def _scores_of(self, group: ChannelGroup) -> Tensor:
        scores = torch.as_tensor(self.criterion(self.model, group)).detach().float()
        if scores.shape != (group.channels,) or not self._is_finite(group.name, scores):
            raise MmsharpError(
                f'{type(self.criterion).__name__} scores the {group.channels} channels of {group.name!r} with a tensor '
                f'of shape {tuple(scores.shape)} or values that are not finite; AdaSAP needs one finite number per '
                'channel'
            )
        return scores

    def _is_finite(self, name: str, scores: Tensor) -> bool:
        """On a GPU, where looking means waiting, only the first time."""
        if scores.device.type != 'cpu' and name in self._looked_at:
            return True
        self._looked_at.add(name)
        return bool(scores.isfinite().all())

    def close(self) -> None:
        """Stop looking at the optimizer's steps, and forget what was seen."""
        if self._hook is not None:
            self._hook.remove()
            self._norms.close()  # type: ignore[union-attr]
            self.criterion.reset()  # type: ignore[attr-defined]

    def state_dict(self) -> dict[str, Any]:
        """What the criterion has seen, and of which layers; empty for one that does not look."""
        if not self._observed:
            return {}
        return dict(criterion=self.criterion.state_dict(), layers=sorted(self._observed))  # type: ignore[attr-defined]

    def load_state_dict(self, state: Mapping[str, Any]) -> None:
        """Take over what :meth:`state_dict` gave.

        Raises:
            MmsharpError: It is something else.
        """
        if not self._looks or not state:
            return
        layers = state.get('layers')
        if state.keys() != {'criterion', 'layers'} or not all(isinstance(name, str) for name in _listed(layers)):
            found = ', '.join(sorted(map(shown, state))[:5])
            raise MmsharpError(
                f'the state of the scores of {type(self.criterion).__name__}: expected criterion and a list of layers, '
                f'found {found}; resume from a checkpoint written by this version of mmsharp'
            )
        self.criterion.load_state_dict(state['criterion'])  # type: ignore[attr-defined]
        self._observed = set(layers or ())

    def _observe(self, optimizer: torch.optim.Optimizer, *_: Any) -> None:
        found = (self._group(parameter) for parameter in self.parameters())
        groups = {group.name: group for group in found if group is not None}
        with gradients_of_step(optimizer) as steps:
            if steps:
                self.criterion.observe(self.model, (*groups.values(), *self._coupled))  # type: ignore[attr-defined]
                self._observed.update(groups, (group.name for group in self._coupled))

    def _group(self, parameter: AscentParameter) -> ChannelGroup | None:
        if parameter.name in self._groups:
            return self._groups[parameter.name]
        group = self._layer_of(parameter)
        if self._norms is None or self._norms.seen:
            self._groups[parameter.name] = group
        return group

    def _layer_of(self, parameter: AscentParameter) -> ChannelGroup | None:
        path, _, name = parameter.name.rpartition('.')
        module = self.model.get_submodule(path)
        kind = layer_kind(module)
        out = None if kind is None else kind.axis('out')
        if out is None or out.tensors.get(name) != parameter.channel_axis:
            return None
        everything = torch.arange(axis_size(module, out))
        norms = [] if self._norms is None else self._norms.paths_of.get(path, [])
        members = [path, *(name for name in norms if self.model.get_submodule(name).num_features == len(everything))]
        return ChannelGroup(
            path, len(everything), tuple(Member(name, 'out', everything, everything) for name in members)
        )


def _listed(layers: Any) -> list[Any]:
    """The entries of a list; of anything else one that is no name."""
    return layers if isinstance(layers, list) else [None]


def connect_criterion(
    ascent: Ascent,
    model: nn.Module,
    optimizer: torch.optim.Optimizer,
    parameters: Callable[[], Sequence[AscentParameter]],
    groups: Sequence[ChannelGroup] | None = None,
) -> CriterionScores | None:
    """Let the criterion of an ascent that scores by one see the model and the optimizer's steps.

    Args:
        ascent: Any; nothing is done for one that has no criterion.
        model: Holds the parameters.
        optimizer: Of the model.
        parameters: As for :class:`CriterionScores`.
        groups: Channels that are pruned together, for an ascent that scores them so; ``None`` if nobody knows.

    Raises:
        MmsharpError: The ascent scores coupled channels, and nobody knows them.

    Example:
        >>> from mmsharp.sharpness import select_parameters
        >>> model = nn.Linear(1, 2)
        >>> optimizer = torch.optim.SGD(model.parameters(), lr=0.1)
        >>> ascent = AdaSAP(score=dict(type='Magnitude'))
        >>> connect_criterion(ascent, model, optimizer, lambda: select_parameters(model)) is ascent.score_by
        True
        >>> connect_criterion(AdaSAP(), model, optimizer, lambda: select_parameters(model)) is None
        True
    """
    scoring = ascent.ascent if isinstance(ascent, MomentumSAM) else ascent
    if not isinstance(scoring, AdaSAP) or scoring.criterion is None:
        return None
    if scoring.coupled and groups is None:
        raise MmsharpError(
            f'{type(scoring).__name__}(coupled=True) scores channels by the groups that are pruned together, which '
            'mmsharp.PruningHook and its heirs know; add one to default_hooks or custom_hooks, or leave `coupled` out'
        )
    scores = CriterionScores(
        model, scoring.criterion, optimizer, parameters, tuple(groups or ()) if scoring.coupled else ()
    )
    scoring.score_by = scores
    return scores
