"""What a process knows of the others of its run: which have ended, and why.

On one machine the kernel tells, at once. Elsewhere each process beats; and one that ends by an
exception leaves word of it in the process group's store, so that the first cause is told, not what
followed from it. Rank 0 holds the store: if it is killed, the others know only that.
"""

from __future__ import annotations

import json
import os
import signal
import subprocess
import threading
from collections.abc import Callable
from contextlib import suppress
from typing import Any, NamedTuple, TypeVar

import torch.distributed as dist

from ...distributed import BEATS, default_store
from ..lightning import children
from .life import Life, life_of, out_of_memory

T = TypeVar("T")
LIVES = "ssl_lightning/lives"
"""Key in the process group's store: who the processes are."""
LAUNCHER = "SSL_LIGHTNING_LAUNCHER"
"""The environment variable by which processes that Lightning starts know the one that starts
them."""
BEAT, SILENCE = 5, 50
"""Looks, one a second, between two beats; and how many without a beat of a process on another
machine say that it is gone. A machine that sleeps does not look."""
TAKE_DOWN = 5.0
"""Seconds in which the system frees what a dead process held."""
DONE, STOPPED, FAILED = "done", "stopped", "failed"
"""How a process leaves a run: at its end, on request (an exit code follows), by an error."""


class Ended(NamedTuple):
    """A process that left before the end of the run.

    Args:
        rank: which.
        why: the rest of a sentence about it.
        code: the exit code of those that leave because of it.
        error: the error by which it failed, in a line, as far as it said so.
        traceback: the file with that error's traceback, of a process that tells of it itself;
            empty: it raises the error, or has none.
    """

    rank: int
    why: str
    code: int = 1
    error: str = ""
    traceback: str = ""


def in_a_line(error: BaseException) -> str:
    """An error's class and message, shortened."""
    message = " ".join(str(error).split())
    message = message if len(message) < 300 else f"{message[:300]} ..."
    return f"{type(error).__name__}: {message}" if message else type(error).__name__


