"""The number of the machine's cores that a process may keep busy."""

from __future__ import annotations

import math
import os
import socket
from functools import cache
from pathlib import Path
from typing import NamedTuple

from ..distributed import gather_objects


class Neighbours(NamedTuple):
    """The processes of the run on this machine, including this one.

    Args:
        all: how many there are; they share the container's quota.
        on_same_cores: how many of them may run on a core that this process may run on.
    """

    all: int = 1
    on_same_cores: int = 1


_neighbours = Neighbours()


def own_cores() -> int:
    """Returns the number of cores for this process alone, at least 1: those that it may run on,
    within its container's quota, divided by the processes of the run that share them."""
    return max(1, int(min(len(_allowed()) // _neighbours.on_same_cores, granted() / _neighbours.all)))


def meet_neighbours() -> None:
    """Finds out which processes of the run share this one's cores, however they were started, and
    whether or not each was bound to its own cores. Every process must call it."""
    global _neighbours
    mine = (socket.gethostname(), _allowed())
    beside = [allowed for host, allowed in gather_objects(mine) if host == mine[0]]
    _neighbours = Neighbours(len(beside), sum(not allowed.isdisjoint(mine[1]) for allowed in beside))


def _allowed() -> set[int]:
    """Returns the cores that the operating system lets this process run on."""
    if hasattr(os, "sched_getaffinity"):
        return os.sched_getaffinity(0)
    return set(range(os.cpu_count() or 1))


@cache
def granted(root: Path = Path("/")) -> float:
    """Returns the CPU time that the control groups of this process grant, in cores; infinite where
    none limits it.

    Args:
        root: the root of the file system.
    """
    try:
        groups = (root / "proc/self/cgroup").read_text().splitlines()
    except OSError:
        return math.inf
    least = math.inf
    for group in groups:  # 0::/a/b in version 2, 4:cpu,cpuacct:/a/b in version 1
        _, controllers, path = group.split(":", 2)
        if controllers and "cpu" not in controllers.split(","):
            continue
        top = root / "sys/fs/cgroup" / ("cpu" if controllers else "")
        folder = top / path.strip("/")  # inside a container, the container's own group may be at the top
        for parent in (folder, *folder.parents):
            least = min(least, _quota(parent))
            if parent == top:
                break
    return least


def _quota(group: Path) -> float:
    """Returns what one control group grants: `cpu.max` in version 2, two files in version 1."""
    for names in (("cpu.max",), ("cpu.cfs_quota_us", "cpu.cfs_period_us")):
        try:
            quota, period = " ".join((group / name).read_text() for name in names).split()
        except OSError:
            continue
        if quota not in ("max", "-1"):
            return int(quota) / int(period)
    return math.inf
