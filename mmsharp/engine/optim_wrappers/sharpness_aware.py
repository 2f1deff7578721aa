"""The second pass without touching the model or the loop.

``OptimWrapper.update_params`` receives a loss and no closure. ``optim_context(model)`` does see the model: a forward
pre-hook, alive only inside the context, captures the call whose loss is about to come back. :meth:`backward`, the one
verb that is overridden, then takes the ascent gradient, moves the weights, runs the captured call again and
backpropagates that second loss instead of the first one. Everything around it (loss scaling and accumulation before,
clipping, stepping and zeroing after) stays the parent's.
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from contextlib import AbstractContextManager, ExitStack, contextmanager, nullcontext
from typing import Any

import torch
from torch import Tensor, nn
from torch.nn.parallel import DistributedDataParallel

from mmsharp.engine.model_access.inner_model import inner_model
from mmsharp.engine.optim_wrappers.captured_call import CapturedCall
from mmsharp.engine.optim_wrappers.criterion_scores import CriterionScores, connect_criterion
from mmsharp.engine.optim_wrappers.deferred_scalars import defer_scalar
from mmsharp.engine.optim_wrappers.first_gradients import (
    FirstGradients,
    mean_over_processes,
    separate,
    untouched_gradients,
)
from mmsharp.engine.optim_wrappers.loss_check import LossCheck, total_loss
from mmsharp.engine.optim_wrappers.momentum import refuse_without_momentum
from mmsharp.engine.optim_wrappers.moved_parameters import MovedParameters
from mmsharp.engine.optim_wrappers.parts import build_ascent, build_policy
from mmsharp.engine.optim_wrappers.step_plan import Plan, plan_step
from mmsharp.engine.optim_wrappers.unfinished_step import go_on_with, gradients_so_far
from mmsharp.engine.optim_wrappers.unfit_models import refuse_static_graph, refuse_unfit
from mmsharp.engine.optim_wrappers.watched_forward import WatchedForward
from mmsharp.errors import MmsharpError
from mmsharp.pruning import ChannelGroup
from mmsharp.registry import ASCENTS
from mmsharp.sharpness import (
    Ascent,
    AscentParameter,
    Policy,
    WeightGuard,
    frozen_statistics,
    gradient_norm,
    non_reentrant_checkpoints,
)

STATE_KEY = 'sharpness'


class SharpnessAware:
    """Mixin over an MMEngine optimizer wrapper: the descent gradient is taken at ``w + eps``.

    ``w <- w - lr * BaseOptimizer(grad L(w + eps))``, with ``eps`` from ``ascent`` in the steps that ``policy`` chooses.

    Args:
        ascent: ``dict(type='SAM' | 'ASAM' | 'AdaSAP' | ..., ...)`` or an :class:`~mmsharp.sharpness.Ascent`. Required:
            a tool that exchanges the wrapper's type ends in an error and not in silent plain training.
        policy: ``dict(type='EveryStep' | 'Periodic' | 'LookSAM' | 'RandomLayers', ...)`` or a
            :class:`~mmsharp.sharpness.Policy`: when, and for which parameters, the ascent is taken. ``None`` stands for
            every step.
        parameters: Which of the optimizer's parameters the ascent moves: ``'all'``, ``'weights'``, ``'norm_only'`` or a
            list of name patterns; ``None`` takes what the ascent prefers (``'weights'`` for AdaSAP, ``'all'`` for SAM
            and ASAM).
        synchronise: Whether all processes share one ball, whose direction is their mean gradient. By default each has
            its own, which is SAM's published practice (m-sharpness) and saves the exchange.
        skip_nonfinite: Whether a step whose gradient is not finite is left out, as loss scaling does by itself. It
            costs a wait for the device in every step.
        kwargs: Everything that the parent takes: ``optimizer``, ``accumulative_counts``, ``clip_grad`` ...

    The contract, each clause with a test (DDP in two processes on a CPU; loss scaling on a CPU too, half precision on a
    GPU where there is one):

    - the first pass never writes ``.grad``; accumulated gradients are not touched by it;
    - the weights come back bitwise after the second pass, also when it raises;
    - BatchNorm statistics and all other state that a forward pass changes (:class:`~mmsharp.sharpness.ForwardState`)
      are those of the first pass, and the second one begins with what the first began with;
    - both passes draw the same random numbers;
    - an exception in either pass leaves weights and model state bitwise as before the step;
    - under accumulation each micro-batch has its own ball; under DDP so has each rank, and as many gradients are
      exchanged as in plain training, since the first pass runs under ``no_sync``;
    - all ranks end with bitwise equal weights, also where some parameters are unused on some ranks;
    - loss scaling changes neither ``eps`` nor the step; an overflow of the second gradient skips the step;
    - where the first gradient is not finite, ``eps = 0``: what then happens is up to the parent;
    - ``rho = 0`` trains bitwise like the parent, but for activation checkpoints under a filter: what the first pass
      does not recompute counts a batch once in BatchNorm's statistics, where plain training counts it twice.

    The readings ``sharpness/loss_gap`` (``L(w + eps) - L(w)``), ``sharpness/gradient_norm`` and ``sharpness/radius`` go
    to MMEngine's message hub, and from there to the log and every visualizer; they stay on the device until then. Along
    the optimizer's momentum there is one pass, and ``sharpness/momentum_norm`` in place of the first two. With
    ``skip_nonfinite``, ``sharpness/skipped`` is 1 in a step that is left out and 0 in one that is taken.

    Raises:
        MmsharpError: No or an unknown ascent, policy or filter, a policy that needs two gradients with an ascent that
            has one, a loss whose forward was not seen inside ``optim_context`` or that is not the loss of that forward,
            an update before the context is left, a step without :meth:`backward`, two forwards inside one context, a
            compiled or sharded model, a layer with a backward pass of its own, or momentum to follow where there is
            none.
    """

    def __init__(
        self,
        *args: Any,
        ascent: Mapping[str, Any] | Ascent | None = None,
        policy: Mapping[str, Any] | Policy | None = None,
        parameters: str | Sequence[str] | None = None,
        synchronise: bool = False,
        skip_nonfinite: bool = False,
        **kwargs: Any,
    ) -> None:
        if ascent is None:
            raise MmsharpError(
                f"{type(self).__name__} needs `ascent`, for example ascent=dict(type='AdaSAP'); "
                f'accepted types: {", ".join(sorted(ASCENTS.module_dict))}'
            )
        for name, value in (('synchronise', synchronise), ('skip_nonfinite', skip_nonfinite)):
            if not isinstance(value, bool):
                raise MmsharpError(f'{type(self).__name__}: {name}={value!r} is neither True nor False')
        if isinstance(kwargs.get('clip_grad'), Mapping):
            # The parent pops `type` out of what the user passed.
            kwargs['clip_grad'] = dict(kwargs['clip_grad'])
        self._moved = MovedParameters(parameters)
        self._policy = build_policy(policy)
        super().__init__(*args, **kwargs)
        self._synchronise = synchronise
        self._skip_nonfinite = skip_nonfinite
        self._guard = WeightGuard()
        self._forward = WatchedForward(type(self).__name__)
        self._check_loss = LossCheck(type(self).__name__)
        self._plan: Plan | None = None
        self._inside = self._went_back = False
        self._first = FirstGradients()
        self._masks: Mapping[nn.Parameter, Tensor] = {}
        self._groups: Sequence[ChannelGroup] | None = None
        self._scores: CriterionScores | None = None
        self._loaded_scores: Mapping[str, Any] = {}
        self._loaded_ascent: Mapping[str, Any] = {}
        self.set_ascent(ascent)

    @property
    def ascent(self) -> Ascent:
        """The ascent in force."""
        return self._ascent

    def set_ascent(self, ascent: Mapping[str, Any] | Ascent, resumed: bool = False) -> None:
        """Exchange the ascent, as AdaSAP does when its phases change.

        Args:
            ascent: See the class.
            resumed: Whether it was in force already when the checkpoint was written that training goes on from, so that
                the scores in it are this one's.
        """
        self._ascent = build_ascent(ascent, self._policy)
        self._forget_parameters()
        if resumed:
            self._ascent.load_state_dict(self._loaded_ascent)
        else:
            self._loaded_scores = {}

    def check_ascent(self, ascent: Mapping[str, Any] | Ascent) -> None:
        """Refuse an ascent that a later phase would take, as far as it can be known before the training.

        Raises:
            MmsharpError: It does not go with the policy, or follows momentum that the optimizer does not keep.
        """
        built = build_ascent(ascent, self._policy)
        if built.direction != 'gradient':
            refuse_without_momentum(type(built).__name__, self.optimizer, ())  # type: ignore[attr-defined]

    def set_masks(self, masks: Mapping[nn.Parameter, Tensor]) -> None:
        """Keep pruned positions out of the ascent: per parameter a 0/1 tensor that broadcasts against it."""
        self._masks = dict(masks)

    def set_groups(self, groups: Sequence[ChannelGroup]) -> None:
        """Tell which channels are pruned together, for an ascent that scores them together; none once they are cut."""
        self._groups = tuple(groups)

    def forget_model(self) -> None:
        """Drop what was derived from the model's shapes; call it after the model has been slimmed."""
        self._forget_parameters()
        self._loaded_scores = {}
        self._masks = {}
        self._groups = None if self._groups is None else ()
        self._first.clear()
        self._policy.forget()
        self._guard.release()

    @contextmanager
    def optim_context(self, model: nn.Module) -> Iterator[None]:
        """The parent's context, in which the forward of ``model`` is captured, or displaced along the momentum."""
        refuse_unfit(model)
        self._forward.forget()
        self._check_loss.drop()
        self._plan = plan = self._make_plan(model)
        if plan.two_passes:
            refuse_static_graph(model)
        with ExitStack() as stack:
            if plan.two_passes:
                stack.callback(inner_model(model).register_forward_hook(self._check_loss.see).remove)
            stack.enter_context(self._forward.watching(model, state=bool(plan.chosen), call=plan.two_passes))
            if plan.reading is not None:
                stack.enter_context(self._guard.displaced(plan.tensors))
            stack.enter_context(super().optim_context(model))  # type: ignore[misc]
            stack.enter_context(_no_sync(model, plan.two_passes))
            stack.enter_context(non_reentrant_checkpoints())
            with self._rewinding():
                self._inside = True
                try:
                    yield
                finally:
                    self._inside = False

    def backward(self, loss: Tensor, **kwargs: Any) -> None:
        """Backpropagate the loss at ``w + eps``: that of the captured call made again, in place of ``loss``.

        In plain steps, and along the momentum, where the forward pass was made there already, it is ``loss`` itself.

        Args:
            loss: The loss of the forward pass, scaled for accumulation by the parent; its graph is consumed.
            kwargs: For the parent's ``backward``.
        """
        if self._inside:
            self._inside = False
            raise MmsharpError(
                f'{type(self).__name__}: the parameters are updated inside optim_context, where weights may stand '
                'elsewhere and processes exchange nothing; leave it first, as BaseModel.train_step does'
            )
        plan = self._take_plan()
        self._went_back = True
        with self._rewinding():
            if plan.two_passes:
                self._backward_twice(plan, loss, kwargs)
            elif plan.reading is None:
                super().backward(loss, **kwargs)  # type: ignore[misc]
            else:
                with self._guard.displaced(plan.tensors):
                    super().backward(loss, **kwargs)  # type: ignore[misc]
                self._log(momentum_norm=plan.reading.gradient_norm, radius=plan.reading.radius)
        self._forward.before = None

    def step(self, **kwargs: Any) -> None:
        """Let the policy correct the gradients, then clip and step as the parent does.

        Raises:
            MmsharpError: No :meth:`backward` came before: the gradients are those of somebody else's backward pass.
        """
        if not self._went_back:
            raise MmsharpError(
                f'{type(self).__name__}.step() without its backward(): the gradients of loss.backward() are plain '
                'ones, and the step would be plain training; call update_params(loss), or this backward and step'
            )
        self._went_back = False
        if self._policy.corrects and self._moved.selected is not None:
            gradients = {p.name: p.tensor.grad for p in self._moved.selected if p.tensor.grad is not None}
            self._policy.correct_(gradients, self._first.take(gradients))
        if self._skip_nonfinite and not self._skips_by_itself:
            is_skipped = not self._is_finite()
            self._log(skipped=torch.tensor(float(is_skipped)))
            if is_skipped:
                return
        super().step(**kwargs)  # type: ignore[misc]

    def state_dict(self) -> dict[str, Any]:
        """The parent's, what policy and criterion have to remember, and the gradients of an unfinished step."""
        state = super().state_dict()  # type: ignore[misc]
        parts = dict(
            policy=self._policy.state_dict(),
            ascent=self._ascent.state_dict(),
            scores=self._loaded_scores if self._scores is None else self._scores.state_dict(),
        )
        if not self.should_update():  # type: ignore[attr-defined]
            parts['gradients'] = gradients_so_far(self.optimizer)  # type: ignore[attr-defined]
            parts['first_gradients'] = self._first.state_dict() if parts['gradients'] else {}
        remembered = {name: part for name, part in parts.items() if part}
        if remembered:
            state[STATE_KEY] = remembered
        return state

    def load_state_dict(self, state_dict: dict[str, Any]) -> None:
        """Take over both; a state that a plain wrapper wrote will do."""
        state_dict = dict(state_dict)
        remembered = state_dict.pop(STATE_KEY, {})
        if 'policy' in remembered:
            self._policy.load_state_dict(remembered['policy'])
        self._loaded_scores = remembered.get('scores', {})
        self._loaded_ascent = remembered.get('ascent', {})
        self._ascent.load_state_dict(self._loaded_ascent)
        super().load_state_dict(state_dict)  # type: ignore[misc]
        go_on_with(self.optimizer, remembered.get('gradients', {}))  # type: ignore[attr-defined]
        self._first.load_state_dict(remembered.get('first_gradients', {}))

    def _make_plan(self, model: nn.Module) -> Plan:
        step, micro_batch = divmod(self._inner_count, self._accumulative_counts)  # type: ignore[attr-defined]
        if micro_batch == 0:
            self._first.clear()
        parameters = self._parameters_of(model)
        if not parameters:
            raise MmsharpError(
                f'all parameters that the ascent moves are frozen by now, or not in this optimizer; choose other '
                f'`parameters` for {type(self).__name__}, or train without an ascent'
            )
        chosen = list(self._policy.select(step, parameters))
        optimizer = self.optimizer  # type: ignore[attr-defined]
        plan, known = plan_step(self._ascent, parameters, chosen, optimizer, self._masks)
        if known:
            self._guard.prepare(plan.tensors, known)
        return plan

    def _take_plan(self) -> Plan:
        plan, self._plan = self._plan, None
        if plan is None or not self._forward.calls:
            raise MmsharpError(
                f'{type(self).__name__} saw no forward pass: the loss must come from a call of the model inside '
                '`with optim_wrapper.optim_context(model)`, as in BaseModel.train_step; a custom loop or a model with '
                'its own train_step has to do the same'
            )
        return plan

    def _backward_twice(self, plan: Plan, loss: Tensor, kwargs: dict[str, Any]) -> None:
        call = self._forward.take_call()
        inner = inner_model(call.model)
        factor = float(self.scale_loss(1.0))  # type: ignore[attr-defined]
        self._check_loss(inner, loss, factor)
        gradients = self._directions(call.model, plan, loss)
        moved = [(p, g) for p, g in zip(plan.chosen, gradients) if g is not None]
        chosen = [parameter for parameter, _ in moved]
        perturbations = [gradient for _, gradient in moved]
        if self._policy.corrects:
            self._first.add(chosen, perturbations)
        reading, length = self._ascent.direct_(chosen, perturbations, [self._masks.get(p.tensor) for p in chosen])
        # Buffers come back after the backward pass: the graph may have saved them.
        with (
            frozen_statistics(inner, self._forward.before),
            self._guard.perturbed([parameter.tensor for parameter in chosen], perturbations, length),
        ):
            del perturbations, gradients, moved
            second = self.scale_loss(self._replay(call))  # type: ignore[attr-defined]
            super().backward(second, **kwargs)  # type: ignore[misc]
        self._log(
            loss_gap=(second.detach() - loss.detach()) / factor,
            gradient_norm=reading.gradient_norm / factor,
            radius=reading.radius,
        )

    def _directions(self, model: nn.Module, plan: Plan, loss: Tensor) -> list[Tensor | None]:
        """The first gradients, of this process or the mean of all; ``None`` for what this loss does not depend on."""
        with untouched_gradients(self.optimizer, inner_model(model)):  # type: ignore[attr-defined]
            gradients = self._ascent_gradients(loss, plan.chosen)
        if all(gradient is None for gradient in gradients):
            # What a policy leaves out may be used, and so may other ranks' parameters: then eps = 0 here and now.
            all_were_chosen = len(gradients) == len(self._parameters_of(model))
            if all_were_chosen and not getattr(model, 'find_unused_parameters', False):
                raise MmsharpError(
                    f'the loss depends on none of the {len(gradients)} parameters that the ascent moves '
                    f'({plan.chosen[0].name}, ...); choose other `parameters` for {type(self).__name__}'
                )
            gradients = [torch.zeros_like(tensor) for tensor in plan.tensors]
        return mean_over_processes(gradients, plan.chosen) if self._synchronise else gradients

    def _ascent_gradients(self, loss: Tensor, chosen: list[AscentParameter]) -> list[Tensor | None]:
        """The gradients of ``loss`` itself, however a parent scales it for its own backward pass; ours to overwrite."""
        tensors = [parameter.tensor for parameter in chosen if parameter.tensor.requires_grad]
        known = dict(zip(map(id, tensors), torch.autograd.grad(loss, tensors, allow_unused=True))) if tensors else {}
        return separate([known.get(id(parameter.tensor)) for parameter in chosen], chosen)

    def _replay(self, call: CapturedCall) -> Tensor:
        with super().optim_context(call.model):  # type: ignore[misc]
            losses = call.again()
        return total_loss(inner_model(call.model), losses)

    @contextmanager
    def _rewinding(self) -> Iterator[None]:
        """Give the model back the state that the step began with, and forget the step, if an exception ends it."""
        try:
            with self._forward.rewinding():
                yield
        except BaseException:
            self._plan = None
            self._forward.forget()
            self._check_loss.drop()
            raise

    def _parameters_of(self, model: nn.Module) -> list[AscentParameter]:
        inner, is_new = inner_model(model), self._moved.selected is None
        owned = {id(tensor) for group in self.optimizer.param_groups for tensor in group['params']}  # type: ignore[attr-defined]
        parameters = [p for p in self._moved.of(inner, self._ascent.default_parameters) if id(p.tensor) in owned]
        if is_new:
            self._scores = connect_criterion(
                self._ascent,
                inner,
                self.optimizer,  # type: ignore[attr-defined]
                lambda: self._moved.selected or (),
                self._groups,
            )
            if self._scores is not None:
                self._scores.load_state_dict(self._loaded_scores)
                self._loaded_scores = {}
        return parameters

    def _forget_parameters(self) -> None:
        self._moved.forget()
        self._check_loss.forget()
        if self._scores is not None:
            self._scores.close()
            self._scores = None

    def _is_finite(self) -> bool:
        groups = self.optimizer.param_groups  # type: ignore[attr-defined]
        gradients = [p.grad for group in groups for p in group['params'] if p.grad is not None]
        return not gradients or bool(gradient_norm(gradients).isfinite())

    def _log(self, **readings: Tensor) -> None:
        for name, value in readings.items():
            defer_scalar(self.message_hub, f'train/sharpness/{name}', value)  # type: ignore[attr-defined]

    @property
    def _skips_by_itself(self) -> bool:
        """Whether the parent leaves out steps that are not finite."""
        return False


def _no_sync(model: nn.Module, wanted: bool) -> AbstractContextManager[None]:
    return model.no_sync() if wanted and isinstance(model, DistributedDataParallel) else nullcontext()
