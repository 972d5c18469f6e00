"""Work in rounds, told by a parent process: what a contestant does between the lines it reads. Runs
in any peer's environment."""

from __future__ import annotations

import os
import sys
import time
from typing import Any

import torch
from pytorch_lightning import Callback

WARM_UP = 2


class Pace:
    """Blocks after each round. A line `N` on standard input asks for one step that is not timed and
    N that are; the answer, on standard output, is the seconds of the N. The first answer is
    `ready`, after a warm-up."""

    def __init__(self) -> None:
        self.answers = os.fdopen(os.dup(1), "w")
        os.dup2(2, 1)  # whatever else is printed
        self.left = self.timed = WARM_UP
        self.began: float | None = None

    def step_done(self) -> None:
        """To be called at the end of each step, once its batch has been used."""
        self.left -= 1
        if self.left == self.timed:
            self.began = now()
        if self.left:
            return
        print("ready" if self.began is None else now() - self.began, file=self.answers, flush=True)
        self.timed = int(sys.stdin.readline())
        self.left = self.timed + 1


class Paced(Callback):
    """The pace of a Lightning training: from the end of a step to the end of another, so that each
    holds its own fetching."""

    def __init__(self) -> None:
        self.pace = Pace()

    def on_train_batch_end(self, *args: Any) -> None:
        self.pace.step_done()


def now() -> float:
    """The time when everything asked for has been computed."""
    if torch.cuda.is_available():
        torch.cuda.synchronize()
    return time.perf_counter()
