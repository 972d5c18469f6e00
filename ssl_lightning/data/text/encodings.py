"""The encoding of a text file: told by its first bytes, by the user, or refused."""

from __future__ import annotations

import codecs
from typing import IO

from ...plugins.messages import did_you_mean

HEAD = 1 << 16
"""Bytes from which an encoding is told."""
MARKS = (
    (codecs.BOM_UTF8, "utf-8-sig"),
    (codecs.BOM_UTF32_LE, "utf-32"),  # before UTF-16's, with which it begins
    (codecs.BOM_UTF32_BE, "utf-32"),
    (codecs.BOM_UTF16_LE, "utf-16"),
    (codecs.BOM_UTF16_BE, "utf-16"),
)
LEGACY = ("cp1252", "cp1250", "cp1251", "koi8_r", "cp1253", "cp1254", "cp1255", "cp1256", "cp874", "shift_jis",
          "euc_jp", "gb18030", "big5", "euc_kr")  # fmt: skip
"""Encodings before Unicode."""
CONTROL = bytes({*range(32)} - {*b"\b\t\n\v\f\r\x1b"})
"""Bytes that texts of one byte a letter do not hold."""


def check_encoding(encoding: str) -> str:
    """Returns the name of an encoding of texts, or `auto`.

    Raises:
        ValueError: there is none of this name.
    """
    try:
        if encoding == "auto" or codecs.lookup(encoding)._is_text_encoding:
            return encoding
    except LookupError:
        pass
    near = did_you_mean(encoding, ("utf-8", "utf-16", "latin-1", *LEGACY))
    raise ValueError(
        f"encoding={encoding!r} is unknown.{near} Give auto or one that Python knows, such as utf-16,"
        f" {', '.join(LEGACY[:4])}."
    )


def encoding_of(file: IO[bytes], given: str) -> str:
    """Returns the encoding of a file, and leaves it at its beginning: what its byte order mark
    says; UTF-16 without one where every other byte is zero; else UTF-8 where it is valid and has
    more than ASCII, and what was given where it is not.

    Args:
        file: its bytes.
        given: the encoding of files that are not Unicode; `auto`: there are none.
    """
    head = file.read(HEAD)
    file.seek(0)
    if mark := next((name for mark, name in MARKS if head.startswith(mark)), None):
        return mark
    even, odd = head[::2].count(0), head[1::2].count(0)
    if len(head) >= 4 and max(even, odd) > len(head) // 5 and min(even, odd) <= len(head) // 100:
        return "utf-16-be" if even > odd else "utf-16-le"
    return "utf-8" if given == "auto" or _is_utf8(file) else given


def is_text(head: bytes) -> bool:
    """Whether a file with these first bytes is a text in any encoding, as far as they tell."""
    if any(head.startswith(mark) for mark, _ in MARKS):
        return True
    return len(head.translate(None, CONTROL)) >= len(head) - len(head) // 1000


def looks_like(raw: bytes) -> str:
    """Returns the encoding that bytes seem to have, of `LEGACY`, for a message; empty where nothing
    tells. Western and central European texts are too alike to be told apart."""
    from charset_normalizer import from_bytes  # here: it takes a moment to import

    best = from_bytes(raw[:HEAD], cp_isolation=list(LEGACY)).best()
    if best is None:
        return ""
    return "cp1252 or cp1250" if best.encoding in ("cp1250", "cp1252", "cp1254") else best.encoding


def _is_utf8(file: IO[bytes]) -> bool:
    """Whether all of a file is UTF-8, and not ASCII alone, which other encodings share."""
    decoder, ascii_alone = codecs.getincrementaldecoder("utf-8")(), True
    try:
        while block := file.read(HEAD):
            ascii_alone = ascii_alone and block.isascii()
            decoder.decode(block)
        decoder.decode(b"", True)
    except UnicodeDecodeError:
        return False
    finally:
        file.seek(0)
    return not ascii_alone
