"""The forward passes that one step of a mask search makes."""

from __future__ import annotations

import copy
from collections.abc import Mapping
from typing import TYPE_CHECKING, Any

from torch import Tensor

from mmsharp.models.network_outputs import captured, head_of, outputs_of
from mmsharp.pruning.mask_search import Outputs
from mmsharp.sharpness import ForwardState, RandomState, frozen_statistics

if TYPE_CHECKING:
    from mmsharp.models.masked_network import MaskedNetwork


class MaskSearchPasses:
    """The first pass leaves its marks on the model, the others begin where it began.

    Args:
        model: The network with masks.
        inputs: The batch, behind the data preprocessor.
        data_samples: What belongs to it; copied for each pass, because models write into it.
    """

    def __init__(self, model: MaskedNetwork, inputs: Any, data_samples: Any) -> None:
        self.model = model
        self.head = head_of(model)
        self.inputs = inputs
        self.samples = copy.deepcopy(data_samples)
        self.before = ForwardState(model)
        self.random = RandomState.capture()

    def first(self, masks: Mapping[str, Tensor], task: bool) -> tuple[Outputs, dict[str, Any] | None]:
        """The pass whose statistics and random numbers are those that stay.

        Args:
            masks: What the network is run with.
            task: Whether its own losses are asked for.

        Returns:
            What the head gave, and the losses or ``None``.
        """
        return self._run(masks, self.inputs, task)

    def again(
        self, masks: Mapping[str, Tensor], task: bool = False, images: Any = None
    ) -> tuple[Outputs, dict[str, Any] | None]:
        """Another pass from the same state and random numbers, of which the model keeps nothing.

        Args:
            masks: As of :meth:`first`.
            task: Likewise.
            images: In place of those of the batch.
        """
        with frozen_statistics(self.model, self.before), self.random.replayed():
            return self._run(masks, self.inputs if images is None else images, task)

    def _run(self, masks: Mapping[str, Tensor], inputs: Any, task: bool) -> tuple[Outputs, dict[str, Any] | None]:
        with captured(self.head) as found:
            given = self.model.run_masked(masks, inputs, copy.deepcopy(self.samples), 'loss' if task else 'tensor')
        if not task:
            # In tensor mode detectors call the head's forward itself, past all hooks, and hand back what it gave.
            return outputs_of(self.head, found[0].output if found else given), None
        if not found or found[0].with_labels:
            # Margins that a head gives to the labelled class are of its loss: compared is what it predicts with.
            return self.again(masks, images=inputs)[0], given
        return outputs_of(self.head, found[0].output), given
