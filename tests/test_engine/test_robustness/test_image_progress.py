"""A bar on a terminal, lines elsewhere, nothing in other processes."""

import io

import pytest

from mmsharp.engine.robustness import image_progress
from mmsharp.engine.robustness.image_progress import ImageProgress


class Terminal(io.StringIO):
    """Text that calls itself a terminal."""

    def isatty(self):
        return True


@pytest.fixture
def clock(monkeypatch):
    """Seconds that a test lets pass."""
    now = [0.0]
    monkeypatch.setattr(image_progress.time, 'monotonic', lambda: now[0])
    return now


def run(stream, clock, total, images=5, **options):
    """So many images of ten seconds each."""
    with ImageProgress('blur:1', total, stream, **options) as progress:
        for _ in range(images):
            clock[0] += 10
            progress.update()
    return stream.getvalue()


def test_lines_where_there_is_no_terminal(clock):
    """After the first image, then every half minute; not after the last, which has a line of its own."""
    assert run(io.StringIO(), clock, total=5) == (
        'blur:1  1/5 images, 0:00:40 left\nblur:1  4/5 images, 0:00:10 left\n'
    )


def test_the_number_of_images_may_be_unknown(clock):
    """As to a metric; the time of one takes the place of what is left."""
    assert run(io.StringIO(), clock, total=None) == 'blur:1  1 images, 10.0 s each\nblur:1  4 images, 10.0 s each\n'


def test_a_bar_on_a_terminal():
    """With its title and both numbers, in one line that is taken away in the end."""
    stream = Terminal()
    with ImageProgress('blur:1', 3, stream) as progress:
        progress._bar.mininterval = 0
        for _ in range(3):
            progress.update()
    text = stream.getvalue()
    assert 'blur:1' in text
    assert '3/3' in text
    assert '\n' not in text


@pytest.mark.parametrize('kind', [io.StringIO, Terminal])
def test_silent_in_other_processes(kind, clock):
    """Only the first process shows progress."""
    assert run(kind(), clock, total=5, enabled=False) == ''
