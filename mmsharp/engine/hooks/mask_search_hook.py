"""End a mask search: binarise, slim where channels were searched, and fine-tune what remains."""

from __future__ import annotations

import copy
from collections import deque
from functools import partial
from typing import Any, ClassVar

from torch.nn.modules.batchnorm import _BatchNorm

from mmsharp.engine.checkpoints.mask_search_checkpoint import MASKS
from mmsharp.engine.distributed.wrap_again import wrap_again
from mmsharp.engine.hooks.pruning_hook import PruningHook, by_reason
from mmsharp.engine.model_access.inner_model import inner_model
from mmsharp.engine.pruning.held_models import averages, held_models
from mmsharp.engine.pruning.phases import FINE_TUNING, Phases, iterations_of, validate_length
from mmsharp.engine.pruning.pruning_state import PruningState
from mmsharp.engine.pruning.searched_pruner import SearchedPruner
from mmsharp.errors import MmsharpError
from mmsharp.models import has_masks, is_searching, without_masks
from mmsharp.pruning import ChannelMasks, DenseLayer, Recipe
from mmsharp.pruning.forwards import looked_at
from mmsharp.pruning.mask_search import reestimate_statistics
from mmsharp.registry import HOOKS


@HOOKS.register_module()
class MaskSearchHook(PruningHook):
    """Search for ``search``, binarise at the exact number, then train the weights that remain to the end of the run.

    For ``model = dict(type='mmsharp.MaskSearch', ...)``: ``default_hooks =
    dict(pruning=dict(type='mmsharp.MaskSearchHook', search=0.2))``. What goes is set in the model's ``search``.

    With masks over weights, the masks hold to the end and ``tools/slim.py`` writes plain weights with zeros. With masks
    over channels, the network becomes small where the search ends, as under :class:`PruningHook`: optimizer state, EMA
    shadow and distributed wrapper shrink with it, and checkpoints carry a recipe.

    Fine-tuning after the binarisation is HYDRA's (arXiv 2002.10509); whether C-SAM (arXiv 2601.20301) has it is not
    known.
    A search as long as the run leaves it out.

    Args:
        search: Length of the search: a float in [0, 1) is a share of all iterations, an int counts epochs (iterations
            in iteration loops). 0 leaves the search out: the masks that it would begin with, those of the largest
            weights or norms, are binarised before the first iteration, which is pruning by magnitude in one shot.
        slim: Whether to remove the channels where their search ends; otherwise they stay masked to the end.
        recalibration: Over how many of the last batches of the search the statistics of BatchNorm are taken anew
            once the masks are binary; those of the search belong to the soft masks. 0 keeps these. A run that is
            resumed among these batches has fewer of them. The same batches show whether the binary network of a
            classifier gives a constant prediction, which is warned of.

    Raises:
        MmsharpError: At construction for a bad argument; before training where the model has no masks, or the search is
            longer than the run.
    """

    masks_until_fine_tuning: ClassVar[bool] = False
    pruner: SearchedPruner

    def __init__(self, search: float = 0.2, slim: bool = True, recalibration: int = 10) -> None:
        super().__init__(budget=dict(channels=1.0), pruner=SearchedPruner(), slim=slim)  # type: ignore[arg-type]
        self.search = validate_length('search', search)
        if isinstance(recalibration, bool) or not isinstance(recalibration, int) or recalibration < 0:
            raise MmsharpError(f'recalibration={recalibration!r} is not a whole number of batches, at least 0')
        self._batches: deque[Any] = deque(maxlen=recalibration)
        self._end = 0

    def before_train(self, runner: Any) -> None:
        """Begin the search with the weights that were loaded, or go on with it.

        Raises:
            MmsharpError: The model has no masks, or its search has ended: without ``resume``, or with another ratio.
        """
        super().before_train(runner)
        if self._state.kind == 'slim' or (self._state.kind == 'masked' and self.pruner.knows):
            return
        for model in held_models(runner):
            if not has_masks(model):
                raise MmsharpError(
                    f'MaskSearchHook ends the search of masks, and {type(model).__name__} has none; set '
                    "model=dict(type='mmsharp.MaskSearch', base='<the type of your model>', search=dict(ratio=0.5)), "
                    'or prune with mmsharp.PruningHook'
                )
        searched: Any = inner_model(runner.model)
        if not is_searching(searched) and not runner._resume:
            raise MmsharpError(
                f'load_from={runner._load_from!r} holds masks whose search has ended already, and MaskSearchHook '
                'searches those of dense models; start from a dense one, go on with this one by resume=True, or let '
                'tools/slim.py write it without masks and begin with that'
            )
        searched.begin_search()
        whole = [DenseLayer(name, reason) for name, reason in searched.mask_search.units.whole.items()]
        for reason, names in by_reason(whole).items():
            runner.logger.info(f'mmsharp: whole, because {reason}: {", ".join(names)}')
        wrap_again(runner)

    def lay_phases(self, runner: Any, max_iters: int, iters_per_unit: int) -> Phases:
        """The search, then fine-tuning.

        Raises:
            MmsharpError: The search is longer than the run.
        """
        self._end = iterations_of(self.search, max_iters, iters_per_unit)
        if self._end > max_iters:
            raise MmsharpError(
                f'search={self.search!r} is {self._end} iterations, and training has only {max_iters}; shorten it or '
                'train longer'
            )
        return Phases(self._end, self._end, 1)

    def before_train_iter(self, runner: Any, batch_idx: int, data_batch: Any = None) -> None:
        """Announce phases; where channels are searched, look at the shape of the first batch."""
        assert self._phases is not None
        model: Any = inner_model(runner.model)
        searches_channels = has_masks(model) and hasattr(model.mask_search.units, 'groups')
        if self._forward is None and (searches_channels or self._state.kind == 'masked'):
            self._attach(runner, data_batch)
        phase = self._phases.at(runner.iter)
        if phase != self._phase:
            self._phase = phase
            self._announce(runner, is_searching(model) or phase == FINE_TUNING)
        if is_searching(model) and phase == FINE_TUNING:
            self._end_search(runner, model)

    def _announce(self, runner: Any, as_laid: bool) -> None:
        if as_laid:
            self.enter_phase(runner, 'fine-tuning' if self._phase == FINE_TUNING else 'search of masks')
            if runner.iter == self._end:
                _forget_losses(runner)
            if self._phase != FINE_TUNING:
                _warn_of_still_normalisations(runner)
            return
        runner.logger.info(
            f'mmsharp: fine-tuning from iteration {runner.iter}; the search has ended before, and '
            f'search={self.search!r} comes too late'
        )

    def after_train_iter(
        self, runner: Any, batch_idx: int, data_batch: Any = None, outputs: dict[str, Any] | None = None
    ) -> None:
        """Keep the masks where they are defined, and end the search with its last iteration."""
        model: Any = inner_model(runner.model)
        if is_searching(model):
            model.mask_search.project_()
            if runner.iter + self._batches.maxlen >= self._end and self._batches.maxlen:
                self._batches.append(copy.deepcopy(data_batch))
            if runner.iter + 1 >= self._end:
                self._end_search(runner, model)
        super().after_train_iter(runner, batch_idx, data_batch, outputs)

    def after_load_checkpoint(self, runner: Any, checkpoint: dict[str, Any]) -> None:
        """Take the masks away where their search over channels has ended, before the model is cut.

        Raises:
            MmsharpError: It has ended with other numbers of channels than the model's settings say.
        """
        state = PruningState.from_checkpoint(checkpoint)
        if runner._resume and state.recipe is not None:
            self._check_counts(runner, state.recipe)
        cut = state.kind == 'slim' and not state.fits(inner_model(runner.model), checkpoint['state_dict'])
        if cut or (runner._resume and state.kind != 'dense'):
            self._take_masks_away(runner)
        super().after_load_checkpoint(runner, checkpoint)

    def _end_search(self, runner: Any, model: Any) -> None:
        binary = {name: mask.detach() for name, mask in model.mask_search.hard(model).items()}
        model.end_watch()
        kept = sum(int(mask.count_nonzero()) for mask in binary.values()) / sum(
            mask.numel() for mask in binary.values()
        )
        channels = hasattr(model.mask_search.units, 'groups')
        if channels:
            self.pruner.settle(model)
        for each in held_models(runner):
            each.finish_search(binary)  # type: ignore[operator]
            reestimate_statistics(each, [partial(_run, batch=batch) for batch in self._batches])
        if model.watched:
            with looked_at(model):
                model.watch_binary([partial(_run, batch=batch, training=False) for batch in self._batches])
        if channels:
            self._take_masks_away(runner)
        self._batches.clear()
        what = 'channels' if channels else 'weights of convolutions and linear layers'
        runner.logger.info(
            f'mmsharp: the search ended after iteration {runner.iter}; {kept:.4%} of the {what} are kept'
        )
        if not channels:
            wrap_again(runner)
            return
        self._prune(runner, 1.0)
        if self.slim:
            self._slim(runner)
        else:
            wrap_again(runner)

    def _check_counts(self, runner: Any, recipe: Recipe) -> None:
        model: Any = inner_model(runner.model)
        units = model.mask_search.units if has_masks(model) else None
        if units is None or not hasattr(units, 'groups'):
            return
        self.pruner.know(units.groups)
        for group, mask in zip(units.groups.groups, ChannelMasks.from_recipe(units.groups, recipe).keep):
            kept, found = units.kept.get(group.name, group.channels), int(mask.sum())
            if found != kept:
                raise MmsharpError(
                    f'the search that is resumed has ended with {found} of {group.channels} channels kept in '
                    f'{group.name!r}, and the settings of now keep {kept}; go on with the ratio or budget that it was '
                    'searched with, or begin a new search from a dense model'
                )

    def _take_masks_away(self, runner: Any) -> None:
        for model in held_models(runner):
            without_masks(model)
        for averaged in averages(runner):  # it keeps what it averages by name
            kept = {name: value for name, value in averaged.avg_parameters.items() if not name.startswith(MASKS)}
            averaged.avg_parameters = kept


