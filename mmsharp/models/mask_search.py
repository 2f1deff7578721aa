"""Any classifier or one-stage detector with masks to search, as ``type=`` of a config."""

from __future__ import annotations

import copy
import logging
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from typing import Any

import torch
from mmengine.config import ConfigDict
from mmengine.logging import print_log
from mmengine.registry import MODELS as MMENGINE_MODELS
from torch import Tensor, nn

from mmsharp.engine.model_cost import image_sample
from mmsharp.errors import MmsharpError
from mmsharp.models.mask_search_settings import MaskSearchSettings
from mmsharp.models.network_outputs import captured, head_of, outputs_of
from mmsharp.pruning import find_groups, tensor_forward
from mmsharp.pruning.forwards.image_scale import images_like
from mmsharp.pruning.mask_search import (
    ChannelUnits,
    MaskUnits,
    Outputs,
    Passes,
    SearchedMasks,
    WeightUnits,
    total_loss,
)
from mmsharp.registry import MODELS
from mmsharp.sharpness import ForwardState, RandomState, frozen_statistics

HALF_PRECISION_SCALE = 2.0**10
"""Keeps the gradient of the ascent out of float16's underflow; its norm is taken out anyway."""


@MODELS.register_module(name='MaskSearch')
def searching_model(base: str | type, search: Mapping[str, Any], **config: Any) -> nn.Module:
    """Build the ordinary model and add masks that its training searches; our reading of C-SAM (arXiv 2601.20301).

    ``model = dict(type='mmsharp.MaskSearch', base='ImageClassifier', search=dict(ratio=0.5), backbone=..., head=...)``:
    every other key stays where it was. What comes back is the ordinary model with a child ``mask_search``, which holds
    the masks; its weights keep their names, so that it is trained ``load_from`` the checkpoint of the dense model. In
    training, ``mode='loss'`` gives the terms of the search. In other modes the network runs with its masks, soft until
    ``mmsharp.MaskSearchHook`` ends the search and binary from then on: before, the statistics of BatchNorm
    are those of the soft ones.

    Weights are frozen during the search. All passes of a step see the same batch and the same random numbers, and
    BatchNorm takes its statistics from the unperturbed pass alone.

    Args:
        base: The type of the ordinary model: a classifier of mmpretrain, or a detector of mmdet with one stage.
        search: Settings, see :class:`~mmsharp.models.mask_search_settings.MaskSearchSettings`.
        config: The keys of the ordinary model.

    Raises:
        MmsharpError: A setting is wrong, or the model is of another kind.
    """
    settings = MaskSearchSettings.of(search)
    # ConfigDict, because heads read their test_cfg by attribute.
    model = MMENGINE_MODELS.build(ConfigDict(copy.deepcopy(config), type=base))
    head = head_of(model)
    for name, term in settings.losses.items():
        if not term.for_detectors and hasattr(head, 'cls_out_channels'):
            raise MmsharpError(
                f'search.losses.{name}: {type(term).__name__} is not defined for detectors; leave it out, {name}=None'
            )
    masks = SearchedMasks(_units(model, settings), settings.parameterisation)
    kind = type(model)
    model.__class__ = type(f'MaskSearch{kind.__name__}', (_Searching, kind), {})
    model.search_settings = settings
    model.mask_search = masks
    return model


def _units(model: nn.Module, settings: MaskSearchSettings) -> MaskUnits:
    if settings.granularity == 'weight':
        assert settings.ratio is not None
        return WeightUnits(model, settings.ratio, settings.ignore)
    shape = tuple(settings.input_shape or ())
    forward = tensor_forward(images_like(model, shape), [image_sample(shape)], annotated=False)
    groups = find_groups(model, forward, settings.ignore)
    return ChannelUnits(groups, model, settings.ratio, settings.budget_of, forward, settings.round_to)


def is_searching(model: nn.Module) -> bool:
    """Whether a model has masks whose search has not ended."""
    return isinstance(model, _Searching) and not bool(model.mask_search.finished)


def has_masks(model: nn.Module) -> bool:
    """Whether a model has masks, searched or fixed."""
    return isinstance(model, _Searching)


def without_masks(model: nn.Module) -> None:
    """Turn a model with masks into the ordinary one, in place; any other model stays as it is."""
    if isinstance(model, _Searching):
        model.leave_search()


