"""Waiting for workers: one that is slow is told from one that hangs, and from one that has died."""

from __future__ import annotations

import os
import re
import signal
import sys
from collections.abc import Iterator, Mapping
from contextlib import contextmanager, suppress
from pathlib import Path
from typing import Any, NamedTuple

from torch import Tensor
from torch.utils.data import DataLoader

from .files.reading import noted
from .shield import shielded

TICK, LOOK = 5, 30
"""Seconds without a batch after which torch asks whether its workers are alive; and between two
looks at what the worker does whose turn it is."""
BUSY = 0.02
"""The part of this time that a worker computes at least where it does not hang."""
FEWER = "Use fewer workers (--data.workers 1; with 0 this process reads by itself), or smaller batches"


class WorkerLost(OSError):
    """A worker that fetches data has died, or hangs; the message says what is known, in a line."""


class Signs(NamedTuple):
    """What shows that a worker works.

    Args:
        reading: what it reads.
        seconds: that it has computed.
        bytes: that it has read.
        state: the kernel's letter: R runs, S sleeps, D waits for a disk or a network.
    """

    reading: str
    seconds: float = 0.0
    bytes: int = 0
    state: str = "?"

    def follow(self, before: Signs) -> bool:
        """Whether anything was done since an earlier look."""
        computed = self.seconds - before.seconds > BUSY * LOOK
        return computed or self.bytes > before.bytes or self.reading != before.reading


def signs_of(pid: int, page: Tensor) -> Signs:
    """The signs that a worker gives; without Linux's `/proc`, only what it reads."""
    with suppress(OSError, ValueError):
        state, *fields = Path(f"/proc/{pid}/stat").read_text().rpartition(")")[2].split()
        seconds = (int(fields[10]) + int(fields[11])) / os.sysconf("SC_CLK_TCK")
        count = int(Path(f"/proc/{pid}/io").read_text().split()[1])
        return Signs(noted(page), seconds, count, state)
    return Signs(noted(page))


class PatientLoader(DataLoader[Any]):
    """A loader that says whom it waits for; its workers are not ended by the signals that stop a
    run.

    Args:
        dataset: see `DataLoader`; so are further arguments.
        pages: [workers, bytes] on which each worker notes what it reads.
        limit: seconds without any sign of work after which a worker is given up; 0: never.
    """

    def __init__(self, dataset: Any, *, pages: Tensor, limit: float, **kwargs: Any) -> None:
        self.pages, self.limit = pages, limit
        super().__init__(dataset, timeout=min(TICK, LOOK) if len(pages) else 0, **kwargs)

    def __iter__(self) -> Any:
        if not self.num_workers:
            return super().__iter__()
        with shielded():
            batches = super().__iter__()
        return self._patiently(batches)

    def _patiently(self, batches: Any) -> Iterator[Any]:
        try:
            yield from self._batches(batches)
        finally:  # also where a traceback still holds them
            with suppress(RuntimeError):  # of one that has been killed
                batches._shutdown_workers()
            for worker in batches._workers:  # SIGTERM, by which torch ends one that does not, is blocked
                if worker.is_alive():
                    worker.kill()

    def _batches(self, batches: Any) -> Iterator[Any]:
        wait = Wait(self.pages, self.limit)
        while True:
            try:
                batch = next(batches)
            except StopIteration:
                return
            except RuntimeError as error:
                if not str(error).startswith("DataLoader timed out"):
                    lost = lost_worker(error, {worker.pid: worker.exitcode for worker in batches._workers})
                    if lost is None:
                        raise
                    raise lost from error
                number = batches._task_info[batches._rcvd_idx][0]
                wait.look(number, batches._workers[number])
                continue
            wait.over()
            yield batch


class Wait:
    """How long a batch has been waited for.

    Args:
        pages, limit: see `PatientLoader`.
    """

    def __init__(self, pages: Tensor, limit: float) -> None:
        self.pages, self.limit = pages, limit
        self.over()

    def over(self) -> None:
        """A batch has come."""
        self.waited, self.idle, self.told = 0, 0, ""
        self.last: Signs | None = None

    def look(self, number: int, worker: Any) -> None:
        """Called at every tick: looks at times whether a worker works, and says so once.

        Raises:
            WorkerLost: it has not for `limit` seconds.
        """
        self.waited += min(TICK, LOOK)
        if self.waited % LOOK:
            return
        signs = signs_of(worker.pid, self.pages[number])
        last, self.last = self.last, signs
        if last is None:
            return
        slow = signs.follow(last)
        self.idle = 0 if slow else self.idle + LOOK  # not by a clock: a stopped run's goes on
        who = f"Worker {number} for the data (pid {worker.pid}), which reads {signs.reading or 'nothing yet'}"
        if self.limit and self.idle >= self.limit:
            with suppress(RuntimeError):  # torch tells of the death of a worker by an exception
                worker.kill()
                worker.join(LOOK)
            raise WorkerLost(
                f"{who}, has hung for {self.idle} s: it has neither computed nor read (state {signs.state})."
                " Look at the disk or network that the data comes from; --data.worker_timeout sets how long a worker"
                " may hang."
            )
        state = "slow" if slow else "hung"
        if state != self.told:
            self.told = state
            done = f"computed {signs.seconds - last.seconds:.0f} s and read {signs.bytes - last.bytes:,} bytes"
            what = (
                f"is slow: in the last {LOOK} s it {done}. The run waits for it"
                if slow
                else f"seems to hang: for {self.idle} s it has neither computed nor read (state {signs.state}). "
                + (f"The run ends after {self.limit:,.0f} s" if self.limit else "The run waits for it")
            )
            print(f"No batch for {self.waited} s. {who}, {what}.", file=sys.stderr, flush=True)


@contextmanager
def naming_lost_workers() -> Iterator[None]:
    """Turns what torch raises at the death of a worker into `WorkerLost`."""
    try:
        yield
    except RuntimeError as error:
        if lost := lost_worker(error):
            raise lost from error
        raise


def lost_worker(error: RuntimeError, codes: Mapping[int, int | None] | None = None) -> WorkerLost | None:
    """What torch says of a dead worker, in a line with the remedy; None: the error is another one.
    torch raises it wherever training stands, as soon as the worker has died.

    Args:
        error: torch's.
        codes: the workers' exit codes by pid, where torch may have missed them.
    """
    dead = re.match(
        r"DataLoader worker \(pid(?:\(s\))? ([\d, ]+)\) "
        r"(?:is killed by signal: ([^.]*)|exited unexpectedly(?: with exit code (\d+))?)",
        str(error),
    )
    if dead is None:
        return None
    name, code, how = (dead[2] or "").strip(), int(dead[3] or 0), "has ended"
    for pid in map(int, dead[1].split(", ")):
        code = (codes or {}).get(pid) or code
    if code < 0:
        name = signal.strsignal(-code) or str(-code)
    if name:
        how = f"was killed ({name})" + _REASONS.get(name, "")
    elif code:
        how = f"ended with exit code {code}"
    return WorkerLost(f"A worker for the data (pid {dead[1]}) {how}. {FEWER}.")


_REASONS = {
    signal.strsignal(getattr(signal, name)): reason
    for name, reason in (
        ("SIGKILL", ": by somebody, or by the system for lack of memory"),
        ("SIGBUS", ": the shared memory (/dev/shm) is full"),
    )
    if hasattr(signal, name)
}
