"""The second pass without touching the model or the loop.

``OptimWrapper.update_params`` receives a loss and no closure. ``optim_context(model)`` does see the model: a forward
pre-hook, alive only inside the context, captures the call whose loss is about to come back. :meth:`backward`, the one
verb that is overridden, then takes the ascent gradient, moves the weights, runs the captured call again and
backpropagates that second loss instead of the first one. Everything around it (loss scaling and accumulation before,
clipping, stepping and zeroing after) stays the parent's.
"""

from __future__ import annotations

import math
from collections.abc import Iterator, Mapping, Sequence
from contextlib import AbstractContextManager, ExitStack, contextmanager, nullcontext, suppress
from typing import Any, NamedTuple

import torch
from mmengine.dist import all_reduce_params, get_world_size
from torch import Tensor, nn
from torch.nn.parallel import DistributedDataParallel

from mmsharp.engine.inner_model import inner_model
from mmsharp.engine.optim_wrappers.captured_call import CapturedCall
from mmsharp.engine.optim_wrappers.checkpointing import non_reentrant_checkpoints
from mmsharp.engine.optim_wrappers.criterion_scores import CriterionScores
from mmsharp.engine.optim_wrappers.deferred_scalars import defer_scalar
from mmsharp.errors import MmsharpError
from mmsharp.registry import ASCENTS, POLICIES, build_part
from mmsharp.sharpness import (
    AdaSAP,
    Ascent,
    AscentParameter,
    AscentReading,
    ForwardState,
    MomentumSAM,
    Policy,
    WeightGuard,
    frozen_statistics,
    gradient_norm,
    select_parameters,
    validate_filter,
)
from mmsharp.type_names import class_names

MOMENTA = ('momentum_buffer', 'exp_avg')
"""What optimizers call their momentum: SGD and RMSprop, Adam and its kin."""

STATE_KEY = 'sharpness'


class Plan(NamedTuple):
    """What the step at hand does.

    Args:
        chosen: The parameters whose ascent is taken; none in a plain step.
        two_passes: Whether the ascent follows a gradient, which the first of two passes gives.
        reading: What the ascent saw, where it was taken before the forward pass.
    """

    chosen: list[AscentParameter]
    two_passes: bool
    reading: AscentReading | None = None


