"""A sampler of MMEngine that goes through the images that a certification takes."""

from __future__ import annotations

from collections.abc import Iterator, Sized

from mmengine.dist import get_dist_info
from torch.utils.data import Sampler

from mmsharp.errors import MmsharpError
from mmsharp.registry import DATA_SAMPLERS
from mmsharp.robustness.certification import IMAGES, choose_images


@DATA_SAMPLERS.register_module()
class ChosenImages(Sampler[int]):
    """A random part of the test data, the very one of ``tools/test_robust.py --certify``.

        test_dataloader = dict(sampler=dict(type='mmsharp.ChosenImages', images=500))

    All metrics of the test are then of this part. Processes share it without repeating an image.

    Args:
        dataset: The test data, from MMEngine.
        images: How many to take, as ``--images``; ``None`` for all.
        choice_seed: What they are chosen by, as ``--seed``; :class:`mmsharp.robustness.CertificationSettings` has the
            seed of the draws.
        shuffle: As samplers of test data have it, which configs inherit.
        seed: Of the run, which MMEngine tells all samplers; it changes nothing.

    Raises:
        MmsharpError: No image is wanted, or the images are to be shuffled.

    Example:
        >>> len(ChosenImages(range(10_000))), list(ChosenImages('abc', images=5))
        (500, [0, 1, 2])
    """

    def __init__(
        self,
        dataset: Sized,
        images: int | None = IMAGES,
        choice_seed: int = 0,
        shuffle: bool = False,
        seed: int | None = None,
    ) -> None:
        if shuffle:
            raise MmsharpError('mmsharp.ChosenImages is for test data and does not shuffle; leave shuffle out')
        rank, processes = get_dist_info()
        self.indices = choose_images(len(dataset), images, choice_seed)[rank::processes]

    def __iter__(self) -> Iterator[int]:
        """The indices of this process."""
        return iter(self.indices)

    def __len__(self) -> int:
        """How many images this process gets."""
        return len(self.indices)
