"""Is the end of an image file missing? Many decoders do not say and give a half-grey picture."""

from typing import Literal

OnBadImage = Literal['stop', 'skip']
ON_BAD_IMAGE: tuple[OnBadImage, ...] = ('stop', 'skip')
"""What an evaluation does about an image that cannot be read."""


def describe_truncation(content: bytes) -> str | None:
    r"""Say what is missing at the end of an image file, or ``None`` where it ends as it should.

    JPEG: an end-of-image marker (FF D9) must follow the last start-of-scan marker (FF DA). Entropy-coded data holds
    neither, so a file that was cut in its picture has no FF D9 behind FF DA. PNG: the IEND chunk must be there. WebP:
    the length in the header must be there. Other formats are left to their decoder.

    Example:
        >>> describe_truncation(b'\xff\xd8\xff\xda...')
        'the JPEG file is truncated (no end-of-image marker after the last scan)'
        >>> describe_truncation(b'\xff\xd8\xff\xda...\xff\xd9') is None
        True
    """
    if not content:
        return 'the file is empty'
    if content.startswith(b'\xff\xd8') and content.rfind(b'\xff\xd9') <= content.rfind(b'\xff\xda'):
        return 'the JPEG file is truncated (no end-of-image marker after the last scan)'
    if content.startswith(b'\x89PNG') and b'IEND' not in content[-1024:]:
        return 'the PNG file is truncated (no IEND chunk at its end)'
    if content.startswith(b'RIFF') and content[8:12] == b'WEBP':
        promised = int.from_bytes(content[4:8], 'little') + 8
        if len(content) < promised:
            return f'the WebP file is truncated ({len(content)} of {promised} bytes)'
    return None
