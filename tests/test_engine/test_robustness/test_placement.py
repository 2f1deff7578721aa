"""The corruption goes where it belongs, found by what the transforms are."""

from types import SimpleNamespace

import numpy as np
import pytest
from mmcv.transforms import CenterCrop, Compose, LoadImageFromFile, RandomChoice, Resize
from mmcv.transforms.base import BaseTransform
from mmengine.registry import init_default_scope
from mmpretrain.registry import TRANSFORMS as PRETRAIN_TRANSFORMS

from mmsharp.datasets.transforms import CorruptCurrentCell, CurrentCell, GuardedLoading
from mmsharp.engine.configs.pipelines import base_datasets
from mmsharp.engine.robustness.placement import place_corruption
from mmsharp.engine.robustness.sources import Computed, Placement
from mmsharp.errors import MmsharpError
from mmsharp.robustness import OnTheFly

COMPUTED = Computed(OnTheFly())


class Pass(BaseTransform):
    """Does nothing."""

    def transform(self, results):
        return results


class PackDetInputs(Pass):
    """Named as MMDetection's."""


class PackInputs(Pass):
    """Named as MMPretrain's."""


class LoadImageFromArchive(Pass):
    """A user's own loading transform, no relative of MMCV's."""


class LoadMyImage(LoadImageFromFile):
    """A user's subclass."""


class Views(Pass):
    """Holds each branch once and runs it several times, as MMPretrain's MultiView."""

    def __init__(self, *branches):
        self.pipelines = [Compose(branch) for branch in branches]
        self.transforms = self.pipelines * 2


class Augmented(Pass):
    """Keeps its branches as MMCV's TestTimeAug does."""

    def __init__(self, *branches):
        self.subroutines = [Compose(branch) for branch in branches]


def _compose(*steps):
    pipeline = Compose([])
    pipeline.transforms = list(steps)
    return pipeline


def _dataset(*steps):
    return SimpleNamespace(pipeline=_compose(*steps), data_root='/data/')


def _names(steps):
    return [type(step).__name__ for step in steps]


@pytest.mark.parametrize('loading', [LoadImageFromFile, LoadMyImage, LoadImageFromArchive])
def test_detectors_right_after_the_loading_transform(loading):
    """Wherever it stands, whatever kind it is; it gets its guard, and the image is BGR."""
    dataset = _dataset(Pass(), loading(), Resize(scale=(8, 8)), PackDetInputs())
    placement = place_corruption(dataset, CurrentCell(), COMPUTED)
    steps = dataset.pipeline.transforms
    assert _names(steps) == ['Pass', 'GuardedLoading', 'CorruptCurrentCell', 'Resize', 'PackDetInputs']
    assert type(steps[1].loading) is loading
    assert placement == Placement('after_loading', 'bgr')
    assert steps[2].data_root == '/data/'


def test_classifiers_after_the_last_resize_or_crop():
    """ImageNet-C was made from 224x224 crops."""
    dataset = _dataset(LoadImageFromFile(), Resize(scale=(8, 8)), CenterCrop(4), PackInputs())
    assert place_corruption(dataset, CurrentCell(), COMPUTED) == Placement('after_crop', 'bgr')
    names = ['GuardedLoading', 'Resize', 'CenterCrop', 'CorruptCurrentCell', 'PackInputs']
    assert _names(dataset.pipeline.transforms) == names


def test_classifiers_without_resize_right_after_loading_or_first():
    """A file pipeline without crop gets it after loading; a dataset of arrays gets it first, and its images are RGB."""
    files = _dataset(LoadImageFromFile(), PackInputs())
    place_corruption(files, CurrentCell(), COMPUTED)
    assert _names(files.pipeline.transforms) == ['GuardedLoading', 'CorruptCurrentCell', 'PackInputs']
    arrays = _dataset(PackInputs())
    assert place_corruption(arrays, CurrentCell(), COMPUTED) == Placement('after_crop', 'rgb')
    assert _names(arrays.pipeline.transforms) == ['CorruptCurrentCell', 'PackInputs']


class Arrays(SimpleNamespace):
    """Holds one picture, as mmpretrain's CIFAR10 holds its own."""

    def __len__(self):
        return 1

    def get_data_info(self, index):
        return {'img': np.zeros((self.side, self.side, 3), dtype=np.uint8), 'sample_idx': index}


@pytest.mark.parametrize(
    ('side', 'position', 'place'),
    [
        (32, 'auto', 'after_loading'),
        (32, 'after_loading', 'after_loading'),
        (32, 'after_crop', 'after_crop'),
        (256, 'auto', 'after_crop'),
        (256, 'after_loading', 'after_loading'),
    ],
)
def test_small_arrays_are_corrupted_before_they_are_enlarged(side, position, place):
    """As CIFAR-10-C was made; of larger ones, and against the rule, where the user says."""
    dataset = Arrays(side=side, pipeline=_compose(Resize(scale=(224, 224)), PackInputs()))
    assert place_corruption(dataset, CurrentCell(), COMPUTED, position=position) == Placement(place, 'rgb')
    assert _names(dataset.pipeline.transforms).index('CorruptCurrentCell') == (place == 'after_crop')


