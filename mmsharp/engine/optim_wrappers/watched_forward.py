"""The forward pass of a step, watched from a context in which somebody else calls the model."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import ExitStack, contextmanager
from typing import Any

from torch import nn

from mmsharp.engine.model_access.inner_model import inner_model
from mmsharp.engine.optim_wrappers.captured_call import CapturedCall
from mmsharp.errors import MmsharpError
from mmsharp.sharpness import ForwardState


class WatchedForward:
    """What is known of the forward pass of the step at hand: its call, and the state that the model was in before.

    Args:
        owner: Who watches, for messages.

    Example:
        >>> import torch
        >>> watched = WatchedForward('SAMOptimWrapper')
        >>> model = nn.Linear(1, 1)
        >>> with watched.watching(model, state=True, call=True):
        ...     output = model(torch.ones(1, 1))
        >>> bool(watched.take_call().again() == output)
        True
    """

    def __init__(self, owner: str) -> None:
        self.owner = owner
        self.forget()

    def forget(self) -> None:
        """Let go of a step that is over."""
        self.calls = 0
        self.before: ForwardState | None = None
        """The state when the forward pass began."""
        self._call: CapturedCall | None = None

    @contextmanager
    def watching(self, model: nn.Module, *, state: bool, call: bool) -> Iterator[None]:
        """Watch forward passes of ``model`` by hooks that are alive inside only.

        Args:
            model: The model, or the wrapper of distributed training around it.
            state: Whether to keep the model's state, to rewind to after an exception or to begin a second pass with.
            call: Whether to capture the call, to make it again.

        Raises:
            MmsharpError: At a second call, where one is to be captured.
        """

        def see_call(model: nn.Module, arguments: tuple[Any, ...], keywords: dict[str, Any]) -> None:
            self.calls += 1
            if call and self.calls > 1:
                raise MmsharpError(
                    f'{self.owner} sees {self.calls} forward passes inside one optim_context and cannot tell which of '
                    'them to repeat; update the parameters after each pass, with a context of its own'
                )
            if call:
                self._call = CapturedCall.of(model, arguments, keywords)

        with ExitStack() as stack:
            if state:
                # On the inner model: a distributed wrapper exchanges buffers before it calls it.
                hook = inner_model(model).register_forward_pre_hook(self._see_state, prepend=True)
                stack.callback(hook.remove)
            stack.callback(model.register_forward_pre_hook(see_call, with_kwargs=True, prepend=True).remove)
            yield

    def take_call(self) -> CapturedCall:
        """Give the call away, whose inputs have to be what they were.

        Raises:
            MmsharpError: The forward has overwritten its images.
        """
        call, self._call, self.calls = self._call, None, 0
        assert call is not None
        call.check_inputs()
        return call

    @contextmanager
    def rewinding(self) -> Iterator[None]:
        """Give the model back the state that the step began with if an exception ends it."""
        try:
            yield
        except BaseException:
            if self.before is not None:
                self.before.rewind()
            raise

    def _see_state(self, model: nn.Module, *_: Any) -> None:
        if self.before is None:
            self.before = ForwardState(model)
