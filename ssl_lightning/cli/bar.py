"""How far a command has come: a bar in a terminal, a line now and then elsewhere."""

from __future__ import annotations

import sys
import time
from typing import Any

from tqdm import tqdm

PAUSE = 30.0
"""Seconds between two lines."""


class Bar:
    """Shows on the standard error how many of all are done, once that takes over a second.

    Args:
        unit: what is counted.
    """

    def __init__(self, unit: str) -> None:
        self.unit, self.began, self.told = unit, time.monotonic(), time.monotonic()
        self.bar: Any = None
        self.first: int | None = None

    def __enter__(self) -> Bar:
        return self

    def __exit__(self, *error: Any) -> None:
        if self.bar is not None:
            self.bar.close()

    def show(self, done: int, total: int) -> None:
        """Shows how many are done."""
        if sys.stderr.isatty():
            if self.bar is None:
                self.bar = tqdm(total=total, unit=f" {self.unit}", initial=done, delay=1, file=sys.stderr)
            self.bar.update(done - self.bar.n)
            return
        now = time.monotonic()
        self.first = done if self.first is None else self.first
        if now - self.told >= PAUSE and done < total:
            self.told = now
            rate = (done - self.first) / (now - self.began)
            left = f", {(total - done) / rate:,.0f} s left" if rate else ""
            print(f"{done:,} of {total:,} {self.unit}{left}", file=sys.stderr, flush=True)
