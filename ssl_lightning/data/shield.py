"""Worker processes that the signals which stop a run do not reach.

A terminal sends Ctrl-C to a whole group of processes, SLURM its warning to every process of a job.
The main process decides what that means; a worker that died of it would take the step with it.
"""

from __future__ import annotations

import atexit
import multiprocessing.util  # its own function for the exit must be registered before this file's
import signal
from collections.abc import Iterator
from contextlib import contextmanager
from multiprocessing import resource_tracker
from multiprocessing.process import BaseProcess
from weakref import WeakSet

STOPPING = tuple(
    getattr(signal, name) for name in ("SIGINT", "SIGTERM", "SIGHUP", "SIGUSR1", "SIGUSR2") if hasattr(signal, name)
)
"""The signals that schedulers, terminals and users stop a run by; those that the system has."""
_shielded: WeakSet[BaseProcess] = WeakSet()


@contextmanager
def shielded() -> Iterator[None]:
    """Processes that start inside, by whatever method, have these signals blocked: they inherit the
    mask of the thread that starts them, so that there is no moment before. A signal to this process
    waits for the end of the block."""
    mask = getattr(signal, "pthread_sigmask", None)
    if mask is None:
        yield
        return
    if multiprocessing.get_start_method() != "fork":
        resource_tracker.ensure_running()  # to start it later would unblock two of them
    before, known = mask(signal.SIG_BLOCK, STOPPING), set(multiprocessing.active_children())
    try:
        yield
    finally:
        _shielded.update(set(multiprocessing.active_children()) - known)
        mask(signal.SIG_SETMASK, before)


def _end() -> None:
    """Ends the workers that are left when Python exits: it asks by SIGTERM, and would wait for them
    without end."""
    for process in _shielded:
        if process.is_alive():
            process.kill()


atexit.register(_end)
