"""The stages of a run's report: each is shown while it goes on, and one that fails ends alone."""

from __future__ import annotations

import math
import os
import traceback
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from typing import Any

from ..distributed import all_leave
from ..run.forecast import duration
from ..run.progress import Progress

MOST = 300
"""Characters of a reason."""


class Stages:
    """Names the stage that a report is in, in the run's progress, and in what it says of a failure.

    Args:
        trainer: of the run.
    """

    def __init__(self, trainer: Any) -> None:
        bar = trainer.progress_bar_callback
        self.bar = bar if isinstance(bar, Progress) and trainer.is_global_zero else None
        self.detail = ""
        self.begin(0, lambda: math.inf)
        self.failed: dict[str, list[str]] = {}
        """The stages that failed, by the reason."""

    def begin(self, count: int, left: Callable[[], float]) -> None:
        """Numbers the stages to come.

        Args:
            count: how many there are.
            left: gives the seconds that all of them may still take.
        """
        self.number, self.count, self.left, self.title = 0, count, left, ""

    def show(self, detail: str = "") -> None:
        """Shows what the stage is at, once the stages are numbered."""
        self.detail = detail
        if self.bar is not None and self.count:
            left, text = self.left(), self.where
            if self.number <= self.count:
                text = f"table {self.number}/{self.count}: {text}"
                text += f", at most {duration(left)} left" if math.isfinite(left) else ""
            self.bar.stage(text)

    @property
    def where(self) -> str:
        return ", ".join(filter(None, (self.title, self.detail)))

    @contextmanager
    def attempt(self, title: str) -> Iterator[None]:
        """The next stage. An error in it is kept, not raised, where all processes leave the stage
        (`distributed.all_leave`).

        Raises:
            Exception: this process has failed alone, and another waits for it.
        """
        self.number, self.title = self.number + 1, title
        self.show()
        try:
            yield
        except Exception as error:
            if not all_leave(failed=True):
                raise
            if os.environ.get("SSL_LIGHTNING_TRACEBACK"):
                traceback.print_exc()
            reason = " ".join(f"{type(error).__name__}: {error}".split())
            self.failed.setdefault(reason if len(reason) <= MOST else f"{reason[:MOST]}...", []).append(self.where)
        else:
            all_leave(failed=False)

    def end(self) -> None:
        """Clears the line on the terminal."""
        if self.bar is not None:
            self.bar.stage("")

    @property
    def failures(self) -> list[str]:
        """A line for each reason."""
        return [f"{'; '.join(stages)} failed: {reason}" for reason, stages in self.failed.items()]
