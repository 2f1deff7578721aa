"""What a network says of a batch, and by how much two of its passes differ."""

from __future__ import annotations

from dataclasses import dataclass

from torch import Tensor


@dataclass(frozen=True)
class Outputs:
    """Probabilities of a batch, and boxes where the network gives some.

    Args:
        scores: Shape ``(N, A, K)``, float32: probabilities of K classes at A places; a classifier has one place.
        boxes: Shape ``(N, A, B)``: what a detector regresses there, in the units of its head; ``None`` of classifiers.
        background: Whether the last class is the background, which says nothing of an object.

    Example:
        >>> import torch
        >>> Outputs(torch.tensor([[[0.5, 0.25], [0.0, 0.0]]])).confidence
        tensor([[1., 0.]])
    """

    scores: Tensor
    boxes: Tensor | None = None
    background: bool = False

    @property
    def confidence(self) -> Tensor:
        """How much each place counts, shape ``(N, A)``: its largest probability over the image's sum, detached."""
        scores = self.scores.detach()
        largest = (scores[..., :-1] if self.background else scores).amax(dim=-1)
        return largest / largest.sum(dim=1, keepdim=True).clamp(min=1e-12)


def discrepancy(first: Outputs, second: Outputs) -> Tensor:
    """By how much two passes differ, shape ``(N,)``, differentiable in both.

    Of classifiers ``||p - q||_inf``, CC-Cert's prediction discrepancy Z (Pautov et al. 2022, arXiv 2109.10696), which
    C-SAM (arXiv 2601.20301) builds on. Of detectors, ours: ``sum_a w_a (||p_a - q_a||_inf + mean|b_a - c_a|)`` over
    places, with ``w`` the :attr:`Outputs.confidence` of the first pass, so that the many places without an object do
    not drown the few with one.

    Args:
        first: One pass, which also says what counts.
        second: The other, of the same shapes.

    Example:
        >>> import torch
        >>> one, other = Outputs(torch.tensor([[[0.8, 0.2]]])), Outputs(torch.tensor([[[0.5, 0.5]]]))
        >>> discrepancy(one, other)
        tensor([0.3000])
    """
    at_places = (first.scores - second.scores).abs().amax(dim=-1)
    if first.boxes is not None and second.boxes is not None:
        at_places = at_places + (first.boxes - second.boxes).abs().mean(dim=-1)
    if at_places.shape[1] == 1:
        return at_places[:, 0]
    return (first.confidence * at_places).sum(dim=1)