class Peers:
    """The processes of a run, seen from one of them.

    Args:
        trainer: of the run.
        number: of the run among those that share a process group; equal on every process.
    """

    def __init__(self, trainer: Any, number: int) -> None:
        self.trainer, self.prefix = trainer, f"ssl_lightning/run {number}"
        self.rank, self.count = int(trainer.global_rank), int(trainer.world_size)
        self.life, self.killed = life_of(os.getpid()), out_of_memory()
        self.lives = {self.rank: self.life}
        self.store: Any = None
        self.joined = False
        self.looks = 0
        self.behind: Ended | None = None
        self._heard: dict[int, tuple[int | None, int]] = {}
        self._looking = threading.RLock()
        if trainer.local_rank and LAUNCHER in os.environ:
            self.lives[self.rank - trainer.local_rank] = Life(*json.loads(os.environ[LAUNCHER]))

    def look(self) -> Ended | None:
        """The process that ended before its time, if one did; the first, as far as that is
        known."""
        with self._looking:
            self.looks += 1
            self._join()
            gone = self._gone()
            return self._first() or next((each for each in gone if not self._left(each.rank)), None)

    def stopped(self) -> Ended | None:
        """A process that left on request, if one did."""
        for rank in range(self.count):
            mark = self._left(rank)
            if rank != self.rank and mark.startswith(STOPPED):
                code = int(mark.removeprefix(STOPPED))
                return Ended(rank, f"was stopped (exit code {code})", code)
        return None

    def left_behind(self) -> Ended | None:
        """A process that has left on request since `BEAT` looks: this one waits for it, as where a
        signal came to one of them in a closing table."""
        if self.looks % BEAT:
            return None
        before, self.behind = self.behind, self.stopped()
        return before and self.behind

    def all_left(self) -> bool:
        """Whether every other process has left or is gone, or nobody can tell."""
        with self._looking:
            gone = {each.rank for each in self._gone()}
            others = (rank for rank in range(self.count) if rank != self.rank)
            return all(rank in gone or self._left(rank) for rank in others) or self.store is None

    def speaks(self, ended: Ended) -> bool:
        """Whether this process tells the user: the one that failed, if it can; else the lowest that
        is left."""
        if ended.traceback:
            return self.rank == ended.rank
        with self._looking:
            gone = {ended.rank, *(each.rank for each in self._gone())}
            return self.rank == min({*range(self.count)} - gone, default=self.rank)

    def leave(self, how: str) -> None:
        """Leaves word of how this process ends its run."""
        self._ask(lambda store: store.set(f"{self.prefix}/left/{self.rank}", how), None)

    def announce(self, error: BaseException, traceback: str = "") -> Ended:
        """Leaves word of an error.

        Args:
            error: by which this process fails.
            traceback: as in `Ended`.

        Returns:
            The first that any process announced: this one, or another's.
        """
        mine = Ended(self.rank, f"failed with {in_a_line(error)}", 1, in_a_line(error), traceback)
        first = self._ask(lambda store: store.compare_set(f"{self.prefix}/first", "", json.dumps(mine)), b"")
        return Ended(*json.loads(first)) if first else mine

    def _join(self) -> None:
        """Says who this process is and that it lives, and learns who the others are."""
        if self.looks % BEAT == 1:
            self._ask(lambda store: (store.add(BEATS, 1), store.add(f"{BEATS}/{self.rank}", 1)), None)
        for rank in {*range(self.count)} - self.lives.keys():
            if life := self._word(f"{LIVES}/{rank}"):
                self.lives[rank] = Life(*json.loads(life))

    def _gone(self) -> list[Ended]:
        """The processes that are no more, those first of which most is known."""
        gone = []
        for rank, child in children(self.trainer).items():
            with suppress(subprocess.TimeoutExpired):  # one that is being taken down has its code in a moment
                child.wait(TAKE_DOWN if self.dead(rank) else 0)
            code = child.returncode
            if code is not None and code < 0:
                killed = f", {self._killer()}" if _name(-code) == "SIGKILL" else ""
                gone.append(Ended(rank, f"was killed by signal {-code} ({_name(-code)}){killed}"))
            elif code is not None:
                gone.append(Ended(rank, f"ended with exit code {code}"))
        for rank, life in self.lives.items():
            if life.machine != self.life.machine and self._silent(rank):
                gone.append(Ended(rank, f"gave no sign of life for {SILENCE} s: it, or its machine, is gone"))
            elif self.dead(rank):
                why = f"(pid {life.pid}) is gone without a word: it crashed, or was killed {self._killer()}"
                gone.append(Ended(rank, why))
        return gone

    def dead(self, rank: int) -> bool:
        """Whether another process is known to have ended: one of this machine."""
        life = self.lives.get(rank, self.life)
        return rank != self.rank and life.machine == self.life.machine and life.ended()

    def _killer(self) -> str:
        """Who has killed a process."""
        now = out_of_memory()
        if now is None or self.killed is None:
            return "by somebody or by the system for lack of memory"
        return "by the system for lack of memory" if now > self.killed else "not for lack of memory but by somebody"

    def _silent(self, rank: int) -> bool:
        """Whether a process on another machine has not beaten for long."""
        beats = self._ask(lambda store: store.add(f"{BEATS}/{rank}", 0), -1)
        last, since = self._heard.get(rank, (None, 0))
        if last != beats:
            self._heard[rank] = beats, self.looks
        return last == beats and self.looks - since > SILENCE

    def _first(self) -> Ended | None:
        """The error that was announced first, if another process did."""
        word = self._word(f"{self.prefix}/first")
        first = Ended(*json.loads(word)) if word else None
        return first if first and first.rank != self.rank else None

    def _left(self, rank: int) -> str:
        """How a process left its run; empty: it said nothing."""
        return self._word(f"{self.prefix}/left/{rank}")

    def _word(self, key: str) -> str:
        """What the store has under a key; empty: nothing, or there is no store, or no more."""
        return self._ask(lambda store: store.get(key).decode() if store.check([key]) else "", "")

    def _ask(self, question: Callable[[Any], T], default: T) -> T:
        """An answer of the store; the default where there is none yet, or no more."""
        with self._looking:
            if self.dead(0):
                self.store = None  # rank 0 held it, and torch would say so at length
            try:
                if not self.joined and dist.is_available() and dist.is_initialized():
                    self.joined = True
                    self.store = default_store().clone()  # the group's may be busy for half an hour
                    self.store.set(f"{LIVES}/{self.rank}", json.dumps(self.life))
                return default if self.store is None else question(self.store)
            except RuntimeError:
                self.store = None
                return default


def _name(number: int) -> str:
    with suppress(ValueError):
        return signal.Signals(number).name
    return "unknown"
