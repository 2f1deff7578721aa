"""A file whose end is missing is told from a whole one."""

import io

import numpy as np
import pytest
from PIL import Image

from mmsharp.robustness import describe_truncation, ends_whole


def _encode(format_name, **options):
    pixels = np.random.RandomState(0).randint(0, 256, (64, 64, 3), dtype=np.uint8)
    buffer = io.BytesIO()
    Image.fromarray(pixels).save(buffer, format_name, **options)
    return buffer.getvalue()


@pytest.mark.parametrize(
    ('format_name', 'options'),
    [('JPEG', {}), ('JPEG', {'progressive': True}), ('PNG', {}), ('WEBP', {})],
    ids=['jpeg', 'progressive jpeg', 'png', 'webp'],
)
def test_every_cut_is_noticed_and_whole_files_pass(format_name, options):
    """Cut anywhere in its second half a file is refused; whole, or with bytes appended, it is not."""
    whole = _encode(format_name, **options)
    assert describe_truncation(whole) is None
    assert describe_truncation(whole + b'\0' * 8) is None
    for end in range(len(whole) // 2, len(whole) - 8, 101):
        assert describe_truncation(whole[:end]) is not None, end


@pytest.mark.parametrize('options', [{}, {'progressive': True}, {'restart_marker_blocks': 3}])
def test_other_data_behind_a_jpeg_hides_no_end_and_makes_none(options):
    """Motion Photos have a film there, whose bytes look like any marker; cut in its picture such a file is refused."""
    whole = _encode('JPEG', **options)
    for seed in range(20):
        film = np.random.RandomState(seed).bytes(300_000) + b'\xff\xda'
        assert describe_truncation(whole + b'MotionPhoto_Data' + film) is None
    filled = whole.replace(b'\xff\xdb', b'\xff\xff\xff\xdb', 1)
    assert describe_truncation(filled) is None
    assert describe_truncation(filled[: len(filled) // 2]) is not None


def test_thumbnail_in_a_jpeg_header_does_not_hide_the_cut():
    """An end marker before the last scan is not the picture's."""
    whole = _encode('JPEG')
    thumbnail = b'\xff\xd8\xff\xda..\xff\xd9'
    segment = b'\xff\xe1' + (len(thumbnail) + 2).to_bytes(2, 'big') + thumbnail
    cut = (whole[:2] + segment + whole[2:])[: len(whole) // 2 + len(segment)]
    assert describe_truncation(cut) is not None


def test_empty_file_is_named():
    """An empty file has its own message; unknown formats are left to their decoder."""
    assert describe_truncation(b'') == 'the file is empty'
    assert describe_truncation(b'BM......') is None


@pytest.mark.parametrize(
    ('format_name', 'options'),
    [('JPEG', {}), ('JPEG', {'progressive': True}), ('PNG', {}), ('WEBP', {}), ('BMP', {})],
    ids=['jpeg', 'progressive jpeg', 'png', 'webp', 'bmp'],
)
def test_the_ends_tell_whole_files_and_never_take_a_cut_one_for_whole(format_name, options):
    """What they vouch for is what the whole file says, at every cut."""
    whole = _encode(format_name, **options)
    assert ends_whole(whole[:12], whole[-1024:], len(whole))
    for end in range(0, len(whole), 7):
        cut = whole[:end]
        if ends_whole(cut[:12], cut[-1024:], end):
            assert describe_truncation(cut) is None, end


def test_data_behind_a_jpeg_leaves_the_decision_to_the_whole_file():
    """The ends alone do not know where the picture ended."""
    whole = _encode('JPEG') + b'film'
    assert not ends_whole(whole[:12], whole[-1024:], len(whole))
    assert describe_truncation(whole) is None
