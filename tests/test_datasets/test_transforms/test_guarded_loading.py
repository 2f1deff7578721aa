"""Damaged image files stop the pipeline with their path; sound ones load as without the guard."""

import cv2
import numpy as np
import pytest
from mmcv.transforms import LoadImageFromFile
from mmengine import fileio
from mmengine.fileio import LocalBackend, register_backend

from mmsharp.datasets.transforms import GuardedLoading, UnreadableImageError


@register_backend('elsewhere', force=True)
class Elsewhere(LocalBackend):
    """Storage of which the guard knows nothing."""


@pytest.fixture
def picture(tmp_path):
    """A JPEG file."""
    path = tmp_path / 'picture.jpg'
    cv2.imwrite(str(path), np.random.RandomState(0).randint(0, 256, (64, 64, 3), dtype=np.uint8))
    return path


def test_sound_files_load_as_without_the_guard(picture):
    """The guarded transform's own result is passed on."""
    expected = LoadImageFromFile()({'img_path': str(picture)})
    result = GuardedLoading(LoadImageFromFile())({'img_path': str(picture)})
    assert result.keys() == expected.keys()
    assert np.array_equal(result['img'], expected['img'])


def test_half_a_picture_is_refused_even_where_the_decoder_accepts_it(picture):
    """Whether the decoder complains or makes a grey lower half of it, the file is refused as truncated."""

    def lenient(results):
        return results | {'img': np.zeros((64, 64, 3), np.uint8)}

    picture.write_bytes(picture.read_bytes()[:2000])
    for loading in (lenient, LoadImageFromFile()):
        with pytest.raises(UnreadableImageError, match=rf'{picture}: the JPEG file is truncated'):
            GuardedLoading(loading)({'img_path': str(picture)})


@pytest.mark.parametrize('content', [b'', b'this is no picture', None], ids=['empty', 'text', 'missing'])
@pytest.mark.parametrize('ignore_empty', [False, True])
def test_unreadable_files_are_refused_with_their_path(picture, content, ignore_empty):
    """Empty, foreign and missing files give the one error, whatever the loading transform does with them."""
    picture.unlink()
    if content is not None:
        picture.write_bytes(content)
    with pytest.raises(UnreadableImageError, match=str(picture)):
        GuardedLoading(LoadImageFromFile(ignore_empty=ignore_empty))({'img_path': str(picture)})


@pytest.fixture
def reads(monkeypatch):
    """The paths whose whole content was read."""
    paths = []
    get = fileio.get

    def counted(path, *arguments, **keywords):
        paths.append(path)
        return get(path, *arguments, **keywords)

    monkeypatch.setattr(fileio, 'get', counted)
    return paths


def test_a_sound_local_file_is_read_once_each_time(picture, reads):
    """By the guarded transform alone: the guard looks at its ends."""
    guarded = GuardedLoading(LoadImageFromFile())
    for _ in range(3):
        guarded({'img_path': str(picture)})
    assert reads == [str(picture)] * 3


@pytest.mark.parametrize('storage', ['local', 'elsewhere'])
def test_a_file_whose_ends_do_not_tell_is_read_once_more_in_all(picture, reads, storage):
    """A Motion Photo, whose film hides where the picture ends, and what does not lie on this machine."""
    loading = LoadImageFromFile()
    if storage == 'local':
        picture.write_bytes(picture.read_bytes() + b'film')
    else:
        loading = LoadImageFromFile(backend_args=dict(backend='elsewhere'))
    guarded = GuardedLoading(loading)
    for _ in range(3):
        guarded({'img_path': str(picture)})
    assert reads == [str(picture)] * 4
    picture.write_bytes(picture.read_bytes()[:2000])
    with pytest.raises(UnreadableImageError, match='truncated'):
        GuardedLoading(loading)({'img_path': str(picture)})


def test_a_cut_behind_the_thumbnail_is_refused_by_the_decoder(picture):
    """Its last bytes are an end-of-image marker, and it holds no picture."""
    whole = picture.read_bytes()
    segment = b'\xff\xe1' + (len(whole) + 2).to_bytes(2, 'big') + whole
    picture.write_bytes(whole[:2] + segment)
    with pytest.raises(UnreadableImageError, match=str(picture)):
        GuardedLoading(LoadImageFromFile())({'img_path': str(picture)})
