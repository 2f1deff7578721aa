"""An unreadable image ends training with one line that names it."""

from pathlib import Path

import cv2
import numpy as np
import pytest
import torch
from mmcv.transforms import LoadImageFromFile
from mmengine.dataset import BaseDataset, Compose
from torch.utils.data import DataLoader

from mmsharp.datasets.transforms import UnreadableImageError
from mmsharp.engine.configs.pipelines import guard_loading
from mmsharp.engine.data_errors.image_errors import naming_unreadable_images
from mmsharp.errors import MmsharpError


class Images(BaseDataset):
    """The given files, through a loading transform."""

    def __init__(self, paths, ignore_empty=False):
        self.paths = [str(path) for path in paths]
        self.pipeline = Compose([LoadImageFromFile(ignore_empty=ignore_empty)])

    def __len__(self):
        return len(self.paths)

    def __getitem__(self, index):
        return torch.from_numpy(self.pipeline(dict(img_path=self.paths[index]))['img'])


@pytest.fixture
def picture(tmp_path):
    """A JPEG of noise."""
    path = tmp_path / 'picture.jpg'
    cv2.imwrite(str(path), np.random.default_rng(0).integers(0, 255, (64, 64, 3), dtype=np.uint8))
    return path


def damage(path, kind):
    content = path.read_bytes()
    if kind == 'missing':
        path.unlink()
    else:
        left = {'half': content[: len(content) // 2], 'tail': content[:-40], 'text': b'no image', 'empty': b''}
        path.write_bytes(left[kind])


@pytest.mark.parametrize('workers', [0, 1])
@pytest.mark.parametrize('kind', ['missing', 'half', 'tail', 'text'])
def test_every_damage_is_one_line_with_the_name(picture, workers, kind):
    """From the main process and from a worker, also where the decoder would go on with grey."""
    damage(picture, kind)
    dataset = Images([picture])
    guard_loading(dataset)
    with pytest.raises(MmsharpError) as caught, naming_unreadable_images('runs/here'):
        list(DataLoader(dataset, num_workers=workers))
    message = str(caught.value)
    assert '\n' not in message
    for word in (str(picture), 'replace it', 'runs/here'):
        assert word in message


@pytest.mark.parametrize('workers', [0, 1])
@pytest.mark.parametrize('kind', ['missing', 'text'])
def test_an_unguarded_pipeline_is_understood_too(picture, workers, kind):
    """What OpenCV or the file system say about a file is enough for its name."""
    damage(picture, kind)
    with pytest.raises(MmsharpError, match=r'picture\.jpg|cannot be read'), naming_unreadable_images('runs/here'):
        list(DataLoader(Images([picture]), num_workers=workers))


def test_a_whole_image_passes_the_guard(picture):
    """Unchanged; and guarding twice is as once."""
    plain, guarded = Images([picture]), Images([picture])
    guard_loading(guarded)
    guard_loading(guarded)
    assert torch.equal(plain[0], guarded[0])
    assert len(guarded.pipeline.transforms) == 1


@pytest.mark.parametrize('kind', ['missing', 'empty'])
def test_training_may_ask_for_another_image(picture, kind):
    """ignore_empty=True gives nothing for such an image, as without the guard; evaluation reads every image."""
    damage(picture, kind)
    dataset = Images([picture], ignore_empty=True)
    guard_loading(dataset, training=True)
    assert dataset.pipeline(dict(img_path=str(picture))) is None
    guard_loading(dataset)
    with pytest.raises(UnreadableImageError, match=str(picture)):
        dataset[0]


def test_other_errors_pass_unchanged():
    """A defect keeps its type and its traceback; a refusal of ours its words."""
    with pytest.raises(KeyError, match='img'), naming_unreadable_images('runs/here'):
        raise KeyError('img')
    with pytest.raises(RuntimeError, match='shape mismatch'), naming_unreadable_images('runs/here'):
        raise RuntimeError('shape mismatch')
    with pytest.raises(MmsharpError, match=r'^budget$'), naming_unreadable_images('runs/here'):
        raise MmsharpError('budget')
    with pytest.raises(MmsharpError, match='runs/here'), naming_unreadable_images('runs/here'):
        raise UnreadableImageError('cannot read image a.jpg: the file is empty')


@pytest.mark.parametrize(
    ('name', 'words'),
    [
        ('a.jpg', r"^image 'a\.jpg' does not exist; replace it"),
        ('a.XML', r"^annotations 'a\.XML' do not exist; restore them"),
        ('a.json', r"^annotations 'a\.json' do not exist; restore them"),
        ('a.npz', r"^file 'a\.npz' does not exist; restore it"),
    ],
)
def test_a_missing_file_is_called_what_it_is(name, words):
    """By its suffix."""
    with pytest.raises(MmsharpError, match=words), naming_unreadable_images('runs/here'):
        Path(name).read_bytes()
