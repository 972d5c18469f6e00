"""A sign of life of a run whose first step is long in coming."""

from __future__ import annotations

import threading
import time
from collections.abc import Callable
from itertools import chain, repeat

PAUSES = (10.0, 20.0, 30.0)
"""Seconds before the first signs; from then on one a minute."""


class Heartbeat:
    """Says now and then what a run is at, from a thread, until it is stopped.

    Args:
        say: takes what the run is at, and the seconds since the start.
    """

    def __init__(self, say: Callable[[str, float], None]) -> None:
        self.say, self.doing = say, ""
        self.ended: threading.Event | None = None
        self.thread: threading.Thread | None = None

    def start(self, doing: str) -> None:
        self.stop()
        self.doing, self.ended = doing, threading.Event()
        arguments = self.ended, time.monotonic()
        self.thread = threading.Thread(target=self._beat, args=arguments, name="heartbeat", daemon=True)
        self.thread.start()

    def stop(self) -> None:
        if self.ended is not None and self.thread is not None:
            self.ended.set()
            self.thread.join()
        self.ended = self.thread = None

    def _beat(self, ended: threading.Event, began: float) -> None:
        for pause in chain(PAUSES, repeat(60.0)):
            if ended.wait(pause):
                return
            self.say(self.doing, time.monotonic() - began)
