"""The forward passes of one step of the search, which its loss terms look at."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any

from torch import Tensor

from mmsharp.pruning.mask_search.outputs import Outputs


@dataclass(frozen=True)
class Passes:
    """All of them on the same batch; a pass that no term asks for is ``None``.

    Args:
        clean: With the masks themselves.
        perturbed: With perturbed masks.
        transformed: Of the images that the looking term's own transform has made, with perturbed masks.
        hard: With the binary masks.
        task: The network's own losses by name, of the perturbed pass: tensors or lists of tensors, and things to log.
        masks: The masks of the clean pass.
    """

    clean: Outputs
    perturbed: Outputs
    transformed: Outputs | None
    hard: Outputs | None
    task: Mapping[str, Any] | None
    masks: Mapping[str, Tensor]
