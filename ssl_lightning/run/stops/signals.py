"""What a signal does to this process: it raises `Stopped`, at once or where the run can stop.

The file imports neither torch nor Lightning, so that the command line listens from its beginning.
"""

from __future__ import annotations

import multiprocessing
import os
import signal
import socket
import sys
import threading
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from types import FrameType
from typing import Any

from ...data.shield import STOPPING

SIGNALS = tuple(each for each in STOPPING if each.name != "SIGUSR2")
"""What a process listens to; SIGUSR2 only where SLURM warns by it."""
TOGETHER = 1.0
"""Seconds in which signals count as one: a terminal, a launcher and `timeout` may send one to a
process and to its group."""
KILL = int(getattr(signal, "SIGKILL", signal.SIGTERM))
RANKS = ("RANK", "LOCAL_RANK", "SLURM_PROCID")


class Stopped(SystemExit):
    """A signal stopped what the process did. The exit code is 128 + its number, as of a shell.

    Args:
        signum: the signal's number.
    """

    def __init__(self, signum: int) -> None:
        super().__init__(128 + signum)
        self.signum = signum
        self.told = False

    def tell(self, text: str) -> None:
        """Says once, on the first process, in a line what has stopped and what to do."""
        if not self.told and all(os.environ.get(name, "0") == "0" for name in RANKS):
            clear = "\r\x1b[K" if sys.stderr.isatty() else ""
            print(f"{clear}Stopped by {signal.Signals(self.signum).name}{text}", file=sys.stderr, flush=True)
        self.told = True


def nothing() -> None:
    """Does nothing."""


class Listener:
    """What this process has heard, and what it does about it."""

    def __init__(self) -> None:
        self.noted: int | None = None
        """The first signal that came."""
        self.deferred = False
        """Whether a signal is only noted: in training, which stops after an optimizer step."""
        self.processes: list[Any] = []
        """Those that this one has launched and must see to the end of, with a `pid` each."""
        self.release: Callable[[], None] = nothing
        """Adds to `processes` those that are still somebody else's."""
        self.pid = os.getpid()
        self.before: dict[int, Any] = {}
        """The handlers that ours stand in for."""

    def start(self) -> None:
        """Begins to listen; in the main thread."""
        global _current
        _current = self
        self.arrived, self.wakeup = socket.socketpair()
        self.wakeup.setblocking(False)
        self.thread = threading.Thread(target=self.watch, daemon=True, name="signals")
        self.thread.start()
        self.other_wakeup = signal.set_wakeup_fd(self.wakeup.fileno(), warn_on_full_buffer=False)
        for signum in SIGNALS:
            self.listen_to(signum)

    def listen_to(self, signum: int) -> None:
        """Listens to one more signal, where this process listens at all. One that is ignored, as
        SIGHUP is under nohup, stays ignored; one that a C library handles stays its own."""
        before = signal.getsignal(signum)
        if self is current() and signum not in self.before and before not in (signal.SIG_IGN, None):
            self.before[signum] = before
            signal.signal(signum, self.handle)

    def stop(self) -> None:
        """Restores the handlers that were there."""
        global _current
        self.deferred = True  # one that comes now does not keep the others from being restored
        for signum, handler in self.before.items():
            signal.signal(signum, handler)
        signal.set_wakeup_fd(self.other_wakeup)
        self.wakeup.shutdown(socket.SHUT_RDWR)  # workers that were forked hold copies, so that to close it does not do
        self.wakeup.close()
        self.thread.join()
        self.arrived.close()
        _current = None

    def handle(self, signum: int, frame: FrameType | None) -> None:
        """Python's handler, called in the main thread between two instructions."""
        if os.getpid() != self.pid:
            return  # a worker that was forked: the main process decides
        before = self.before[signum]
        if callable(before) and before is not signal.default_int_handler:
            before(signum, frame)
        if self.noted is not None:
            return  # `watch` counts further ones
        self.noted = signum
        if not self.deferred:
            raise Stopped(signum)
        if sys.stderr.isatty():
            name = signal.Signals(signum).name
            os.write(2, f"\r\x1b[K{name}: stopping after this step; once more stops at once.\n".encode())

    def watch(self) -> None:
        """Hears signals in a thread, also while the main one waits in C code: passes the first one
        on to launched processes, and ends this one on the second."""
        first: float | None = None
        while number := self.arrived.recv(1):
            if number[0] not in self.before:
                continue
            if first is None:
                first = time.monotonic()
                self.release()
                send(self.processes, number[0])
            elif time.monotonic() - first > TOGETHER:
                os.write(2, f"Stopped at once by {signal.Signals(number[0]).name}.\n".encode())
                send([*self.processes, *multiprocessing.active_children()], KILL)
                os._exit(128 + number[0])


def send(processes: list[Any], signum: int) -> None:
    """Sends a signal to processes, some of which may have ended."""
    for process in processes:
        try:
            os.kill(process.pid, signum)
        except OSError:
            continue


_current: Listener | None = None


def current() -> Listener | None:
    """The listener of this process, where it listens."""
    return _current if _current is not None and _current.pid == os.getpid() else None


@contextmanager
def listening() -> Iterator[Listener]:
    """Listens to `SIGNALS` inside. Handlers of the user go on being called, before ours.

    Nothing is installed in a thread that is not the main one, nor in a notebook, whose kernel has
    its own ways, nor where this process listens already.

    Raises:
        Stopped: a signal came.
    """
    if outer := current():
        yield outer
        return
    listener = Listener()
    if threading.current_thread() is not threading.main_thread() or hasattr(sys, "ps1"):
        yield listener
        return
    stop: Stopped | None = None
    listener.start()
    try:
        yield listener
    except Stopped as raised:
        stop = raised
    finally:
        listener.stop()
    if stop is None and listener.noted is not None:
        stop = Stopped(listener.noted)  # the error was swallowed, as in a `__del__`
    if stop is not None:
        stop.tell(".")
        raise stop
