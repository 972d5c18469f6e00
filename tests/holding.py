"""A process that holds the lock of a run folder: for tests."""

from __future__ import annotations

import os
import signal
import time
from pathlib import Path

from ssl_lightning.run.folder.lock import FolderLock


class Holder:
    """Another process that holds the lock of a folder."""

    def __init__(self, folder: Path, with_worker: bool = False) -> None:
        ready = os.pipe()
        self.pid = os.fork()
        if self.pid == 0:
            FolderLock().take(folder)
            if with_worker and os.fork() == 0:
                os.write(ready[1], str(os.getpid()).encode())
                time.sleep(60)
                os._exit(0)
            if not with_worker:
                os.write(ready[1], b"0")
            signal.pause()
        self.worker = int(os.read(ready[0], 20))

    def kill(self) -> None:
        os.kill(self.pid, signal.SIGKILL)
        os.waitpid(self.pid, 0)
