"""What a classifier says of a transformed image beside what it says of the image: CC-Cert's two numbers."""

from __future__ import annotations

from torch import Tensor


def margin(probabilities: Tensor) -> Tensor:
    """``d = (p_(1) - p_(2)) / 2``, half the distance between the two largest probabilities.

    Pautov et al. (AAAI 2022, arXiv 2109.10696), as in their code. No change of the probabilities that is smaller than
    ``d`` everywhere changes the predicted class.

    Args:
        probabilities: Shape (..., classes), two classes or more.

    Returns:
        Shape (...), in the dtype of the probabilities, without unit; from 0 to 1/2.

    Example:
        >>> import torch
        >>> round(margin(torch.tensor([0.7, 0.1, 0.2], dtype=torch.float64)).item(), 6)
        0.25
    """
    top = probabilities.topk(2, dim=-1).values
    return (top[..., 0] - top[..., 1]) / 2


def discrepancy(probabilities: Tensor, transformed: Tensor) -> Tensor:
    """``Z = || p(x) - p(x_T) ||_inf``, the largest change of any probability.

    Args:
        probabilities: Of the image, shape (..., classes).
        transformed: Of the transformed image; the shapes broadcast.

    Returns:
        The broadcast shape without the classes; from 0 to 1.

    Example:
        >>> import torch
        >>> discrepancy(torch.tensor([0.75, 0.25]), torch.tensor([[0.75, 0.25], [0.5, 0.5]])).tolist()
        [0.0, 0.25]
    """
    return (probabilities - transformed).abs().amax(dim=-1)
