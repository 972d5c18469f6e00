"""Parts of messages to the user: printable paths, and suggestions for misspelt names."""

from __future__ import annotations

import os
import re
from difflib import get_close_matches
from pathlib import Path
from typing import Any

CONTROL = re.compile("[\x00-\x1f\x7f-\x9f\u2028\u2029]")


def printable(path: str | bytes | Path) -> str:
    """A path for a message: in one line, with control characters and bytes that are not UTF-8
    escaped."""
    text = os.fsencode(path).decode("utf-8", "backslashreplace")
    return CONTROL.sub(lambda match: match[0].encode("unicode_escape").decode(), text)


def did_you_mean(name: str, known: Any, prefix: str = "") -> str:
    """The question ` Did you mean 'x'?` with the nearest known name; empty where none is near."""
    lower = {str(item).lower(): str(item) for item in known}
    near = get_close_matches(name.lower(), lower, n=1)
    return f" Did you mean {prefix + lower[near[0]]!r}?" if near else ""


def counted(number: int, units: str) -> str:
    """A number of things in words: "1 class", "1,200 files".

    Args:
        number: of them.
        units: what they are, in the plural.
    """
    one = "class" if units == "classes" else units.removesuffix("s")
    return f"{number:,} {one if number == 1 else units}"