class SharpnessAware:
    """Mixin over an MMEngine optimizer wrapper: the descent gradient is taken at ``w + eps``.

    ``w <- w - lr * BaseOptimizer(grad L(w + eps))``, with ``eps`` from ``ascent`` in the steps that ``policy`` chooses.

    Args:
        ascent: ``dict(type='SAM' | 'ASAM' | 'AdaSAP' | ..., ...)`` or an :class:`~mmsharp.sharpness.Ascent`. Required:
            a tool that exchanges the wrapper's type ends in an error and not in silent plain training.
        policy: ``dict(type='EveryStep' | 'Periodic' | 'LookSAM' | 'RandomLayers', ...)`` or a
            :class:`~mmsharp.sharpness.Policy`: when, and for which parameters, the ascent is taken. ``None`` stands for
            every step.
        parameters: Which parameters the ascent moves: ``'all'``, ``'weights'``, ``'norm_only'`` or a list of name
            patterns; ``None`` takes what the ascent prefers (``'weights'`` for AdaSAP, ``'all'`` for SAM and ASAM).
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
    the optimizer's momentum there is one pass, and ``sharpness/momentum_norm`` in place of the first two.

    Raises:
        MmsharpError: No or an unknown ascent, policy or filter, a policy that needs two gradients with an ascent that
            has one, a loss whose forward was not seen inside ``optim_context`` or that is not the loss of that forward,
            two forwards inside one context, a compiled or sharded model, or momentum to follow where there is none.
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
        if parameters is not None:
            validate_filter(parameters)
        built = build_part(POLICIES, dict(type='EveryStep') if policy is None else policy)
        if not isinstance(built, Policy):
            raise MmsharpError(
                f'policy={policy!r} is neither a Policy nor the config of one; accepted types: '
                f'{", ".join(sorted(POLICIES.module_dict))}'
            )
        super().__init__(*args, **kwargs)
        self._policy = built
        self._parameters = parameters
        self._synchronise = synchronise
        self._skip_nonfinite = skip_nonfinite
        self._guard = WeightGuard()
        self._call: CapturedCall | None = None
        self._before: ForwardState | None = None
        self._output: Any = None
        self._is_checked = False
        self._calls = 0
        self._plan: Plan | None = None
        self._first: dict[str, Tensor] = {}
        self._selected: list[AscentParameter] | None = None
        self._trainable: tuple[bool, ...] = ()
        self._masks: Mapping[nn.Parameter, Tensor] = {}
        self._scores: CriterionScores | None = None
        self._loaded_scores: Mapping[str, Any] = {}
        self.set_ascent(ascent)

    @property
    def ascent(self) -> Ascent:
        """The ascent in force."""
        return self._ascent

    def set_ascent(self, ascent: Mapping[str, Any] | Ascent) -> None:
        """Exchange the ascent, as AdaSAP does when its phases change."""
        built = build_part(ASCENTS, ascent)
        if not isinstance(built, Ascent):
            raise MmsharpError(
                f'ascent={ascent!r} is neither an Ascent nor the config of one; accepted types: '
                f'{", ".join(sorted(ASCENTS.module_dict))}'
            )
        if built.direction != 'gradient' and self._policy.corrects:
            raise MmsharpError(
                f'{type(self._policy).__name__} compares two gradients, and {type(built).__name__} takes one; use '
                'another policy or another ascent'
            )
        self._ascent = built
        self._forget_parameters()

    def set_masks(self, masks: Mapping[nn.Parameter, Tensor]) -> None:
        """Keep pruned positions out of the ascent: per parameter a 0/1 tensor that broadcasts against it."""
        self._masks = dict(masks)

    def forget_model(self) -> None:
        """Drop what was derived from the model's shapes; call it after the model has been slimmed."""
        self._forget_parameters()
        self._masks = {}
        self._first = {}
        self._policy.forget()
        self._guard.release()

    @contextmanager
    def optim_context(self, model: nn.Module) -> Iterator[None]:
        """The parent's context, in which the forward of ``model`` is captured, or displaced along the momentum."""
        refuse_unfit(model)
        self._call, self._calls, self._before, self._output = None, 0, None, None
        self._plan = plan = self._make_plan(model)
        if plan.two_passes:
            refuse_static_graph(model)
        inner = inner_model(model)
        with ExitStack() as stack:
            if plan.chosen:
                # On the inner model: a distributed wrapper exchanges buffers before it calls it.
                stack.callback(inner.register_forward_pre_hook(self._see_state, prepend=True).remove)
            if plan.two_passes and not self._is_checked:
                stack.callback(inner.register_forward_hook(self._see_output).remove)
            stack.callback(model.register_forward_pre_hook(self._see, with_kwargs=True, prepend=True).remove)
            if plan.reading is not None:
                stack.enter_context(self._guard.displaced([parameter.tensor for parameter in plan.chosen]))
            stack.enter_context(super().optim_context(model))  # type: ignore[misc]
            stack.enter_context(_no_sync(model, plan.two_passes))
            stack.enter_context(non_reentrant_checkpoints())
            with self._rewinding():
                yield

    def backward(self, loss: Tensor, **kwargs: Any) -> None:
        """Backpropagate the loss at ``w + eps``: that of the captured call made again, in place of ``loss``.

        In plain steps, and along the momentum, where the forward pass was made there already, it is ``loss`` itself.

        Args:
            loss: The loss of the forward pass, scaled for accumulation by the parent; its graph is consumed.
            kwargs: For the parent's ``backward``.
        """
        plan = self._take_plan()
        with self._rewinding():
            if plan.two_passes:
                self._backward_twice(plan, loss, kwargs)
            elif plan.reading is None:
                super().backward(loss, **kwargs)  # type: ignore[misc]
            else:
                with self._guard.displaced([parameter.tensor for parameter in plan.chosen]):
                    super().backward(loss, **kwargs)  # type: ignore[misc]
                self._log(momentum_norm=plan.reading.gradient_norm, radius=plan.reading.radius)
        self._before = None

    @contextmanager
    def _rewinding(self) -> Iterator[None]:
        """Give the model back the state that the step began with if an exception ends it."""
        try:
            yield
        except BaseException:
            if self._before is not None:
                self._before.rewind()
            self._plan = self._call = self._before = self._output = None
            raise

    def step(self, **kwargs: Any) -> None:
        """Let the policy correct the gradients, then clip and step as the parent does."""
        if self._policy.corrects and self._selected is not None:
            gradients = {p.name: p.tensor.grad for p in self._selected if p.tensor.grad is not None}
            first, self._first = self._first, {}
            if first and get_world_size() > 1:
                # A rank may lack first gradients that others have; of the averaged ones all ranks have the same.
                first = {name: first.get(name, torch.zeros_like(value)) for name, value in gradients.items()}
                all_reduce_params(list(first.values()), op='mean')
            self._policy.correct_(gradients, first)
        if self._skip_nonfinite and not self._skips_by_itself and not self._all_finite():
            self._log(skipped=torch.ones(()))
            return
        super().step(**kwargs)  # type: ignore[misc]

    def state_dict(self) -> dict[str, Any]:
        """The parent's, and what the policy and the ascent's criterion have to remember."""
        state = super().state_dict()  # type: ignore[misc]
        parts = dict(
            policy=self._policy.state_dict(),
            scores=self._loaded_scores if self._scores is None else self._scores.state_dict(),
        )
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
        super().load_state_dict(state_dict)  # type: ignore[misc]

    def _make_plan(self, model: nn.Module) -> Plan:
        step, micro_batch = divmod(self._inner_count, self._accumulative_counts)  # type: ignore[attr-defined]
        if micro_batch == 0:
            self._first = {}  # a step that was abandoned may have left some
        parameters = self._parameters_of(model)
        if not parameters:
            raise MmsharpError(
                f'all parameters that the ascent moves are frozen by now; choose other `parameters` for '
                f'{type(self).__name__}, or train without an ascent'
            )
        chosen = list(self._policy.select(step, parameters))
        if self._ascent.direction == 'gradient' or not chosen:
            return Plan(chosen, two_passes=bool(chosen))
        moved = [(parameter, self._momentum(parameter)) for parameter in chosen]
        chosen = [parameter for parameter, momentum in moved if momentum is not None]
        if not chosen:
            self._refuse_without_momentum(parameters)
            return Plan([], two_passes=False)
        perturbations = [momentum.clone() for _, momentum in moved if momentum is not None]
        reading = self._perturbations_(chosen, perturbations)
        self._guard.prepare([parameter.tensor for parameter in chosen], perturbations)
        return Plan(chosen, two_passes=False, reading=reading)

    def _refuse_without_momentum(self, parameters: list[AscentParameter]) -> None:
        """Momentum that is yet to come is waited for; an optimizer that keeps none is refused.

        Raises:
            MmsharpError: Naming the optimizer.
        """
        optimizer = self.optimizer  # type: ignore[attr-defined]
        keeps_none = all('momentum' in group and not group['momentum'] for group in optimizer.param_groups)
        has_stepped = any(optimizer.state.get(parameter.tensor) for parameter in parameters)
        if keeps_none or (has_stepped and all(self._momentum(parameter) is None for parameter in parameters)):
            raise MmsharpError(
                f'{type(self._ascent).__name__} follows the momentum of the optimizer, and {type(optimizer).__name__} '
                f'keeps none (looked for {" and ".join(MOMENTA)}); give it momentum, or take another ascent'
            )

    def _take_plan(self) -> Plan:
        plan, self._plan = self._plan, None
        if plan is None or not self._calls:
            raise MmsharpError(
                f'{type(self).__name__} saw no forward pass: the loss must come from a call of the model inside '
                '`with optim_wrapper.optim_context(model)`, as in BaseModel.train_step; a custom loop or a model with '
                'its own train_step has to do the same'
            )
        return plan

    def _backward_twice(self, plan: Plan, loss: Tensor, kwargs: dict[str, Any]) -> None:
        call = self._take_call()
        self._check_loss(inner_model(call.model), loss)
        gradients = self._ascent_gradients(loss, plan.chosen)
        if all(gradient is None for gradient in gradients):
            # What a policy leaves out may be used, and so may other ranks' parameters: then eps = 0 here and now.
            all_were_chosen = len(gradients) == len(self._parameters_of(call.model))
            if all_were_chosen and not getattr(call.model, 'find_unused_parameters', False):
                raise MmsharpError(
                    f'the loss depends on none of the {len(gradients)} parameters that the ascent moves '
                    f'({plan.chosen[0].name}, ...); choose other `parameters` for {type(self).__name__}'
                )
            gradients = [torch.zeros_like(parameter.tensor) for parameter in plan.chosen]
        if self._synchronise and get_world_size() > 1:
            # Ranks may lack different gradients, but have to exchange the same.
            gradients = [torch.zeros_like(p.tensor) if g is None else g for p, g in zip(plan.chosen, gradients)]
            all_reduce_params(gradients, op='mean')
        moved = [(p, g) for p, g in zip(plan.chosen, gradients) if g is not None]
        chosen = [parameter for parameter, _ in moved]
        perturbations = [gradient for _, gradient in moved]
        if self._policy.corrects:
            self._keep_first(chosen, perturbations)
        reading = self._perturbations_(chosen, perturbations)
        # Buffers come back after the backward pass: the graph may have saved them.
        with (
            frozen_statistics(inner_model(call.model), self._before),
            self._guard.perturbed([parameter.tensor for parameter in chosen], perturbations),
        ):
            del perturbations, gradients, moved
            second = self.scale_loss(self._replay(call))  # type: ignore[attr-defined]
            super().backward(second, **kwargs)  # type: ignore[misc]
        per_batch = 1.0 / self._loss_factor
        self._log(
            loss_gap=(second.detach() - loss.detach()) * per_batch,
            gradient_norm=reading.gradient_norm * per_batch,
            radius=reading.radius,
        )

    def _perturbations_(self, chosen: list[AscentParameter], directions: list[Tensor]) -> AscentReading:
        return self._ascent.perturb_(chosen, directions, [self._masks.get(parameter.tensor) for parameter in chosen])

    def _keep_first(self, chosen: list[AscentParameter], gradients: list[Tensor]) -> None:
        """Sum up the gradients at ``w`` over the micro-batches of a step."""
        for parameter, gradient in zip(chosen, gradients):
            if parameter.name in self._first:
                self._first[parameter.name].add_(gradient)
            else:
                self._first[parameter.name] = gradient.clone()

    def _momentum(self, parameter: AscentParameter) -> Tensor | None:
        state = self.optimizer.state.get(parameter.tensor, {})  # type: ignore[attr-defined]
        return next((state[name] for name in MOMENTA if isinstance(state.get(name), Tensor)), None)

    def _check_loss(self, model: nn.Module, loss: Tensor) -> None:
        """At the first of many steps: the loss has to be the one that the captured forward leads to.

        Raises:
            MmsharpError: It is another one; a second pass would drop what was added or done to it.
        """
        output, self._output = self._output, None
        if self._is_checked or output is None:
            return
        expected = float(model.parse_losses(output)[0].detach())  # type: ignore[operator]
        found = float(loss.detach()) / self._loss_factor
        if not math.isfinite(expected) or not math.isfinite(found):
            return
        rounding = 1e-4 if loss.dtype in (torch.float32, torch.float64) else 1e-2
        if not math.isclose(expected, found, rel_tol=rounding, abs_tol=1e-12):
            raise MmsharpError(
                f'the loss given to {type(self).__name__} is {found:.6g}, but the forward pass that it saw gives '
                f'{expected:.6g}: {type(model).__name__}.train_step adds to the loss, or makes several contexts before '
                'one update; put such terms into the losses that its forward returns'
            )
        self._is_checked = True

    def _see_state(self, model: nn.Module, *_: Any) -> None:
        if self._before is None:
            self._before = ForwardState(model)

    def _see_output(self, model: nn.Module, arguments: Any, output: Any) -> None:
        self._output = output

    def _see(self, model: nn.Module, arguments: tuple[Any, ...], keywords: dict[str, Any]) -> None:
        self._calls += 1
        if self._plan is not None and self._plan.two_passes:
            self._call = CapturedCall.of(model, arguments, keywords)

    def _take_call(self) -> CapturedCall:
        call, calls = self._call, self._calls
        self._call, self._calls = None, 0
        assert call is not None
        if calls > 1:
            raise MmsharpError(
                f'{type(self).__name__} saw {calls} forward passes inside one optim_context and cannot tell which of '
                'them to repeat; update the parameters after each pass, with a context of its own'
            )
        call.check_inputs()
        return call

    def _parameters_of(self, model: nn.Module) -> list[AscentParameter]:
        inner = inner_model(model)
        which = self._ascent.default_parameters if self._parameters is None else self._parameters
        trainable = tuple(parameter.requires_grad for parameter in inner.parameters())
        if self._selected is None:
            self._selected = select_parameters(inner, which)
            self._connect_criterion(inner)
        elif trainable != self._trainable:
            with suppress(MmsharpError):  # a pattern whose parameters are frozen by now is no reason to stop
                self._selected = select_parameters(inner, which)
        self._trainable = trainable
        return [parameter for parameter in self._selected if parameter.tensor.requires_grad]

    def _connect_criterion(self, model: nn.Module) -> None:
        """Let the criterion of an ascent that scores by one see the model and the optimizer's steps."""
        ascent = self._ascent.ascent if isinstance(self._ascent, MomentumSAM) else self._ascent
        if isinstance(ascent, AdaSAP) and ascent.criterion is not None:
            self._scores = CriterionScores(model, ascent.criterion, self.optimizer)  # type: ignore[attr-defined]
            self._scores.load_state_dict(self._loaded_scores)
            self._loaded_scores = {}
            ascent.score_by = self._scores

    def _forget_parameters(self) -> None:
        self._selected = None
        self._is_checked = False
        if self._scores is not None:
            self._scores.close()
            self._scores = None

    def _ascent_gradients(self, loss: Tensor, chosen: list[AscentParameter]) -> list[Tensor | None]:
        """The gradients of ``loss`` itself, however a parent scales it for its own backward pass; ours to overwrite."""
        tensors = [parameter.tensor for parameter in chosen]
        return _separate(torch.autograd.grad(loss, tensors, allow_unused=True), chosen)

    def _replay(self, call: CapturedCall) -> Tensor:
        with super().optim_context(call.model):  # type: ignore[misc]
            losses = call.again()
        loss, _ = inner_model(call.model).parse_losses(losses)  # type: ignore[operator]
        return loss

    def _all_finite(self) -> bool:
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

    @property
    def _loss_factor(self) -> float:
        """What the parent multiplied this micro-batch's loss with; its counter has moved on by one since."""
        self._inner_count -= 1  # type: ignore[attr-defined]
        try:
            return float(self.scale_loss(1.0))  # type: ignore[attr-defined]
        finally:
            self._inner_count += 1  # type: ignore[attr-defined]


