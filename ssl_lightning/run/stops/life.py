"""Whether a process lives, by what Linux says of it in `/proc`."""

from __future__ import annotations

import os
from contextlib import suppress
from pathlib import Path
from typing import NamedTuple

EXITING = 4
"""Linux's flag (PF_EXITING) of a process that is being taken down."""


class Life(NamedTuple):
    """A process among all that there ever are: the machine whose kernel counts it, its number, and
    when it started."""

    machine: str
    pid: int
    start: str

    def ended(self) -> bool:
        """Whether it is no more, asked on its machine; its number may be another's by now."""
        return start_of(self.pid) != self.start


def start_of(pid: int) -> str | None:
    """When a process of this machine started, in the kernel's ticks; None: it has ended, though its
    parent may not have asked yet, or is about to: its connections are closed before that."""
    try:
        state, *fields = Path(f"/proc/{pid}/stat").read_text().rpartition(")")[2].split()
    except OSError:
        return None
    return None if state in "ZX" or int(fields[5]) & EXITING else fields[18]


def life_of(pid: int) -> Life:
    """A process of this machine. Where there is no `/proc`, no other shares its machine, so that
    beats tell."""
    machine = f"process {pid}"
    with suppress(OSError):  # containers may share a name, not the numbers of processes
        machine = Path("/proc/sys/kernel/random/boot_id").read_text().strip() + os.readlink("/proc/self/ns/pid")
    return Life(machine, pid, start_of(pid) or "")


def out_of_memory() -> int | None:
    """How many processes Linux has killed for lack of memory; None: it does not say."""
    with suppress(OSError):
        for line in Path("/proc/vmstat").read_text().splitlines():
            if line.startswith("oom_kill "):
                return int(line.split()[1])
    return None
