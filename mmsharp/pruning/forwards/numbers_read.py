"""Where a model takes Python numbers out of its images: what an exporter that follows one run writes as constants."""

from __future__ import annotations

import re
import sys
import sysconfig
from collections.abc import Callable, Iterator
from functools import cache
from pathlib import Path
from types import FrameType
from typing import Any, NamedTuple

import torch
from torch import Tensor, nn
from torch.multiprocessing.reductions import StorageWeakRef
from torch.overrides import TorchFunctionMode
from torch.utils._python_dispatch import TorchDispatchMode
from torch.utils._pytree import tree_leaves

from mmsharp.pruning.forwards.custom_functions import custom_functions

LEAVES = frozenset({Tensor.tolist, Tensor.numpy, Tensor.__array__, Tensor.__dlpack__, torch.tensor, torch.as_tensor})
"""What takes numbers past the dispatcher; the last two out of lists of tensors."""
SIZES = frozenset({Tensor.shape.__get__, Tensor.size, Tensor.numel, Tensor.__len__, Tensor.unbind})  # type: ignore[attr-defined]
"""What reads the size of a tensor, or makes a list that is as long."""
SHAPES_ALONE = frozenset(
    getattr(torch.ops.aten, name).default
    for name in ('zeros_like', 'ones_like', 'empty_like', 'full_like', 'rand_like', 'randn_like', 'new_zeros')
)
"""Their results know the size of what they are given, not its content."""
SELECTING = frozenset({'torchvision::nms'})
"""Give as many results as the content has it, and do not say so by a tag."""
INDEX = torch.ops.aten.index.Tensor
"""Whose result has a size of its own where truths select."""
HERE = Path(__file__).parents[2]
TOOLBOXES = ('mmengine', 'mmcv', 'mmdet', 'mmpretrain')
LIBRARIES = (*TOOLBOXES, 'torch', 'torchvision', 'numpy', 'mmsharp', 'Python')


class Reading(NamedTuple):
    """Where a number is read.

    Args:
        place: ``file:line``, from the package on.
        by_toolboxes: Whether it is a line of a toolbox, and no code was at work from the model's forward to it but that
            of the toolboxes and the libraries below them.
    """

    place: str
    by_toolboxes: bool


@torch.no_grad()
def numbers_read(model: nn.Module, images: Tensor) -> list[Reading]:
    """The lines of the model's code, once each, where a Python number is read from what depends on the images.

    A branch such as ``if x.mean() > 0`` is one, and so are a tensor that goes to NumPy and the size of a selection, as
    ``len(x[x > 3])``. Sizes of what depends on the images' size alone do not count, nor do numbers from parameters and
    buffers. Every operation of one forward pass is looked at: what is computed from the images depends on them, in
    place or not, and so does what a compiled kernel gives in an autograd function. Other code outside of torch's
    dispatcher hides what it does.

    Args:
        model: In evaluation mode, a function of images alone.
        images: Any that it takes.

    Raises:
        Exception: Whatever the model's own code raises.

    Example:
        >>> class Branch(nn.Module):
        ...     def forward(self, images):
        ...         return images * 2 if images.mean() > 0 else images
        >>> len(numbers_read(Branch(), torch.zeros(1, 3, 4, 4))), numbers_read(nn.ReLU(), torch.zeros(1, 3, 4, 4))
        (1, [])
    """
    with _Following(images) as following, _Leaving(following), custom_functions(following.around):
        model(images)
    return [Reading(place, alone) for place, alone in following.places.items()]


class _Following(TorchDispatchMode):
    """Knows which memory depends on the images, and notes where numbers are read from them."""

    def __init__(self, images: Tensor) -> None:
        super().__init__()
        self.depending = set(_memory(images))
        self.sized: set[StorageWeakRef] = set()
        self.places: dict[str, bool] = {}

    def __torch_dispatch__(self, func: Any, types: Any, args: Any = (), kwargs: Any = None) -> Any:
        kwargs = kwargs or {}
        result = func(*args, **kwargs)
        if self.depending.isdisjoint(_memory((args, kwargs))):
            return result
        if torch.Tag.data_dependent_output in func.tags:
            self.note()
        elif func not in SHAPES_ALONE:
            changed = [args[:1]] if func._schema.is_mutable else []
            self.depending.update(_memory((result, changed)))
        selects = torch.Tag.dynamic_output_shape in func.tags and (func is not INDEX or _has_truths(args[1]))
        selects = selects or func._schema.name in SELECTING
        if selects or not self.sized.isdisjoint(_memory((args, kwargs))):
            self.sized.update(_memory(result))
        return result

    def around(self, kind: type, call: Callable[..., Any], args: tuple[Any, ...], kwargs: dict[str, Any]) -> Any:
        """What compiled kernels give depends on what they are given; no dispatcher sees it."""
        result = call(*args, **kwargs)
        for known in (self.depending, self.sized):
            if not known.isdisjoint(_memory((args, kwargs))):
                known.update(_memory(result))
        return result

    def note(self) -> None:
        """Remember the line that is at work."""
        place, alone = _place()
        self.places[place] = alone and self.places.get(place, True)


class _Leaving(TorchFunctionMode):
    """Notes where tensors that depend on the images leave torch whole, and where sizes are read that do."""

    def __init__(self, following: _Following) -> None:
        super().__init__()
        self.following = following

    def __torch_function__(self, func: Any, types: Any, args: Any = (), kwargs: Any = None) -> Any:
        following = self.following
        known = following.depending if func in LEAVES else following.sized if func in SIZES else None
        if known and not known.isdisjoint(_memory(args)) and not (func is torch.as_tensor and _is_tensor(args)):
            following.note()
        return func(*args, **(kwargs or {}))


def _is_tensor(arguments: Any) -> bool:
    """Whether a tensor is given, which stays what it is, and no list of them."""
    return isinstance(arguments[0], Tensor)


def _has_truths(indices: Any) -> bool:
    return any(isinstance(index, Tensor) and index.dtype in (torch.bool, torch.uint8) for index in indices)


def _memory(tree: Any) -> Iterator[StorageWeakRef]:
    """Of every tensor: views share it. A weak reference keeps the address from being given to another tensor."""
    return (StorageWeakRef(leaf.untyped_storage()) for leaf in tree_leaves(tree) if isinstance(leaf, Tensor))


def _place() -> tuple[str, bool]:
    """The innermost line that is neither torch's nor ours, and whether it and all that led to it are the toolboxes'."""
    frame: FrameType | None = sys._getframe(1)
    assert frame is not None
    innermost, found, alone = frame, '', True
    while frame is not None and (frame.f_code.co_filename, frame.f_code.co_name) != (__file__, numbers_read.__name__):
        package = _package(frame.f_code.co_filename)
        if not found and package not in ('torch', 'mmsharp'):
            innermost, found = frame, package
        alone = alone and package in LIBRARIES
        frame = frame.f_back
    return f'{_short(innermost.f_code.co_filename)}:{innermost.f_lineno}', alone and found in TOOLBOXES


@cache
def _package(file: str) -> str:
    """What a file belongs to, or its own name."""
    path = Path(file)
    if HERE in path.parents:
        return 'mmsharp'
    short = _short(file)
    if short != file:
        return short.split('/')[0]
    frozen = re.match(r'<frozen (\w+)', file)
    inside = frozen[1] in sys.stdlib_module_names if frozen else Path(sysconfig.get_path('stdlib')) in path.parents
    return 'Python' if inside else file


def _short(path: str) -> str:
    """From the package on."""
    return path.rsplit('site-packages/', 1)[-1]
