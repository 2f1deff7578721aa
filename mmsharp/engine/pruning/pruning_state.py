"""What a checkpoint says about pruning: plain data under one key."""

from __future__ import annotations

import math
from collections.abc import Mapping
from dataclasses import dataclass, replace
from typing import Any, ClassVar

from torch import Tensor, nn

from mmsharp.engine.model_access.stored_parameters import stored_parameters
from mmsharp.errors import MmsharpError, shown
from mmsharp.pruning import Recipe

MAX_PIXELS = 2**28
"""Largest image that a checkpoint may ask for, in numbers: a gigabyte, which no network is deployed for."""


@dataclass(frozen=True)
class PruningState:
    """Dense, masked or slim, with the recipe of what is masked or has been removed.

    Args:
        kind: ``'dense'``, ``'masked'`` or ``'slim'``.
        recipe: Which channels are kept; ``None`` while dense.
        input_shape: ``(channels, height, width)`` of the image with which channels were found.

    Example:
        >>> PruningState().to_dict()
        {'version': 1, 'state': 'dense', 'recipe': None, 'input_shape': None}
        >>> PruningState.from_checkpoint(dict(meta=dict())).kind
        'dense'
    """

    kind: str = 'dense'
    recipe: Recipe | None = None
    input_shape: tuple[int, ...] | None = None

    KEY: ClassVar[str] = 'mmsharp'
    VERSION: ClassVar[int] = 1
    KINDS: ClassVar[tuple[str, ...]] = ('dense', 'masked', 'slim')

    def with_input_shape(self, shape: tuple[int, ...]) -> PruningState:
        """The same state, found with images of this shape."""
        return replace(self, input_shape=shape)

    def with_recipe(self, recipe: Recipe) -> PruningState:
        """The same state with the masks of now."""
        return replace(self, recipe=recipe)

    def masked(self) -> PruningState:
        """Channels are masked; the recipe is filled in when a checkpoint is written."""
        return replace(self, kind='masked', recipe=None)

    def slimmed(self, recipe: Recipe) -> PruningState:
        """The channels that the recipe leaves out have been removed."""
        return replace(self, kind='slim', recipe=recipe)

    def fits(self, model: nn.Module, state_dict: Mapping[str, Tensor]) -> bool:
        """Whether every parameter of the model has the shape that the checkpoint holds for it."""
        return all(
            name not in state_dict or getattr(state_dict[name], 'shape', None) == parameter.shape
            for name, parameter in stored_parameters(model).items()
        )

    def to_dict(self) -> dict[str, Any]:
        """JSON types only, so that the checkpoint loads with ``weights_only=True``."""
        return dict(
            version=self.VERSION,
            state=self.kind,
            recipe=None if self.recipe is None else self.recipe.to_dict(),
            input_shape=None if self.input_shape is None else list(self.input_shape),
        )

    @classmethod
    def from_checkpoint(cls, checkpoint: Mapping[str, Any]) -> PruningState:
        """Read the state from a training checkpoint or from the meta of a deployable one; dense where there is none.

        Raises:
            MmsharpError: The entry, or the meta that would hold it, is malformed, or of a newer version.
        """
        meta = checkpoint.get('meta')
        if meta is not None and not isinstance(meta, Mapping):
            raise MmsharpError(
                f"the checkpoint entry 'meta' is a {type(meta).__name__}; expected a dict, as MMEngine writes it"
            )
        payload = checkpoint.get(cls.KEY)
        if payload is None:
            payload = (meta or {}).get(cls.KEY)
        if payload is None:
            return cls()
        if not isinstance(payload, Mapping):
            raise MmsharpError(f'the checkpoint entry {cls.KEY!r} is a {type(payload).__name__}; expected a dict')
        version = payload.get('version')
        if not isinstance(version, int) or isinstance(version, bool) or version != cls.VERSION:
            raise MmsharpError(
                f'the checkpoint entry {cls.KEY!r} has version {shown(version)}; this mmsharp reads '
                f'version {cls.VERSION}; use the mmsharp that wrote it, or a newer one'
            )
        kind, recipe, shape = payload.get('state'), payload.get('recipe'), payload.get('input_shape')
        if not isinstance(kind, str) or kind not in cls.KINDS or (kind != 'dense' and recipe is None):
            raise MmsharpError(
                f'the checkpoint entry {cls.KEY!r} is malformed: state {shown(kind)}, accepted {cls.KINDS}'
            )
        if shape is not None and not _is_image_shape(shape):
            raise MmsharpError(
                f'the checkpoint entry {cls.KEY!r} is malformed: input_shape {shown(shape)}, expected [channels, '
                f'height, width] as positive whole numbers, at most {MAX_PIXELS} together'
            )
        return cls(kind, None if recipe is None else Recipe.from_dict(recipe), None if shape is None else tuple(shape))


def _is_image_shape(shape: Any) -> bool:
    if not isinstance(shape, (list, tuple)) or len(shape) != 3:
        return False
    sound = all(isinstance(size, int) and not isinstance(size, bool) and size > 0 for size in shape)
    return sound and math.prod(shape) <= MAX_PIXELS
