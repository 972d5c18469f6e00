"""The processes of a run end together: if one dies, the others end within seconds, and one of them
says in a line which it was, and why."""

from __future__ import annotations

import atexit
import ctypes
import json
import multiprocessing
import os
import sys
import threading
import time
import traceback
from collections.abc import Iterator
from contextlib import contextmanager
from itertools import count
from pathlib import Path
from typing import Any

from ...data.files.atomic import write_text
from ...distributed import watch_store
from ..lightning import TunerExit, children, take_over_children
from .life import life_of
from .peers import DONE, FAILED, LAUNCHER, STOPPED, Ended, Peers, in_a_line

PAUSE, REACH, TIDY = 1.0, 5.0, 20.0
"""Seconds between two looks at the other processes; those in which an exception reaches a process,
unless it waits where none does; and those in which it then ends by itself."""
CLUES = 4.0
"""Seconds for which the cause of a failed exchange is looked for: the kernel closes the connections
of a process a moment before it counts it as dead."""
NUMBERS = count()


class Lost(SystemExit):
    """Another process of the run has ended, which was said; raised where this one stands."""

    def __init__(self, code: int = 1) -> None:
        super().__init__(code)

    def __str__(self) -> str:
        return "a process of the run has ended"


@contextmanager
def known_to_children() -> Iterator[None]:
    """Tells processes that are started within who starts them."""
    os.environ[LAUNCHER] = json.dumps(life_of(os.getpid()))
    try:
        yield
    finally:
        del os.environ[LAUNCHER]


@contextmanager
def together(trainer: Any) -> Iterator[None]:
    """A run of a trainer, which ends on all processes where it ends on one.

    Raises:
        Lost: another process has ended. Of an error that several processes have, the one that had
            it first raises it.
    """
    if trainer.world_size == 1:
        yield
        return
    take_over_children(trainer)
    watch = Watch(trainer)
    watch.start()
    try:
        try:
            yield
            watch.finish()
        finally:
            watch.close()
    except TunerExit:
        watch.finish()
        raise
    except (Lost, Exception) as error:
        ended = watch.cause_of(error)
        watch.depart(FAILED)
        if ended.rank == watch.peers.rank and not ended.traceback:
            raise
        watch.tell(ended)
        if os.environ.get("SSL_LIGHTNING_TRACEBACK"):
            raise
        raise Lost(ended.code) from None
    except BaseException as stop:  # on request: SystemExit, KeyboardInterrupt
        code = stop.code if isinstance(stop, SystemExit) else 130
        watch.depart(f"{STOPPED} {code if isinstance(code, int) else int(code is not None)}")
        raise


class Watch(threading.Thread):
    """Looks once a second whether all processes of a run are there; if not, ends this one."""

    def __init__(self, trainer: Any) -> None:
        super().__init__(daemon=True, name="watch over the other processes")
        self.trainer, self.peers = trainer, Peers(trainer, next(NUMBERS))
        self.over, self.leaving, self.door = threading.Event(), threading.Event(), threading.Lock()
        self.main, self.told = threading.get_ident(), False
        self.ended: Ended | None = None
        watch_store(lambda: self.peers.dead(0))
        atexit.register(self.end)  # a thread in torch's code, when Python goes, would abort the process

    def run(self) -> None:
        while (ended := self.peers.look() or self.left_behind()) is None:
            if self.over.wait(PAUSE):
                return
        self.ended = ended
        if not self.leaving.wait(PAUSE):  # else the run has failed already, by what follows from it
            with self.door:
                if not self.leaving.is_set():
                    ctypes.pythonapi.PyThreadState_SetAsyncExc(ctypes.c_ulong(self.main), ctypes.py_object(Lost))
        if self.leaving.wait(REACH) and self.over.wait(TIDY):
            return
        self.tell(ended)
        for child in [*multiprocessing.active_children(), *children(self.trainer).values()]:
            child.kill()
        os._exit(ended.code)

    def left_behind(self) -> Ended | None:
        """A process that has left on request some seconds ago, while this one goes on."""
        return None if self.leaving.is_set() else self.peers.left_behind()

    def finish(self) -> None:
        """Ends a run well; rank 0, which holds the store, after the others."""
        self.peers.leave(DONE)
        while self.peers.rank == 0 and not self.peers.all_left():
            time.sleep(0.01)
        self.end()

    def end(self) -> None:
        """Looks no more."""
        self.over.set()
        watch_store(bool)
        self.join(REACH)
        atexit.unregister(self.end)

    def close(self) -> None:
        """From here on, no exception is raised from outside."""
        with self.door:
            self.leaving.set()

    def cause_of(self, error: BaseException) -> Ended:
        """What a process fails of: the end of another one, or its own error, which it announces. Of
        an error of all, rank 0 is the first to do so."""
        known = time.monotonic() + CLUES * isinstance(error, (RuntimeError, Lost)) + (self.peers.rank > 0)
        while not (ended := self.ended or self.peers.stopped()) and time.monotonic() < known:
            time.sleep(0.1)
        ended = ended or self.peers.announce(error, self.kept(error))
        mine = ended.rank == self.peers.rank and ended.traceback
        self.told = ended.error == in_a_line(error) and not mine  # by the one that has it
        return ended

    def kept(self, error: BaseException) -> str:
        """The file into which the traceback of a defect goes, on the command line, whose errors are
        lines; empty: the error is raised."""
        is_mistake = self.trainer.is_mistake
        if is_mistake is None or is_mistake(error) or os.environ.get("SSL_LIGHTNING_TRACEBACK"):
            return ""
        path = Path(self.trainer.log_dir) / f"traceback-{self.peers.rank}.txt"
        try:
            write_text(path, "".join(traceback.format_exception(error)))
        except OSError:
            return ""
        return str(path)

    def depart(self, how: str) -> None:
        """Leaves before the end. Rank 0 does so after the others, which look for the cause in the
        store that it holds. A process that has started others stays until they have ended, or ends
        them."""
        self.peers.leave(how)
        started, until = children(self.trainer).values(), time.monotonic() + TIDY
        while time.monotonic() < until:
            if all(child.poll() is not None for child in started) and (self.peers.rank or self.peers.all_left()):
                return
            time.sleep(0.1)
        for child in started:
            child.kill()

    def tell(self, ended: Ended) -> None:
        """Says what has happened, once, and on one process alone."""
        with self.door:
            told, self.told = self.told, True
        if told or not self.peers.speaks(ended):
            return
        clear = "\r\x1b[K" if sys.stdout.isatty() else ""
        sys.stdout.flush()
        print(f"{clear}ssl-lightning: error: {self.line(ended)}", file=sys.stderr, flush=True)

    def line(self, ended: Ended) -> str:
        """The line says which process ended, why, at which step, and how to go on."""
        what = f"Process {ended.rank} of {self.peers.count} {ended.why}".rstrip(".")
        what += f" (traceback: {ended.traceback})" if ended.traceback else ""
        folder = getattr(self.trainer, "run_folder", None)
        if self.trainer.state.fn != "fit" or folder is None:
            return f"{what}. The others end too."
        written = sorted((folder / "checkpoints").glob("*.ckpt"), key=lambda path: path.stat().st_mtime)
        remedy = f"--resume auto goes on from {written[-1]}" if written else "there is no checkpoint yet"
        return f"{what}. The others end too, at step {self.trainer.global_step:,}; {remedy}."
