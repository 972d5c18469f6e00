"""A process takes no more cores than it may run on, than its container is granted, and than its
neighbours leave it.

Run as a script this file is one of two processes: `test_cores.py FOLDER`.
"""

from __future__ import annotations

import math
import os
import sys
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
import torch
import torch.distributed as dist

from ssl_lightning.data import cores
from ssl_lightning.data.cores import granted, meet_neighbours, own_cores
from ssl_lightning.distributed import rank


def process(folder: Path) -> None:
    """Says how many cores it has, where both processes may run anywhere, and where each is bound to
    some of its own."""
    dist.init_process_group("gloo", rank=int(os.environ["LOCAL_RANK"]), world_size=int(os.environ["WORLD_SIZE"]))
    counts = []
    for bound in (range(12), range(8 * rank(), 8 * rank() + 8)):
        os.sched_getaffinity = lambda _, bound=bound: set(bound)  # type: ignore[assignment,misc]
        for quota in (math.inf, 10.0):
            cores.granted = lambda quota=quota: quota  # type: ignore[assignment,misc]
            meet_neighbours()
            counts.append(own_cores())
    torch.save(counts, folder / f"{rank()}.pt")
    dist.destroy_process_group()


@pytest.mark.slow
def test_two_processes_on_a_machine_share_its_cores_and_keep_those_they_are_bound_to(run: Any, tmp_path: Path) -> None:
    ended = run(tmp_path, script=[__file__, str(tmp_path)], processes=2)
    assert ended["code"] == 0, ended["log"][-3000:]
    for number in range(2):
        assert torch.load(tmp_path / f"{number}.pt") == [6, 5, 8, 5]


def test_a_process_alone_has_the_cores_that_it_may_run_on(with_cores: Callable[[int], None]) -> None:
    meet_neighbours()
    for count in (1, 3, 64):
        with_cores(count)
        assert own_cores() == count


@pytest.mark.parametrize(
    ("groups", "files", "expected"),
    [
        pytest.param("0::/", {"": "max 100000"}, math.inf, id="no limit"),
        pytest.param("0::/", {"": "250000 100000"}, 2.5, id="version 2, in a container"),
        pytest.param("0::/a/b", {"a/b": "max 100000", "a": "150000 100000"}, 1.5, id="the group above"),
        pytest.param("0::/a/b", {"a/b": "400000 100000", "a": "200000 50000"}, 4.0, id="the least of two"),
        pytest.param("4:cpu,cpuacct:/docker/1", {"cpu": "300000 100000"}, 3.0, id="version 1, in a container"),
        pytest.param(
            "4:cpu:/job\n5:cpuset:/\n0::/", {"cpu/job": "50000 100000", "cpu": "-1 100000"}, 0.5, id="version 1"
        ),
        pytest.param("4:cpuset:/job", {"cpu": "50000 100000"}, math.inf, id="a group of another kind"),
    ],
)  # fmt: skip
def test_what_a_control_group_grants(tmp_path: Path, groups: str, files: dict[str, str], expected: float) -> None:
    (tmp_path / "proc/self").mkdir(parents=True)
    (tmp_path / "proc/self/cgroup").write_text(groups + "\n")
    for group, text in files.items():
        folder = tmp_path / "sys/fs/cgroup" / group
        folder.mkdir(parents=True, exist_ok=True)
        if group.startswith("cpu"):
            for name, value in zip(("cpu.cfs_quota_us", "cpu.cfs_period_us"), text.split(), strict=True):
                (folder / name).write_text(value + "\n")
        else:
            (folder / "cpu.max").write_text(text + "\n")
    assert granted(tmp_path) == expected


def test_a_system_without_control_groups_grants_all(tmp_path: Path) -> None:
    assert granted(tmp_path) == math.inf


def test_half_a_core_is_one(with_cores: Callable[[int], None], monkeypatch: pytest.MonkeyPatch) -> None:
    with_cores(8)
    monkeypatch.setattr(cores, "granted", lambda: 0.5)
    assert own_cores() == 1


if __name__ == "__main__":
    process(Path(sys.argv[1]))
