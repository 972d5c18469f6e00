"""PNG files without their metadata: the pixels alone are read, whatever lies beside them."""

from __future__ import annotations

import zlib

SIGNATURE = b"\x89PNG\r\n\x1a\n"
KEPT = frozenset((b"tRNS", b"eXIf", b"acTL", b"fcTL", b"fdAT"))
"""Chunks that a decoder may pass over and that tell what a picture looks like: transparency,
orientation, the frames of an animation. Those that it may not begin with a capital letter."""
TEXTS = frozenset((b"tEXt", b"zTXt"))
EXIF = b"Raw profile type exif\0"
"""The keyword of a text in which ImageMagick puts EXIF's data."""
LONGEST = 1 << 20
"""Bytes of such a text, uncompressed: Pillow reads no longer ones."""


def pixels_of(data: bytes) -> bytes:
    """Returns a PNG without texts, colour profiles and other metadata, for whose size or damage
    decoders refuse the whole picture; other data as they are. Nothing is held in memory but the
    file."""
    if not data.startswith(SIGNATURE):
        return data
    view, kept = memoryview(data), [SIGNATURE]
    start = begins = len(SIGNATURE)  # of the chunk, and of the chunks to keep that come before it
    while start + 8 <= len(data):
        end = start + 12 + int.from_bytes(view[start : start + 4], "big")
        kind = data[start + 4 : start + 8]
        if kind[:1].islower() and kind not in KEPT and not _is_exif(kind, view[start + 8 : end - 4]):
            kept.append(data[begins:start])
            begins = end
        start = end
    return b"".join([*kept, data[begins:]]) if len(kept) > 1 else data


def _is_exif(kind: bytes, content: memoryview) -> bool:
    """Whether a chunk is a text of EXIF's data that a decoder reads."""
    if kind not in TEXTS or content[: len(EXIF)] != EXIF:
        return False
    if kind == b"tEXt":
        return len(content) < LONGEST
    inflate = zlib.decompressobj()
    try:
        return len(inflate.decompress(content[len(EXIF) + 1 :], LONGEST)) < LONGEST
    except zlib.error:
        return False
