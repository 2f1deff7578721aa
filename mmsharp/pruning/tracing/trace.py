"""Follow channels through one forward pass, operation by operation.

Every axis of every stored weight starts with labels (one per channel); a dispatch mode sees each PyTorch operation of
the forward, looks its rule up (``rules.py``) and hands the labels on: a convolution ties its input's channels to the
weight's input axis and gives the weight's output axis, an addition ties both sides, a concatenation puts labels side
by side. An operation without a rule pins whatever channels go in: what is not understood stays whole.

Nothing relies on autograd, so frozen parameters and code under ``no_grad`` are followed like the rest.
"""

from __future__ import annotations

import inspect
import math
from collections.abc import Callable, Iterable, Iterator, Sequence
from contextlib import contextmanager, nullcontext
from typing import Any

import numpy as np
import torch
from torch import Tensor, nn
from torch.utils._python_dispatch import TorchDispatchMode
from torch.utils.weak import WeakTensorKeyDictionary

from mmsharp.pruning.forwards import output_tensors, run_losses
from mmsharp.pruning.forwards.custom_functions import custom_functions
from mmsharp.pruning.layers import (
    KEPT_STATISTICS,
    WITHOUT_SLIM_FORM,
    axis_size,
    layer_kind,
    layer_tensors,
    prunable_layers,
    why_foreign,
)
from mmsharp.pruning.layers.kinds import Axis
from mmsharp.pruning.tracing.labels import Axes, ChannelLabels, Labels
from mmsharp.pruning.tracing.mmcv_operators import CUSTOM_RULES
from mmsharp.pruning.tracing.opaque_modules import module_rule
from mmsharp.pruning.tracing.rules import apply_rule


