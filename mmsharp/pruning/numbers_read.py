"""Where a model takes Python numbers out of its images: what an exporter that follows one run writes as constants."""

from __future__ import annotations

import sys
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import torch
from torch import Tensor, nn
from torch.multiprocessing.reductions import StorageWeakRef
from torch.overrides import TorchFunctionMode
from torch.utils._python_dispatch import TorchDispatchMode
from torch.utils._pytree import tree_leaves

READS = frozenset({torch.ops.aten._local_scalar_dense.default, torch.ops.aten.equal.default})
"""``item()``, ``bool()``, ``int()``, ``float()`` and ``if`` end in the first, ``torch.equal`` in the second."""
LEAVES = frozenset({Tensor.tolist, Tensor.numpy, Tensor.__array__})
"""What gives numbers past the dispatcher."""
SHAPES_ALONE = frozenset(
    getattr(torch.ops.aten, name).default
    for name in ('zeros_like', 'ones_like', 'empty_like', 'full_like', 'rand_like', 'randn_like', 'new_zeros')
)
"""Their results know the size of what they are given, not its content."""
HERE = Path(__file__).parents[1]


@torch.no_grad()
def numbers_read(model: nn.Module, images: Tensor) -> list[str]:
    """``file:line`` of the model's code, once each, where a Python number is read from what depends on the images.

    A branch such as ``if x.mean() > 0`` is one, and so is a tensor that goes to NumPy. Sizes do not count, nor do
    numbers from parameters and buffers. Every operation of one forward pass is looked at: what is computed from the
    images depends on them, in place or not. Code outside of torch's dispatcher hides what it does.

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
    with _Following(images) as following, _Leaving(following):
        model(images)
    return following.places


class _Following(TorchDispatchMode):
    """Knows which memory depends on the images, and notes where numbers are read from them."""

    def __init__(self, images: Tensor) -> None:
        super().__init__()
        self.depending = set(_memory(images))
        self.places: list[str] = []

    def __torch_dispatch__(self, func: Any, types: Any, args: Any = (), kwargs: Any = None) -> Any:
        kwargs = kwargs or {}
        result = func(*args, **kwargs)
        if self.depending.isdisjoint(_memory((args, kwargs))):
            return result
        if func in READS:
            self.note()
        elif func not in SHAPES_ALONE:
            changed = [args[:1]] if func._schema.is_mutable else []
            self.depending.update(_memory((result, changed)))
        return result

    def note(self) -> None:
        """Remember the line that is at work."""
        place = _place()
        if place not in self.places:
            self.places.append(place)


class _Leaving(TorchFunctionMode):
    """Notes where tensors that depend on the images leave torch whole."""

    def __init__(self, following: _Following) -> None:
        super().__init__()
        self.following = following

    def __torch_function__(self, func: Any, types: Any, args: Any = (), kwargs: Any = None) -> Any:
        if func in LEAVES and not self.following.depending.isdisjoint(_memory(args)):
            self.following.note()
        return func(*args, **(kwargs or {}))


def _memory(tree: Any) -> Iterator[StorageWeakRef]:
    """Of every tensor: views share it. A weak reference keeps the address from being given to another tensor."""
    return (StorageWeakRef(leaf.untyped_storage()) for leaf in tree_leaves(tree) if isinstance(leaf, Tensor))


def _place() -> str:
    """The innermost line that is neither torch's nor ours."""
    frame = sys._getframe(1)
    torch_folder = Path(torch.__file__).parent
    innermost = frame
    while frame is not None:
        path = Path(frame.f_code.co_filename)
        if torch_folder not in path.parents and HERE not in path.parents:
            innermost = frame
            break
        frame = frame.f_back  # type: ignore[assignment]
    return f'{_short(innermost.f_code.co_filename)}:{innermost.f_lineno}'


def _short(path: str) -> str:
    """From the package on."""
    return path.rsplit('site-packages/', 1)[-1]