def _separate(gradients: Sequence[Tensor | None], parameters: Sequence[AscentParameter]) -> list[Tensor | None]:
    """Gradients that may be overwritten one by one.

    Autograd hands out one tensor for both operands of a sum, and expanded ones for a sum over a parameter.

    Raises:
        MmsharpError: A gradient is sparse.
    """
    seen: set[int] = set()
    separate: list[Tensor | None] = []
    for gradient, parameter in zip(gradients, parameters):
        if gradient is not None:
            if gradient.layout != torch.strided:
                raise MmsharpError(
                    f'the gradient of {parameter.name!r} is sparse, and an ascent needs dense ones; build that layer '
                    'with sparse=False, or leave it out of `parameters`'
                )
            storage = gradient.untyped_storage().data_ptr()
            expanded = any(stride == 0 and size > 1 for stride, size in zip(gradient.stride(), gradient.shape))
            if expanded or storage in seen:
                gradient = gradient.clone()
            seen.add(storage)
        separate.append(gradient)
    return separate


def refuse_static_graph(model: nn.Module) -> None:
    """Refuse DDP's static graph, which expects the backward pass that a first pass does not make.

    Raises:
        MmsharpError: With what to do instead.
    """
    if isinstance(model, DistributedDataParallel) and model.static_graph:
        raise MmsharpError(
            'static_graph=True of DistributedDataParallel does not allow for the two passes of a sharpness-aware step; '
            'remove it from model_wrapper_cfg'
        )


def refuse_unfit(model: nn.Module) -> None:
    """Refuse a model on which a second pass would go wrong unnoticed: compiled as a whole step, or sharded.

    Raises:
        MmsharpError: With what to do instead.

    Example:
        >>> refuse_unfit(nn.Linear(1, 1))
    """
    if any('FullyShardedDataParallel' in name for name in class_names(model)):
        raise MmsharpError(
            f'{type(model).__name__} keeps a piece of each parameter per process, and an ascent needs norms of '
            'whole ones; train with MMDistributedDataParallel'
        )
    for part in (model, inner_model(model)):
        if hasattr(vars(part).get('train_step'), '_torchdynamo_orig_callable'):
            raise MmsharpError(
                'compile=True compiles train_step as a whole, out of which the sharpness-aware wrapper cannot repeat '
                'the forward pass; set compile=False, or compile the model itself in your code'
            )


def _no_sync(model: nn.Module, wanted: bool) -> AbstractContextManager[None]:
    return model.no_sync() if wanted and isinstance(model, DistributedDataParallel) else nullcontext()