@pytest.mark.parametrize(('to_bgr', 'order'), [(True, 'bgr'), (False, 'rgb')])
def test_resize_and_crop_of_torchvision_are_resize_and_crop(to_bgr, order):
    """Behind the transform that makes arrays of PIL pictures, in the order of channels that it leaves."""
    init_default_scope('mmpretrain')
    steps = [
        {'type': 'LoadImageFromFile'},
        {'type': 'NumpyToPIL', 'to_rgb': True},
        {'type': 'torchvision/Resize', 'size': 36},
        {'type': 'torchvision/CenterCrop', 'size': 32},
        {'type': 'PILToNumpy', 'to_bgr': to_bgr},
        {'type': 'PackInputs'},
    ]
    dataset = _dataset(*(PRETRAIN_TRANSFORMS.build(step) for step in steps))
    assert place_corruption(dataset, CurrentCell(), COMPUTED) == Placement('after_crop', order)
    names = _names(dataset.pipeline.transforms)
    assert names[-3:] == ['PILToNumpy', 'CorruptCurrentCell', 'PackInputs']
    del steps[4]
    with pytest.raises(MmsharpError, match=r'leave a PIL picture.*put a PILToNumpy behind them'):
        place_corruption(_dataset(*map(PRETRAIN_TRANSFORMS.build, steps)), CurrentCell(), COMPUTED)


def test_the_user_can_say_otherwise():
    """Position and order of channels are arguments."""
    dataset = _dataset(LoadImageFromFile(), CenterCrop(4), PackInputs())
    placement = place_corruption(dataset, CurrentCell(), COMPUTED, image_order='rgb', position='after_loading')
    assert placement == Placement('after_loading', 'rgb')
    assert _names(dataset.pipeline.transforms)[1] == 'CorruptCurrentCell'
    with pytest.raises(MmsharpError, match="position 'first'"):
        place_corruption(dataset, CurrentCell(), COMPUTED, position='first')


def test_wrapped_datasets_are_all_reached_once():
    """Concatenated and repeated datasets share the current cell."""
    first, second = (_dataset(LoadImageFromFile(), PackDetInputs()) for _ in range(2))
    wrapped = SimpleNamespace(datasets=[first, SimpleNamespace(dataset=second)])
    assert list(base_datasets(wrapped)) == [first, second]
    current = CurrentCell()
    place_corruption(wrapped, current, COMPUTED)
    for dataset in (first, second):
        corrupts = [step for step in dataset.pipeline.transforms if isinstance(step, CorruptCurrentCell)]
        assert [step.current for step in corrupts] == [current]


def test_test_time_augmentation_shares_one_corrupted_image():
    """What is loaded before the branches is corrupted before them, once."""
    branches = Augmented([Resize(scale=(8, 8)), PackDetInputs()], [Resize(scale=(4, 4)), PackDetInputs()])
    dataset = _dataset(LoadImageFromFile(), branches)
    place_corruption(dataset, CurrentCell(), COMPUTED)
    assert _names(dataset.pipeline.transforms) == ['GuardedLoading', 'CorruptCurrentCell', 'Augmented']
    assert all('CorruptCurrentCell' not in _names(branch.transforms) for branch in branches.subroutines)


class Branches(Pass):
    """Keeps its branches by name, as MMDetection's MultiBranch."""

    def __init__(self, *branches):
        self.branch_pipelines = {str(number): Compose(branch) for number, branch in enumerate(branches)}

    @property
    def pipelines(self):
        return list(self.branch_pipelines.values())


@pytest.mark.parametrize(
    'wrapper', [Views, Branches, Augmented, lambda *branches: RandomChoice(transforms=list(branches))]
)
def test_every_branch_that_loads_is_corrupted_once(wrapper):
    """Branches with loading transforms of their own get it each, though a wrapper may hold a branch twice."""
    branches = wrapper([LoadImageFromFile(), Pass()], [Pass(), LoadImageFromFile()])
    dataset = _dataset(branches, PackDetInputs())
    place_corruption(dataset, CurrentCell(), COMPUTED)
    inner = getattr(branches, 'pipelines', None) or getattr(branches, 'subroutines', None) or branches.transforms
    assert _names(inner[0].transforms) == ['GuardedLoading', 'CorruptCurrentCell', 'Pass']
    assert _names(inner[1].transforms) == ['Pass', 'GuardedLoading', 'CorruptCurrentCell']


def test_a_detector_without_loading_transform_is_refused():
    """The message lists the pipeline and says what is missing."""
    with pytest.raises(MmsharpError, match=r'no loading transform.*\(Pass, PackDetInputs\).*LoadImageFromFile'):
        place_corruption(_dataset(Pass(), PackDetInputs()), CurrentCell(), COMPUTED)
    with pytest.raises(MmsharpError, match='SimpleNamespace has no pipeline'):
        place_corruption(SimpleNamespace(), CurrentCell(), COMPUTED)


def test_guarded_loading_is_not_guarded_twice():
    """Placing again, as for another evaluation of the same dataset, wraps nothing anew."""
    dataset = _dataset(LoadImageFromFile(), PackDetInputs())
    place_corruption(dataset, CurrentCell(), COMPUTED)
    place_corruption(dataset, CurrentCell(), COMPUTED)
    loading = dataset.pipeline.transforms[0]
    assert isinstance(loading, GuardedLoading)
    assert isinstance(loading.loading, LoadImageFromFile)
    assert np.sum([isinstance(step, GuardedLoading) for step in dataset.pipeline.transforms]) == 1
