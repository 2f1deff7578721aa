"""The contract of what is masked: single weights, or coupled channels."""

from __future__ import annotations

from collections.abc import Mapping

from torch import Tensor, nn


class MaskUnits:
    """What a mask entry stands for, and how masks act on a model's parameters.

    Attributes:
        shapes: The shape of each mask, by name.
        kept: How many entries of each binary mask are ones.
        whole: What has no mask though it could have one in another network, with the reason.
    """

    shapes: dict[str, tuple[int, ...]]
    kept: dict[str, int]
    whole: dict[str, str]

    FROZEN = 'its weights are frozen'

    def values(self, model: nn.Module) -> dict[str, Tensor]:
        """What masks begin from, of the masks' shapes, detached, on the model's device: weights, or norms."""
        raise NotImplementedError

    def fan_in(self, name: str) -> int:
        """How many inputs are summed for one output where this mask acts; 1 for channels."""
        raise NotImplementedError

    def masked(self, model: nn.Module, masks: Mapping[str, Tensor]) -> dict[str, Tensor]:
        """The parameters that the masks act on, by name, multiplied by them; differentiable in both."""
        raise NotImplementedError
