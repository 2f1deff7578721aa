"""Whether a checkpoint belongs to a model: MMEngine only logs what does not fit, and evaluates noise."""

from __future__ import annotations

from collections.abc import Mapping

from torch import Tensor, nn

from mmsharp.errors import MmsharpError


def check_fit(model: nn.Module, state_dict: Mapping[str, Tensor], source: str) -> None:
    """Refuse a state dict that lacks parameters of the model, brings others, or has them in other shapes.

    Counters such as ``num_batches_tracked`` and the buffers of a data preprocessor may be missing, as in old files.

    Args:
        model: The model that the config describes.
        state_dict: What the checkpoint holds.
        source: The path of the checkpoint, for the message.

    Raises:
        MmsharpError: Naming the first key, the expected and the found shape, and what to do.

    Example:
        >>> check_fit(nn.Linear(2, 3), nn.Linear(2, 4).state_dict(), 'other.pth')
        Traceback (most recent call last):
        mmsharp.errors.MmsharpError: checkpoint 'other.pth' does not fit Linear: 'weight' is [4, 2], expected [3, 2] ...
    """
    found = {key.removeprefix('module.'): value for key, value in state_dict.items()}
    expected = model.state_dict()
    wrong = [
        f'{key!r} is {list(found[key].shape)}, expected {list(value.shape)}'
        for key, value in expected.items()
        if key in found and found[key].shape != value.shape
    ]
    needed = [name for name, _ in model.named_parameters()]
    missing = [f'{key!r} is missing, expected {list(expected[key].shape)}' for key in needed if key not in found]
    known = set(expected)
    extra = [f'{key!r} is not in the model' for key in found if key not in known and found[key].numel() > 1]
    faults = wrong + missing + (extra if len(extra) > len(found) // 2 else [])
    if faults:
        raise MmsharpError(
            f'checkpoint {source!r} does not fit {type(model).__name__}: {faults[0]} ({len(faults)} such keys); give '
            'the config that it was trained with, and for a slim checkpoint the config written beside it'
        )


def check_some_fit(model: nn.Module, state_dict: Mapping[str, Tensor], source: str) -> None:
    """Refuse a state dict of which no parameter fits: training would start from noise, with no more than a warning.

    Fine-tuning may exchange a head or bring a backbone alone, so that one fitting parameter is enough.

    Args:
        model: The model that the config describes.
        state_dict: What the checkpoint holds.
        source: The path of the checkpoint, for the message.

    Raises:
        MmsharpError: As :func:`check_fit`.

    Example:
        >>> check_some_fit(nn.Linear(2, 3), nn.Linear(2, 4, bias=False).state_dict(), 'other.pth')
        Traceback (most recent call last):
        mmsharp.errors.MmsharpError: checkpoint 'other.pth' does not fit Linear: 'weight' is [4, 2], expected [3, 2] ...
    """
    found = {key.removeprefix('module.'): value for key, value in state_dict.items()}
    if not any(key in found and found[key].shape == value.shape for key, value in model.named_parameters()):
        check_fit(model, state_dict, source)
