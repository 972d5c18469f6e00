"""The true length of mp3 files. Their format does not tell it: encoders write a first frame that
does (Xing's), but recorders, radio stations and joined or cut files lack it or contradict it. Then
libsndfile estimates the length from the first frame's bit rate, and reads no further."""

from __future__ import annotations

import io
import os
from functools import lru_cache
from mmap import ACCESS_READ, mmap
from pathlib import Path
from typing import BinaryIO, NamedTuple

RATES = {3: (44_100, 48_000, 32_000), 2: (22_050, 24_000, 16_000), 0: (11_025, 12_000, 8_000)}
"""Samples per second, by the header's version: MPEG-1, 2 and 2.5 (ISO/IEC 11172-3, 2.4.2.3)."""
KBITS = (0, 32, 40, 48, 56, 64, 80, 96, 112, 128, 160, 192, 224, 256, 320)
LOW_KBITS = (0, 8, 16, 24, 32, 40, 48, 56, 64, 80, 96, 112, 128, 144, 160)
"""Bit rates of layer III, of MPEG-1 and of the others; 0: a format of its own, without lengths."""
TAG = 512
"""Bytes by which a file may be longer than its first frame says: a tag at the end."""
LARGEST = 1441
"""Bytes of the largest frame."""


Data = bytes | mmap


class Frame(NamedTuple):
    """The header of a frame of layer III.

    Args:
        size: bytes of the frame, header included; 0: not told.
        samples: of each channel.
        kind: version, layer and sampling rate, which all frames of a stream share.
        table: where a first frame has Xing's mark, in bytes after the frame's beginning.
    """

    size: int
    samples: int
    kind: tuple[int, int]
    table: int


def frame_at(data: Data, at: int) -> Frame | None:
    """Reads the header of a frame of layer III; None: there is none at this byte."""
    if at + 4 > len(data) or data[at] != 0xFF or data[at + 1] & 0xE6 != 0xE2:
        return None
    version, bits, rate = data[at + 1] >> 3 & 3, data[at + 2] >> 4, data[at + 2] >> 2 & 3
    if version == 1 or bits == 15 or rate == 3:
        return None
    first = version == 3
    kbits, padding = (KBITS if first else LOW_KBITS)[bits], data[at + 2] >> 1 & 1
    size = kbits * 1000 * (144 if first else 72) // RATES[version][rate] + padding if kbits else 0
    mono = data[at + 3] >> 6 == 3
    return Frame(
        size, 1152 if first else 576, (version, rate), 4 + ((17 if mono else 32) if first else 9 if mono else 17)
    )


def counted(path: str | Path, frames: int, spare: int) -> io.RawIOBase | None:
    """Returns the file as one whose first frame tells its true length, where the decoder takes it
    for longer or shorter by more than `spare` samples; else None.

    Args:
        path: of an mp3 file.
        frames: samples of each channel, as the decoder takes them.
        spare: samples.

    Raises:
        OSError: the file cannot be read.
    """
    state = os.stat(path)
    header = _true_header(os.path.abspath(path), state.st_size, state.st_mtime_ns)
    if header is None or abs(header[1] - frames) <= spare:
        return None
    return _Prefixed(header[0], open(path, "rb"), header[2])  # closed with the object


@lru_cache(maxsize=1 << 16)
def _true_header(path: str, size: int, _changed: int) -> tuple[bytes, int, int] | None:
    """Returns a first frame that tells the length of a file, this length, in samples, and the byte
    at which the sound begins; None: the file's first frame is right, or not of layer III."""
    if size == 0:
        return None
    with open(path, "rb") as file, mmap(file.fileno(), 0, access=ACCESS_READ) as data:
        start = _first(data)
        first = None if start is None else frame_at(data, start)
        if start is None or first is None or _tells(data, start, first, size):
            return None
        count = _count(data, start, first)
        return _header(data[start : start + 4], first, count, size - start), count * first.samples, start


def _count(data: Data, start: int, first: Frame) -> int:
    count, at = 0, start
    while at < len(data):
        frame = frame_at(data, at)
        if frame is not None and frame.kind == first.kind and frame.size:
            count += at + frame.size <= len(data)
            at += frame.size
        else:
            at = data.find(b"\xff", at + 1)
            if at < 0:
                break
    return count


def _first(data: Data) -> int | None:
    """The byte at which the first frame begins: one that another of its kind follows."""
    at = 0
    while data[at : at + 3] == b"ID3" and len(data) >= at + 10:
        seven = data[at + 6 : at + 10]
        at += 10 + (seven[0] << 21 | seven[1] << 14 | seven[2] << 7 | seven[3]) + 10 * (data[at + 5] >> 4 & 1)
    while at >= 0:
        frame = frame_at(data, at)
        if frame is not None and frame.size:
            after = frame_at(data, at + frame.size)
            if after is not None and after.kind == frame.kind:
                return at
        at = data.find(b"\xff", at + 1)
    return None


def _tells(data: Data, start: int, first: Frame, size: int) -> bool:
    """Whether the first frame tells how many there are, and how many bytes, and the file has as
    many."""
    at = start + first.table
    if data[at : at + 4] not in (b"Xing", b"Info") or data[at + 7] & 3 != 3:
        return False
    told = int.from_bytes(data[at + 12 : at + 16])
    return -LARGEST <= size - start - told <= max(TAG, told // 1000)


def _header(header: bytes, first: Frame, count: int, size: int) -> bytes:
    """A frame with Xing's table: the number of frames and of bytes, itself not counted."""
    head = bytes([header[0], header[1] | 1, 0x90 | header[2] & 0x0C, header[3]])
    frame = frame_at(head, 0)
    assert frame is not None
    table = b"Xing" + (3).to_bytes(4) + count.to_bytes(4) + (size + frame.size).to_bytes(4)
    return (head + bytes(first.table - 4) + table).ljust(frame.size, b"\0")


class _Prefixed(io.RawIOBase):
    """Some bytes, and behind them a file from its byte `start` on."""

    def __init__(self, head: bytes, file: BinaryIO, start: int) -> None:
        self.head, self.file, self.start, self.at = head, file, start, 0
        self.size = len(head) + file.seek(0, io.SEEK_END) - start

    def readable(self) -> bool:
        return True

    def seekable(self) -> bool:
        return True

    def tell(self) -> int:
        return self.at

    def seek(self, offset: int, whence: int = io.SEEK_SET) -> int:
        self.at = offset + {io.SEEK_SET: 0, io.SEEK_CUR: self.at, io.SEEK_END: self.size}[whence]
        return self.at

    def readinto(self, buffer: bytearray) -> int:  # type: ignore[override]  # any writable buffer
        part = self.head[self.at : self.at + len(buffer)]
        if not part:
            self.file.seek(self.start + self.at - len(self.head))
            part = self.file.read(len(buffer))
        buffer[: len(part)] = part
        self.at += len(part)
        return len(part)

    def close(self) -> None:
        self.file.close()
        super().close()
