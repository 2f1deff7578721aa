"""Is the end of an image file missing? Many decoders do not say and give a half-grey picture."""

import re
from typing import Literal

SCAN_MARKER = re.compile(rb'\xff[\x01-\xcf\xd8-\xfe]')
"""What ends entropy-coded data: neither FF 00, which stands for a byte FF, nor a restart marker (FF D0 to FF D7)."""
END_OF_IMAGE = 0xD9
START_OF_SCAN = 0xDA
ALONE = (0x01, *range(0xD0, 0xD9))
"""Markers without a segment: TEM, restarts, start of image."""

OnBadImage = Literal['stop', 'skip']
ON_BAD_IMAGE: tuple[OnBadImage, ...] = ('stop', 'skip')
"""What an evaluation does about an image that cannot be read."""


def describe_truncation(content: bytes) -> str | None:
    r"""Say what is missing at the end of an image file, or ``None`` where it ends as it should.

    JPEG: the segments and scans of the picture must lead to an end-of-image marker (FF D9); what stands behind it, such
    as the film of a Motion Photo, is not looked at. PNG: the IEND chunk must be there. WebP:
    the length in the header must be there. Other formats are left to their decoder.

    Example:
        >>> describe_truncation(b'\xff\xd8\xff\xda\0\2...')
        'the JPEG file is truncated (no end-of-image marker after the last scan)'
        >>> describe_truncation(b'\xff\xd8\xff\xda\0\2...\xff\xd9') is None
        True
    """
    if not content:
        return 'the file is empty'
    if content.startswith(b'\xff\xd8') and not _jpeg_ends(content):
        return 'the JPEG file is truncated (no end-of-image marker after the last scan)'
    if content.startswith(b'\x89PNG') and b'IEND' not in content[-1024:]:
        return 'the PNG file is truncated (no IEND chunk at its end)'
    if content.startswith(b'RIFF') and content[8:12] == b'WEBP':
        promised = int.from_bytes(content[4:8], 'little') + 8
        if len(content) < promised:
            return f'the WebP file is truncated ({len(content)} of {promised} bytes)'
    return None


def ends_whole(head: bytes, tail: bytes, size: int) -> bool:
    r"""Whether the ends of an image file show that nothing is missing; ``False`` is for the whole file to decide.

    Reading them costs next to nothing, and nearly every file is told by them. A JPEG that ends in an end-of-image
    marker is whole, for no cut in its scans leaves one; cut behind the thumbnail in its header it holds no picture,
    which every decoder notices.

    Args:
        head: The first bytes, twelve or more.
        tail: The last bytes, 1024 where there are so many.
        size: Of the file, in bytes.

    Example:
        >>> ends_whole(b'\xff\xd8\xff\xda', b'\xff\xd9', 1000), ends_whole(b'\xff\xd8\xff\xda', b'..', 1000)
        (True, False)
    """
    if head.startswith(b'\xff\xd8'):
        return tail.endswith(b'\xff\xd9')
    if head.startswith(b'\x89PNG'):
        return b'IEND' in tail
    if head.startswith(b'RIFF') and head[8:12] == b'WEBP':
        return size >= int.from_bytes(head[4:8], 'little') + 8
    return size > 0


def _jpeg_ends(content: bytes) -> bool:
    """Whether the segments and scans of a JPEG file lead to its end-of-image marker."""
    place = 2
    while True:
        place = content.find(b'\xff', place)
        if place < 0:
            return False
        while content[place + 1 : place + 2] == b'\xff':  # any number of FF may stand before a marker
            place += 1
        if place + 1 >= len(content):
            return False
        marker = content[place + 1]
        place += 2
        if marker == END_OF_IMAGE:
            return True
        if marker == 0 or marker in ALONE:
            continue
        place += int.from_bytes(content[place : place + 2], 'big')
        if marker == START_OF_SCAN:
            found = SCAN_MARKER.search(content, place)
            if found is None:
                return False
            place = found.start()