class _Searching:
    """Mixed into the class of the ordinary model.

    Attributes:
        mask_search: The masks.
        search_settings: The settings.
    """

    mask_search: SearchedMasks
    search_settings: MaskSearchSettings
    _runs_masked = True

    def begin_search(self: Any) -> None:
        """Set the masks from the weights of now, once, and freeze or free the parameters as the search stands."""
        masks: SearchedMasks = self.mask_search
        masks.begin_(self)
        searching = not bool(masks.finished)
        if searching and not hasattr(self, '_trainable'):
            self._trainable = [name for name, value in self.named_parameters() if value.requires_grad]
        trainable = set(getattr(self, '_trainable', ()))
        norms = {id(value) for value in _norm_parameters(self)} if self.search_settings.train_norms else set()
        own = {id(value) for value in masks.parameters()}
        for name, parameter in self.named_parameters():
            if id(parameter) in own:
                parameter.requires_grad_(searching)
            elif searching:
                parameter.requires_grad_(id(parameter) in norms and name in trainable)
            elif name in trainable:
                parameter.requires_grad_(True)

    def finish_search(self: Any, masks: Mapping[str, Tensor] | None = None) -> None:
        """Binarise at the exact number, zero what goes, and free the weights; masks hold through later training."""
        self.mask_search.finish_(self, masks)
        self.begin_search()

    def leave_search(self: Any) -> None:
        """Take the masks away: the model is an ordinary one again, with the weights that it has."""
        if not hasattr(self, '_trainable'):
            self._trainable = [name for name, value in self.named_parameters() if value.requires_grad]
        trainable = set(self._trainable)
        del self.mask_search, self.search_settings, self._trainable
        vars(self).pop('_runs_masked', None)
        self.__class__ = type(self).__mro__[2]
        for name, parameter in self.named_parameters():
            parameter.requires_grad_(parameter.requires_grad or name in trainable)

    @contextmanager
    def ordinary(self: Any) -> Iterator[None]:
        """Inside, the model runs without its masks, as it was built, for those who look at what its layers do."""
        self._runs_masked = False
        try:
            yield
        finally:
            self._runs_masked = True

    def forward(self: Any, inputs: Any, data_samples: Any = None, mode: str = 'tensor') -> Any:
        """As the ordinary model's; in training, losses are the terms of the search until it has ended."""
        masks: SearchedMasks = self.mask_search
        if not self._runs_masked:
            return super().forward(inputs, data_samples, mode)  # type: ignore[misc]
        if mode == 'loss' and self.training and not masks.finished:
            return self._search_losses(inputs, data_samples)
        if not masks.begun:
            return super().forward(inputs, data_samples, mode)  # type: ignore[misc]
        return self._run(masks.soft(), inputs, data_samples, mode)

    def _run(self: Any, masks: Mapping[str, Tensor], *arguments: Any) -> Any:
        """The ordinary forward with masked parameters."""
        direct = _BaseForward(self, super().forward)  # type: ignore[misc]
        masked = {f'network.{name}': value for name, value in self.mask_search.masked(self, masks).items()}
        return torch.func.functional_call(direct, masked, arguments)

    def _search_losses(self: Any, inputs: Any, data_samples: Any) -> dict[str, Any]:
        settings: MaskSearchSettings = self.search_settings
        masks: SearchedMasks = self.mask_search
        if not masks.begun or any(not value.requires_grad for value in masks.parameters()):
            self.begin_search()
        masks.project_()
        perturbation, needed = settings.perturbation, settings.passes()
        transform = next((term.transform for term in settings.losses.values() if 'transformed' in term.passes), None)
        images = None if transform is None else transform(inputs, *_scaling(self.data_preprocessor))
        variables = masks.by_name()
        moved = None if perturbation.needs_gradient else perturbation(variables)
        steps = _Steps(self, inputs, data_samples)
        soft = masks.soft()
        first_task = 'task' in needed and (perturbation.needs_gradient or not perturbation.moves)
        clean, task = steps.run(soft, inputs, first_task)  # its statistics and random numbers are those that stay
        hard = steps.again(masks.hard(self), inputs)[0] if 'hard' in needed else None
        if perturbation.needs_gradient:
            here = None if images is None else steps.again(soft, images)[0]
            ascending = Passes(clean, clean, here, None, task, soft)
            moved = perturbation(variables, self._ascent(ascending, variables))
        perturbed, shaken = clean, soft
        if perturbation.moves:
            shaken = masks.soft(moved)
            perturbed, task = steps.again(shaken, inputs, 'task' in needed)
        transformed = None if images is None else steps.again(shaken, images)[0]
        self._warn_of_collapse(clean)
        passes = Passes(clean, perturbed, transformed, hard, task, soft)
        found: dict[str, Any] = {}
        for name, term in settings.losses.items():
            found.update(term.losses(name, passes))
        return found

    def _ascent(self: Any, passes: Passes, variables: Mapping[str, Tensor]) -> dict[str, Tensor]:
        """The gradient of the terms that rise with the perturbation, in the variables, where there is none yet."""
        terms = self.search_settings.losses.items()
        total = torch.stack([total_loss(term.losses(name, passes)) for name, term in terms if term.ascends]).sum()
        half = torch.is_autocast_enabled(passes.clean.scores.device.type)
        scale = HALF_PRECISION_SCALE if half else 1.0
        gradients = torch.autograd.grad(scale * total, list(variables.values()), retain_graph=True, allow_unused=True)
        return {
            name: torch.zeros_like(value) if gradient is None else gradient
            for (name, value), gradient in zip(variables.items(), gradients)
        }

    def _warn_of_collapse(self: Any, clean: Outputs) -> None:
        if clean.boxes is not None:
            return
        share = self.search_settings.watch.see(clean.scores[:, 0].argmax(dim=1))
        if share is not None:
            print_log(
                f'mask search: {share:.1%} of the last {self.search_settings.watch.window} images or more got the same '
                'class: the masks have collapsed to a constant prediction, or the data has one class; keep the Task '
                'term in search.losses, give it more weight, or lower the learning rate',
                'current',
                logging.WARNING,
            )