class ChannelTrace(TorchDispatchMode):
    """Dispatch mode that follows labels; see the module's docstring.

    Attributes:
        labels: All labels, ties and pins.
        layer_axes: Labels of ``(module path, name of the axis)``.
        products: Per product that multiply-accumulates are counted for, their number per combination of channels, and
            the labels of each dimension that has channels.
    """

    def __init__(self, model: nn.Module) -> None:
        super().__init__()
        self.labels = ChannelLabels()
        self.layer_axes: dict[tuple[str, str], Labels] = {}
        self.products: list[tuple[int, list[Labels]]] = []
        self._axes = WeakTensorKeyDictionary()
        self._weights = WeakTensorKeyDictionary()
        self._zeros = WeakTensorKeyDictionary()
        self._counting: nn.Module | None = None
        self._unread = WeakTensorKeyDictionary()
        self._reached: set[int] = set()
        self._paths = {module: path for path, module in model.named_modules()}
        self._stack: list[nn.Module] = []
        self._paused = False
        self._handed_on: list[Labels] = []
        self._label_layers(model)
        self._label_foreign(model)

    def _label_layers(self, model: nn.Module) -> None:
        """Labels for the axes of the layers of the table; tied parameters share them."""
        for path, (module, kind) in prunable_layers(model).items():
            for name, axis in kind.axes.items():
                size = axis_size(module, axis)
                if size < 2:
                    continue
                labels = self.labels.fresh(size)
                self.layer_axes[path, name] = labels
                for tensor_name, (tensor, dim) in layer_tensors(module, axis).items():
                    if tensor_name not in KEPT_STATISTICS:
                        self._zeros[tensor] = self._zeros.get(tensor, frozenset()) | {dim}
                    axes = self._axes.setdefault(tensor, [None] * tensor.dim())
                    if axes[dim] is not None:
                        self.labels.tie(axes[dim], labels, 'shares a parameter with another layer')
                    axes[dim] = labels
                    self._weights[tensor] = True
            for name, axis in kind.axes.items():
                parts, other = self.layer_axes.get((path, name)), axis.runs_of or axis.tiles_of
                if parts is not None and other is not None:
                    spread = self._spread(path, axis, len(parts))
                    self.labels.tie(parts, spread, f'`{path}`: its {name} is not made of equal {other}')

        for path, (_, kind) in prunable_layers(model).items():
            for name, axis in kind.axes.items():
                if axis.same_as is not None and (path, name) in self.layer_axes:
                    inside = '.'.join(part for part in (path, axis.same_as[0]) if part)
                    same = self.layer_axes.get((inside, axis.same_as[1]))
                    self.labels.tie(self.layer_axes[path, name], same, f'`{path}`: its {name} is of no layer known')

    def _spread(self, path: str, axis: Axis, size: int) -> Labels | None:
        """Labels of an axis that is made of those of another one; ``None`` if it is not, or that has too few."""
        whole = self.layer_axes.get((path, axis.runs_of or axis.tiles_of or ''))
        if whole is None:
            return None
        return np.repeat(whole, size // len(whole)) if axis.runs_of else np.tile(whole, size // len(whole))

    def _label_foreign(self, model: nn.Module) -> None:
        """Pinned labels for every parameter that no row of the table describes."""
        for path, module in model.named_modules():
            for name, parameter in module.named_parameters(recurse=False):
                if parameter in self._axes or parameter.dim() == 0:
                    continue
                reason = f'`{path}.{name}`: {why_foreign(module)}'
                axes = [self.labels.fresh(size) if size > 1 else None for size in parameter.shape]
                for labels in axes:
                    self.labels.pin(labels, reason)
                self._axes[parameter] = axes

    def run(self, model: nn.Module, forward: Any, losses: bool = True) -> None:
        """Trace ``forward(model)`` and the losses that it can give; pin the channels that reach its outputs.

        Pinned are also the channels of layers that were not reached. Where the losses could not be run, such a layer
        may be one that only training reaches, and read what the model's parts hand on to each other: this stays whole.
        """
        parts = [module for _, module in model.named_children()]
        with (
            _module_stack(self),
            _opaque_functions(self),
            _opaque_modules(self, model),
            _no_fused_attention(),
            self,
        ):
            with _outputs_of(parts, self._hand_on):
                output = forward(model)
            for tensor in output_tensors(output):
                self._read(tensor)
                for labels in self.axes(tensor):
                    self.labels.pin(labels, "reaches the model's outputs")
            unknown = run_losses(forward, model) if losses else 'not asked for'
        unreached = ''
        for path, (module, kind) in prunable_layers(model).items():
            tensors = [tensor for axis in kind.axes.values() for tensor, _ in layer_tensors(module, axis).values()]
            if tensors and not any(id(tensor) in self._reached for tensor in tensors):
                if any(isinstance(tensor, nn.Parameter) for tensor in tensors):
                    unreached = unreached or path
                for name in kind.axes:
                    self.labels.pin(self.layer_axes.get((path, name)), 'not reached by the forward that was traced')
        if unreached and unknown:
            for labels in self._handed_on:
                self.labels.pin(labels, f'may be read by `{unreached}`, which only the losses may run ({unknown})')

    def _hand_on(self, output: Any) -> None:
        for tensor in output_tensors(output):
            self._handed_on += [labels for labels in self.axes(tensor) if labels is not None]

    @contextmanager
    def paused(self) -> Iterator[None]:
        """Inside, operations run unseen; who pauses says afterwards what they did."""
        before, self._paused = self._paused, True
        try:
            yield
        finally:
            self._paused = before

    def reach(self, tensors: Iterable[Tensor]) -> None:
        """Say that something has read these tensors."""
        for tensor in tensors:
            self._reached.add(id(tensor))
            self._read(tensor)

    def axes(self, tensor: Tensor) -> Axes:
        """The labels of a tensor, one entry per dimension."""
        axes = self._axes.get(tensor)
        return list(axes) if axes is not None else [None] * tensor.dim()

    def set_axes(self, tensor: Tensor, axes: Sequence[Labels | None]) -> None:
        """Say what the dimensions of a result hold."""
        if tensor.dim() == len(axes) and any(labels is not None for labels in axes):
            self._axes[tensor] = [
                labels if labels is None or len(labels) == size else None for labels, size in zip(axes, tensor.shape)
            ]

    def zeros(self, tensor: Tensor) -> set[int]:
        """Dimensions along which dead channels are exactly zero."""
        return {dim for dim in self._zeros.get(tensor, ()) if self.axes(tensor)[dim] is not None}

    def set_zeros(self, outputs: Sequence[Tensor], dims: set[int], in_place: bool) -> None:
        """Say where dead channels of results are zero; what shares memory with a result that lost that, loses it."""
        for output in outputs:
            kept = dims if output.is_floating_point() else set()  # not the places that pooling hands back
            lost = in_place and not self.zeros(output) <= kept
            self._zeros[output] = frozenset(kept)
            if lost:
                place = output.untyped_storage().data_ptr()
                for other in list(self._zeros):
                    if other is not output and other.untyped_storage().data_ptr() == place:
                        self._zeros[other] = frozenset()

    def in_block_that_counts(self) -> bool:
        """Whether the running module, once slim, still divides by the number of channels that it once had."""
        kind = layer_kind(self._stack[-1]) if self._stack else None
        return kind is not None and kind.dense_axis is not None

    def enter(self, module: nn.Module) -> None:
        """The forward of a module begins."""
        self._stack.append(module)
        self._counting = None

    def leave(self, everything: bool = False) -> None:
        """The forward of the innermost module is over, or of all."""
        del self._stack[0 if everything else -1 :]
        self._counting = None

    def counts_means(self, zero: bool) -> bool:
        """Whether the running module, once slim, takes this mean as over the channels that it once had.

        It does if the channels that are gone were zero where it took its first one: a variance follows from the mean.
        """
        if not self.in_block_that_counts():
            return False
        if zero:
            self._counting = self._stack[-1]
        return self._counting is self._stack[-1]

    def count_product(self, dimensions: Sequence[tuple[int, Labels | None]]) -> None:
        """Note ``product of the sizes`` multiply-accumulates, with the labels of the dimensions that have channels."""
        labels = [names for _, names in dimensions if names is not None]
        self.products.append((math.prod(size for size, names in dimensions if names is None), labels))

    def is_weight(self, tensor: Tensor) -> bool:
        """Whether a tensor is a stored weight of the table or a rearrangement of one, which masks zero."""
        return bool(self._weights.get(tensor, False))

    def set_weight(self, tensor: Tensor) -> None:
        """Say that a tensor holds a stored weight's own numbers."""
        self._weights[tensor] = True

    def block_axis(self, name: str) -> Labels | None:
        """Labels of an axis of the innermost block whose forward is running; ``None`` where it has no such axis."""
        path = self._path()
        return self.layer_axes.get((path, name)) if path is not None else None

    def spread_axis(self, name: str) -> Labels | None:
        """Labels of the axis that an axis of the running block is made of, in the order in which they lie along it."""
        kind, path = (layer_kind(self._stack[-1]), self._path()) if self._stack else (None, None)
        axis = None if kind is None else kind.axis(name)
        return None if axis is None or path is None else self._spread(path, axis, axis_size(self._stack[-1], axis))

    def in_block_with(self, name: str) -> bool:
        """Whether the innermost block whose forward is running is of a kind with this axis, of whatever size."""
        kind = layer_kind(self._stack[-1]) if self._stack else None
        return kind is not None and kind.axis(name) is not None

    def head_width(self) -> int | None:
        """Width of a head in the innermost block whose forward is running, where its row knows it."""
        kind = layer_kind(self._stack[-1]) if self._stack else None
        return None if kind is None or kind.head_width is None else int(getattr(self._stack[-1], kind.head_width))

    def pin_readers(self, outputs: Sequence[Tensor], labels: Labels | None, what: str) -> None:
        """Pin channels once anything reads these tensors: a statistic that nobody looks at may well change."""
        if labels is not None:
            for output in outputs:
                self._unread.setdefault(output, []).append((labels, self.because(what)))

    def _read(self, tensor: Tensor) -> None:
        for labels, reason in self._unread.pop(tensor, []):
            self.labels.pin(labels, reason)

    def without_slim_form(self) -> str | None:
        """Why the module whose forward is running could not shrink, if it is of such a kind."""
        module = self._stack[-1] if self._stack else None
        if module is None or layer_kind(module) is not None:
            return None
        return next((why for kind, why in WITHOUT_SLIM_FORM.items() if isinstance(module, kind)), None)

    def _path(self) -> str | None:
        return self._paths.get(self._stack[-1]) if self._stack else None

    def because(self, what: str) -> str:
        """A reason that names the module whose forward is running."""
        path = next((self._paths[module] for module in reversed(self._stack) if self._paths.get(module)), '')
        return f'`{path}`: {what}' if path else what

    def pin_tensors(self, tensors: Sequence[Tensor], what: str) -> None:
        """Pin every channel of these tensors."""
        for tensor in tensors:
            for labels in self.axes(tensor):
                if labels is not None:
                    self.labels.pin(labels, self.because(what))

    def __torch_dispatch__(self, func: Any, types: Any, args: Any = (), kwargs: Any = None) -> Any:
        if self._paused:
            return func(*args, **(kwargs or {}))
        inputs = [value for value in torch.utils._pytree.tree_leaves((args, kwargs)) if isinstance(value, Tensor)]
        strides = [value.stride() if value.layout is torch.strided else () for value in inputs]
        result = func(*args, **(kwargs or {}))
        if (
            len(inputs) == 1
            and isinstance(result, Tensor)
            and torch.Tag.pointwise in func.tags
            and result is not inputs[0]
        ):
            self._reached.add(id(inputs[0]))
            self._unread.update({result: self._unread[inputs[0]]} if inputs[0] in self._unread else {})
        else:
            self.reach(inputs)
        if any(tensor in self._axes for tensor in inputs):
            apply_rule(self, func, args, kwargs or {}, inputs, strides, result)
        return result


@contextmanager
def _module_stack(trace: ChannelTrace) -> Iterator[None]:
    """Keep the modules whose forward is running."""

    def leave(*_: Any) -> None:
        trace.leave()

    before = nn.modules.module.register_module_forward_pre_hook(lambda module, _: trace.enter(module))
    after = nn.modules.module.register_module_forward_hook(leave)
    try:
        yield
    finally:
        before.remove()
        after.remove()
        trace.leave(everything=True)


@contextmanager
def _no_fused_attention() -> Iterator[None]:
    """Inside, PyTorch's transformer layers run operation by operation, as they do in training."""
    before = torch.backends.mha.get_fastpath_enabled()
    torch.backends.mha.set_fastpath_enabled(False)
    try:
        yield
    finally:
        torch.backends.mha.set_fastpath_enabled(before)


@contextmanager
def _outputs_of(modules: Sequence[nn.Module], see: Callable[[Any], None]) -> Iterator[None]:
    """Show what each of these modules gives."""
    handles = [module.register_forward_hook(lambda _, __, output: see(output)) for module in modules]
    try:
        yield
    finally:
        for handle in handles:
            handle.remove()


@contextmanager
def _opaque_functions(trace: ChannelTrace) -> Iterator[None]:
    """Apply the rules of custom autograd functions, or pin what goes through those that have none.

    Their compiled kernels run out of the dispatcher's sight, and what the dispatcher sees of them is not the whole.
    """

    def around(kind: type, call: Any, args: tuple[Any, ...], kwargs: dict[str, Any]) -> Any:
        rule = CUSTOM_RULES.get(kind.__name__)
        with trace.paused() if rule else nullcontext():
            result = call(*args, **kwargs)
        tensors = output_tensors([list(args[1:]), kwargs])
        trace.reach(tensors)
        if rule is None:
            trace.pin_tensors([*tensors, *output_tensors(result)], f'custom function {kind.__name__}')
        else:
            rule(trace, inspect.signature(call).bind(*args, **kwargs).arguments, result)
        return result

    with custom_functions(around):
        yield


@contextmanager
def _opaque_modules(trace: ChannelTrace, model: nn.Module) -> Iterator[None]:
    """Apply the rules of modules whose inside says less than their outside."""
    patched: list[nn.Module] = []

    def watch(path: str, module: nn.Module, rule: Any) -> None:
        call = module.forward

        def forward(*args: Any, **kwargs: Any) -> Any:
            with trace.paused():
                result = call(*args, **kwargs)
            rule(trace, path, inspect.signature(call).bind(*args, **kwargs).arguments, result)
            return result

        patched.append(module)
        module.forward = forward

    try:
        for path, module in model.named_modules():
            rule = module_rule(module)
            if rule is not None and 'forward' not in vars(module):
                watch(path, module, rule)
        yield
    finally:
        for module in patched:
            del module.forward
