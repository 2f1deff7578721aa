"""What a network with masks does otherwise than the ordinary one, mixed into its class."""

from __future__ import annotations

import dataclasses
import functools
import logging
from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import contextmanager
from typing import TYPE_CHECKING, Any

import torch
from mmengine.logging import print_log
from torch import Tensor, nn

from mmsharp.models.mask_search_passes import MaskSearchPasses
from mmsharp.models.mask_search_settings import MaskSearchSettings
from mmsharp.models.network_outputs import captured, head_of, outputs_of
from mmsharp.models.pixel_scale import check_pixels, pixel_scale
from mmsharp.pruning.mask_search import (
    Collapse,
    Outputs,
    Passes,
    SearchedMasks,
    parameter_owners,
    total_loss,
    without_checkpoints,
)

HALF_PRECISION_SCALE = 2.0**10
"""Keeps the gradient of the ascent out of float16's underflow; its norm is taken out anyway."""

if TYPE_CHECKING:
    _Ordinary = nn.Module
else:
    _Ordinary = object


class MaskedNetwork(_Ordinary):
    """Mixed into the class of the ordinary network by :func:`masked_class`.

    Attributes:
        mask_search: The masks.
        search_settings: The settings.
        ordinary_class: The class without masks.
    """

    mask_search: SearchedMasks
    search_settings: MaskSearchSettings
    ordinary_class: type[nn.Module]
    _runs_masked = True
    _pixels_known = False
    _trainable: frozenset[str] | None = None
    """What learns outside of the search, once the search has frozen it."""

    def begin_search(self) -> None:
        """Set the masks from the weights of now, once, and freeze or free the parameters as the search stands.

        Raises:
            MmsharpError: A weight is not finite; or masks were loaded that end in another number of ones.
        """
        masks = self.mask_search
        masks.begin_(self)
        searching = not bool(masks.finished)
        if searching and self._trainable is None:
            self._trainable = self._learning()
        trainable = self._trainable or frozenset()
        norms = {id(value) for value in _norm_parameters(self)} if self.search_settings.train_norms else set()
        own = {id(value) for value in masks.parameters()}
        for name, parameter in self.named_parameters():
            if id(parameter) in own:
                parameter.requires_grad_(searching)
            elif searching:
                parameter.requires_grad_(id(parameter) in norms and name in trainable)
            elif name in trainable:
                parameter.requires_grad_(True)

    def finish_search(self, masks: Mapping[str, Tensor] | None = None) -> None:
        """Binarise at the exact number, zero what goes, and free the weights; masks hold through later training.

        Raises:
            MmsharpError: A variable is not finite; the network is as it was then.
        """
        self.mask_search.finish_(self, masks)
        self.begin_search()

    def leave_search(self) -> None:
        """Take the masks away: the model is an ordinary one again, with the weights that it has."""
        trainable = self._learning() if self._trainable is None else self._trainable
        del self.mask_search, self.search_settings
        for own in ('_trainable', '_runs_masked', '_pixels_known'):
            vars(self).pop(own, None)
        self.__class__ = self.ordinary_class  # type: ignore[assignment]
        for name, parameter in self.named_parameters():
            parameter.requires_grad_(parameter.requires_grad or name in trainable)

    @contextmanager
    def ordinary(self) -> Iterator[None]:
        """Inside, the model runs without its masks, as it was built, for those who look at what its layers do."""
        self._runs_masked = False
        try:
            yield
        finally:
            self._runs_masked = True

    def forward(self, inputs: Any, data_samples: Any = None, mode: str = 'tensor') -> Any:
        """As the ordinary model's; in training, losses are the terms of the search until it has ended."""
        masks = self.mask_search
        if not self._runs_masked:
            return super().forward(inputs, data_samples, mode)
        if mode == 'loss' and self.training and not masks.finished:
            return self._search_losses(inputs, data_samples)
        if not masks.begun:
            return super().forward(inputs, data_samples, mode)
        return self.run_masked(masks.soft(), inputs, data_samples, mode)

    def run_masked(self, masks: Mapping[str, Tensor], *arguments: Any) -> Any:
        """The ordinary forward with masked parameters, and without activation checkpoints, which would lose them."""
        direct = _BaseForward(self, super().forward)
        owners = parameter_owners(self)
        masked = {
            f'network.{own}': value
            for name, value in self.mask_search.masked(self, masks).items()
            for own in owners[id(self.get_parameter(name))]
        }
        # With tie_weights=True torch exchanges the weight of a module that has several names (as in RTMDet's head) once
        # for each of them, and puts back what it exchanged last: the masked weight, in place of the parameter.
        with without_checkpoints():
            return torch.func.functional_call(direct, masked, arguments, tie_weights=False)

    def _load_from_state_dict(self, state_dict: dict[str, Any], prefix: str, *arguments: Any) -> None:
        """TimmClassifier and HuggingFaceClassifier rename all keys as they load; those of the masks have to stay."""
        masks = {key: state_dict.pop(key) for key in list(state_dict) if key.startswith(f'{prefix}mask_search.')}
        super()._load_from_state_dict(state_dict, prefix, *arguments)
        state_dict.update(masks)

    def __reduce__(self) -> tuple[Any, ...]:
        """The class is made as it is needed, so that pickle does not find it by its name."""
        return _empty, (self.ordinary_class,), vars(self)

    def _learning(self) -> frozenset[str]:
        return frozenset(name for name, value in self.named_parameters() if value.requires_grad)

    def _search_losses(self, inputs: Any, data_samples: Any) -> dict[str, Any]:
        settings, masks = self.search_settings, self.mask_search
        if self._trainable is None:
            print_log(
                'mask search: training goes on and no MaskSearchHook has begun the search, so that none will end it: '
                'weights are frozen and nothing will be binarised; add default_hooks=dict(pruning=dict('
                "type='mmsharp.MaskSearchHook', search=0.2)), or call finish_search() of the model yourself",
                'current',
                logging.WARNING,
            )
        if self._trainable is None or any(not value.requires_grad for value in masks.parameters()):
            self.begin_search()
        masks.project_()
        perturbation, needed = settings.perturbation, settings.passes()
        transformed_images = self._transformed(inputs)
        variables = masks.by_name()
        moves = perturbation.moves and 'perturbed' in needed
        moved = None if perturbation.needs_gradient or not moves else perturbation(variables)
        passes_of = MaskSearchPasses(self, inputs, data_samples)
        soft = masks.soft()
        first_task = 'task' in needed and (perturbation.needs_gradient or not moves)
        clean, task = passes_of.first(soft, first_task)
        hard = passes_of.again(masks.hard(self))[0] if 'hard' in needed else None
        if perturbation.needs_gradient and moves:
            here = {name: passes_of.again(soft, images=images)[0] for name, images in transformed_images.items()}
            ascending = Passes(clean, clean, None, None, task, soft)
            moved = perturbation(variables, self._ascent(ascending, here, variables))
        perturbed, shaken = clean, soft
        if moves:
            shaken = masks.soft(moved)
            perturbed, task = passes_of.again(shaken, 'task' in needed)
        transformed = {name: passes_of.again(shaken, images=images)[0] for name, images in transformed_images.items()}
        if self.watched:
            self._warn_of_collapse(settings.watch.see(clean.scores[:, 0].argmax(dim=1)))
        passes = Passes(clean, perturbed, None, hard, task, soft)
        found: dict[str, Any] = {}
        for name, term in settings.losses.items():
            found.update(term.losses(name, dataclasses.replace(passes, transformed=transformed.get(name))))
        return found

    def _transformed(self, inputs: Tensor) -> dict[str, Tensor]:
        """The batch as each term transforms it, by the name of the term."""
        terms = {name: term.transform for name, term in self.search_settings.losses.items() if term.transform}
        if not terms:
            return {}
        preprocessor: Any = self.data_preprocessor
        scale = pixel_scale(preprocessor)
        if not self._pixels_known:
            check_pixels(inputs, preprocessor)
            self._pixels_known = True
        return {name: transform(inputs, *scale) for name, transform in terms.items()}

    def _ascent(
        self, passes: Passes, transformed: Mapping[str, Outputs], variables: Mapping[str, Tensor]
    ) -> dict[str, Tensor]:
        """The gradient of the terms that rise with the perturbation, in the variables, where there is none yet."""
        terms = [(name, term) for name, term in self.search_settings.losses.items() if term.ascends]
        seen = {name: dataclasses.replace(passes, transformed=transformed.get(name)) for name, _ in terms}
        total = torch.stack([total_loss(term.losses(name, seen[name])) for name, term in terms]).sum()
        half = torch.is_autocast_enabled(passes.clean.scores.device.type)
        scale = HALF_PRECISION_SCALE if half else 1.0
        gradients = torch.autograd.grad(scale * total, list(variables.values()), retain_graph=True, allow_unused=True)
        return {
            name: torch.zeros_like(value) if gradient is None else gradient
            for (name, value), gradient in zip(variables.items(), gradients)
        }

    @property
    def watched(self) -> bool:
        """Whether a collapse is looked for: not in detectors, most of whose places have no object."""
        return not hasattr(head_of(self), 'cls_out_channels')

    def end_watch(self) -> None:
        """Where the search ends, warn of a collapse in the images since the last full window."""
        self._warn_of_collapse(self.search_settings.watch.end())

    def watch_binary(self, forwards: Sequence[Callable[[nn.Module], Any]]) -> None:
        """Warn where the network with binary masks gives nearly all images one class.

        Args:
            forwards: One call per batch, in mode ``'tensor'``; nothing is said of few images.
        """
        head, classes = head_of(self), []
        for forward in forwards:
            with captured(head) as calls:
                given = forward(self)
            classes.append(outputs_of(head, calls[0].output if calls else given).scores[:, 0].argmax(dim=1))
        found = self.search_settings.watch.look(torch.cat(classes)) if classes else None
        if found is not None:
            print_log(
                f'mask search: with the binary masks {found.share:.1%} of {found.images} images get the same class: '
                'what is left of the network gives a constant prediction, or the data has one class; fine-tuning may '
                'mend it, a smaller ratio or more weight of Consistency would prevent it',
                'current',
                logging.WARNING,
            )

    def _warn_of_collapse(self, found: Collapse | None) -> None:
        if found is not None:
            print_log(
                f'mask search: {found.share:.1%} of the last {found.images} images got the same class: the masks have '
                'collapsed to a constant prediction, or the data has one class; keep the Task term in search.losses, '
                'give it more weight, or lower the learning rate',
                'current',
                logging.WARNING,
            )


@functools.cache
def masked_class(kind: type) -> type:
    """The class of a network with masks, derived from the ordinary one; the same at every call.

    Example:
        >>> masked_class(nn.Linear).__name__, masked_class(nn.Linear) is masked_class(nn.Linear)
        ('MaskSearchLinear', True)
    """
    return type(f'MaskSearch{kind.__name__}', (MaskedNetwork, kind), {'ordinary_class': kind})


def _empty(kind: type) -> Any:
    made: Any = masked_class(kind)
    return made.__new__(made)


class _BaseForward(nn.Module):
    """The ordinary forward of a network as a module of its own, for ``functional_call`` to exchange parameters in."""

    def __init__(self, network: nn.Module, forward: Any) -> None:
        super().__init__()
        self.network = network
        self._ordinary = forward

    def forward(self, *arguments: Any) -> Any:
        return self._ordinary(*arguments)


def _norm_parameters(model: nn.Module) -> Iterator[nn.Parameter]:
    kinds = (nn.modules.batchnorm._NormBase, nn.GroupNorm, nn.LayerNorm)
    for module in model.modules():
        if isinstance(module, kinds):
            yield from module.parameters(recurse=False)