def _forget_losses(runner: Any) -> None:
    """The log repeats what is no longer computed, such as terms of the search; what is comes again at once."""
    scalars = runner.message_hub.log_scalars
    for name in [name for name in scalars if name.startswith('train/loss')]:
        del scalars[name]


def _warn_of_still_normalisations(runner: Any) -> None:
    """Soft masks make activations smaller, which statistics of the whole network do not know."""
    model: Any = inner_model(runner.model)
    masked = model.mask_search.masked(model, model.mask_search.soft())
    around = {name.rpartition('.')[0].rpartition('.')[0] for name in masked}
    still = [
        name
        for name, module in model.named_modules()
        if isinstance(module, _BatchNorm) and not module.training and name.rpartition('.')[0] in around
    ]
    if still:
        runner.logger.warning(
            f'mmsharp: {len(still)} normalisations beside masked layers, such as {still[0]!r}, keep the statistics of '
            'the whole network in training, to which soft masks do not fit: the search begins with a network that is '
            'far from yours; let them follow, with norm_eval=False of the backbone'
        )


def _run(model: Any, batch: Any, training: bool = True) -> Any:
    """One forward of a batch as the data loader gave it, with the preprocessing of training or of test."""
    data = model.data_preprocessor(copy.deepcopy(batch), training)
    return model(**data, mode='tensor') if isinstance(data, dict) else model(*data, mode='tensor')