class _BaseForward(nn.Module):
    """The ordinary forward of a network as a module of its own, for ``functional_call`` to exchange parameters in."""

    def __init__(self, network: nn.Module, forward: Any) -> None:
        super().__init__()
        self.network = network
        self._ordinary = forward

    def forward(self, *arguments: Any) -> Any:
        return self._ordinary(*arguments)


class _Steps:
    """The passes of one step: the first leaves its marks on the model, the others begin where it began."""

    def __init__(self, model: Any, inputs: Any, data_samples: Any) -> None:
        self.model = model
        self.head = head_of(model)
        # Models write into data samples.
        self.samples = copy.deepcopy(data_samples)
        self.before = ForwardState(model)
        self.random = RandomState.capture()

    def run(self, masks: Mapping[str, Tensor], inputs: Any, task: bool) -> tuple[Outputs, dict[str, Any] | None]:
        """A pass: what the head gave, and the losses if they are asked for."""
        with captured(self.head) as found:
            given = self.model._run(masks, inputs, copy.deepcopy(self.samples), 'loss' if task else 'tensor')
        # In tensor mode detectors call the head's forward itself, past all hooks, and hand back what it gave.
        return outputs_of(self.head, found[0] if found else given), given if task else None

    def again(
        self, masks: Mapping[str, Tensor], inputs: Any, task: bool = False
    ) -> tuple[Outputs, dict[str, Any] | None]:
        """Another pass from the same state and random numbers, of which the model keeps nothing."""
        with frozen_statistics(self.model, self.before), self.random.replayed():
            return self.run(masks, inputs, task)


def _norm_parameters(model: nn.Module) -> Iterator[nn.Parameter]:
    kinds = (nn.modules.batchnorm._NormBase, nn.GroupNorm, nn.LayerNorm)
    for module in model.modules():
        if isinstance(module, kinds):
            yield from module.parameters(recurse=False)


def _scaling(preprocessor: nn.Module) -> tuple[Tensor, Tensor]:
    """Mean and standard deviation of a data preprocessor, in units in which full white is 1."""
    mean, std = getattr(preprocessor, 'mean', None), getattr(preprocessor, 'std', None)
    if not isinstance(mean, Tensor) or not isinstance(std, Tensor):
        return torch.zeros(1), torch.full((1,), 1 / 255)
    return mean.flatten() / 255, std.flatten() / 255
