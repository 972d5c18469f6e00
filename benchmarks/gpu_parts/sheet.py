"""What a part of `gpu.py` has measured."""

from __future__ import annotations

import json
import time
import traceback
from pathlib import Path
from typing import Any

CHARACTERS = 2_000


class Sheet:
    """Rows of results, written at once, so that a part that is killed keeps those it has.

    Args:
        path: the file, a row of JSON a line.
        limit: seconds after which the part is killed.
    """

    def __init__(self, path: Path, limit: float) -> None:
        self.path, self.ends = path, time.monotonic() + limit
        self.failures = 0

    @property
    def left(self) -> float:
        """Seconds until the part is killed."""
        return self.ends - time.monotonic()

    def tell(self, what: str, bar: str, measured: str, met: bool | None = None, **values: Any) -> None:
        """Adds a row.

        Args:
            what: is measured.
            bar: that is to be met; empty if there is none.
            measured: the result in words.
            met: whether it meets the bar; None: there is none, or it holds on a GPU alone.
            values: the figures behind it.
        """
        row = {"what": what, "bar": bar, "measured": measured, "met": met, "values": values}
        with self.path.open("a") as file:
            file.write(json.dumps(row) + "\n")
        print(f"{what}: {measured}", flush=True)

    def failed(self, what: str, error: BaseException) -> None:
        """Adds the row of something that raised an error, with the traceback's end."""
        self.failures += 1
        lines = "".join(traceback.format_exception(error))[-CHARACTERS:]
        self.tell(what, "", f"failed: {type(error).__name__}: {error}"[:300], False, traceback=lines)
