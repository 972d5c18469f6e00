"""How an item becomes what an encoder reads, as Python for who has not this package."""

from __future__ import annotations

from typing import Any, NamedTuple


class Preparation(NamedTuple):
    """The preparation of one item by a run's test transform, told for other libraries.

    Args:
        lines: Python that makes `x` of one item, a batch of one, and `mask` [1, N] for data that
            marks padding, 1 for what is real; `{folder}` is where `files` are. Empty: only this
            package prepares such items.
        facts: the same as values by name, for a card and for the configs of other libraries:
            "mean", "std", "size" (side in pixels), "channels", "rate" (in Hz), ...
        remark: what the lines do otherwise than a run, or leave out; empty: nothing.
        files: the text files, by name, that the lines read.
    """

    lines: str
    facts: dict[str, Any]
    remark: str = ""
    files: dict[str, str] = {}
