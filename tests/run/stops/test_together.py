"""Of several processes one dies: the others end within seconds, and one line says which it was, and
why.

Run as a script this file is the command line of one of the processes, of which one dies:
`test_together.py HOW PLACE RANK FOLDER`.
"""

from __future__ import annotations

import os
import re
import signal
import socket
import subprocess
import sys
import time
from pathlib import Path
from types import SimpleNamespace
from typing import Any, NoReturn

import pytest
from ssl_lightning.methods.simclr import SimCLR
from torch.distributed import HashStore

from ssl_lightning.cli.main import main
from ssl_lightning.evaluation import rows
from ssl_lightning.run.stops import peers
from ssl_lightning.run.stops.life import Life, start_of
from ssl_lightning.run.stops.peers import Peers
from ssl_lightning.testing import TinyImages

KILLER = r"(not for lack of memory but )?by (somebody|the system)( or by the system)?( for lack of memory)?"
DEATHS = {
    "killed": rf"was killed by signal 9 \(SIGKILL\), {KILLER}",
    "segmentation fault": r"was killed by signal 11 \(SIGSEGV\)",
    "exit": r"ended with exit code 3",
    "exception": r"failed with KeyError: 'this process fails alone' \(traceback: (?P<file>\S+traceback-\d\.txt)\)",
    "memory": r"failed with MemoryError",
    "exit by the way": r"was stopped \(exit code 7\)",
}
"""How a process dies, and what the line says of it where another one has started it."""
GONE = rf"\(pid \d+\) is gone without a word: it crashed, or was killed {KILLER}"
SPOKEN = ("exception", "memory", "exit by the way")
"""Deaths that a process can announce itself."""
PLACES = ("set-up", "training", "table", "alone")
"""The last: while rank 0 works alone, and the other waits for it."""


def die(how: str, folder: Path, after: float) -> NoReturn:
    time.sleep(after)
    (folder / "death").write_text(str(time.time()))
    if how == "exception":
        raise KeyError("this process fails alone")
    if how == "exit by the way":
        sys.exit(7)
    if how == "memory":
        bytearray(1 << 60)
    if how == "exit":
        os._exit(3)
    os.kill(os.getpid(), {"killed": signal.SIGKILL, "segmentation fault": signal.SIGSEGV}[how])
    raise AssertionError("unreachable")


def dies_at(owner: Any, name: str, call: int, how: str, folder: Path, after: float) -> None:
    """Dies in the given call of a function, seconds after its start."""
    original, calls = getattr(owner, name), iter(range(10**9))

    def counted(*args: Any, **kwargs: Any) -> Any:
        return die(how, folder, after) if next(calls) == call else original(*args, **kwargs)

    setattr(owner, name, counted)


def work_on(*args: Any, **kwargs: Any) -> NoReturn:
    while True:
        time.sleep(0.01)


def process(how: str, place: str, rank: int, folder: Path) -> int:
    """One of two processes."""
    mine = int(os.environ.get("LOCAL_RANK", 0))
    owner, name, call = {
        "set-up": (TinyImages, "setup", 0),
        "training": (SimCLR, "step", 3),
        "table": (rows, "features_of", 1),
        "alone": (rows, "on_first", 1),
    }[place]
    if mine == rank:
        after = 3.0 if place == "alone" else 0.0  # torch would tell of a death in the moment in which the other asks
        dies_at(owner, name, call, how, folder, after)
    elif place == "alone":
        rows.closing_row = work_on  # type: ignore[assignment]
    options = {
        "--model": "simclr", "--data": "ssl_lightning.testing.TinyImages", "--data.samples": 32,
        "--trainer.accelerator": "cpu", "--trainer.devices": 2, "--trainer.strategy": "ddp",
        "--trainer.precision": "32-true", "--trainer.max_steps": 5, "--trainer.default_root_dir": folder,
        "--report.draws": 1, "--report.labels_only": "false",
    }  # fmt: skip
    return main(["fit", *(str(word) for option in options.items() for word in option)])


def started(*arguments: Any, by_lightning: bool) -> tuple[list[int], str, float]:
    """Two processes, the second started by the first or both by somebody else.

    Returns:
        Their exit codes, as far as they are known; what they said; and the seconds from the death
        of one to the end of all.
    """
    environment = os.environ | {"OMP_NUM_THREADS": "1"}
    if not by_lightning:
        with socket.socket() as free:
            free.bind(("127.0.0.1", 0))
            environment |= {"MASTER_ADDR": "127.0.0.1", "MASTER_PORT": str(free.getsockname()[1]), "WORLD_SIZE": "2"}
    read, write = os.pipe()
    processes = [
        subprocess.Popen(
            [sys.executable, __file__, *map(str, arguments)], stdout=write, stderr=write, start_new_session=True,
            env=environment if by_lightning else environment | {"LOCAL_RANK": str(rank)},
        )
        for rank in range(1 if by_lightning else 2)
    ]  # fmt: skip
    os.close(write)
    timer = signal.alarm(0)
    try:
        with os.fdopen(read, errors="replace") as file:
            said = file.read()  # until the last of them has closed its output
        ended = time.time()
        codes = [each.wait(5) for each in processes]
    finally:
        signal.alarm(timer)
        for each in processes:
            if each.returncode is None:
                os.killpg(each.pid, signal.SIGKILL)
    death = arguments[-1] / "death"
    assert death.exists(), said[-4000:]
    return codes, said, ended - float(death.read_text())


def check(said: str, line: str, place: str, rank: int) -> None:
    """One line tells of the process that died; nothing tells of what followed from its death."""
    lines = [each for each in said.splitlines() if "ssl-lightning: error: " in each]
    told = re.search(rf"Process {rank} of 2 {line}\. The others end too", "\n".join(lines))
    assert len(lines) == 1 and told is not None, said[-4000:]
    if "file" in told.groupdict():
        assert "in die\n" in Path(told["file"]).read_text()
    if place != "set-up":
        step = 3 if place == "training" else 5
        assert f", at step {step}; " in lines[0]
        assert f"step-{5:08}.ckpt" in lines[0] or step < 5
    assert not re.search("gloo|Connection|NCCL|ProcessGroup|child-process-observer", said), said[-4000:]


@pytest.mark.parametrize("how", ["killed", pytest.param("exception", marks=pytest.mark.slow)])
def test_one_line_says_which_process_died(run: Any, tmp_path: Path, how: str) -> None:
    """Both are started by somebody else. The killed one is a zombie: nobody waits for it."""
    since = time.monotonic()
    ended = run(tmp_path, script=[__file__, how, "training", "1", str(tmp_path)], processes=2)
    assert ended["code"] == 1 and time.monotonic() - since < 60
    check(ended["log"], DEATHS[how] if how in SPOKEN else GONE, "training", 1)


CASES = [
    *((how, place, rank, True) for how in DEATHS for place in ("training", "table") for rank in (0, 1)),
    *(("killed", place, rank, True) for place in ("set-up", "alone") for rank in (0, 1)),
    *((how, place, 1, False) for how in ("killed", "exception", "exit") for place in PLACES if place != "set-up"),
    *((how, "training", 0, False) for how in ("killed", "exception")),
    ("exception", "set-up", 1, True), ("exception", "alone", 1, True), ("exit", "set-up", 1, True),
]  # fmt: skip


@pytest.mark.slow
@pytest.mark.parametrize(("how", "place", "rank", "by_lightning"), CASES)
def test_all_end_within_a_minute(tmp_path: Path, how: str, place: str, rank: int, by_lightning: bool) -> None:
    codes, said, seconds = started(how, place, rank, tmp_path, by_lightning=by_lightning)
    assert seconds < 30 and 0 not in codes and "Traceback" not in said, (codes, seconds, said[-4000:])
    witnessed = how in SPOKEN or (by_lightning and rank == 1)
    check(said, DEATHS[how] if witnessed else GONE, place, rank)


def two(monkeypatch: pytest.MonkeyPatch, *machines: str) -> list[Peers]:
    """Two processes of a run, on machines of these names, both of them this one."""
    store = HashStore()
    monkeypatch.setattr("torch.distributed.is_initialized", lambda: True)
    monkeypatch.setattr(peers, "default_store", lambda: SimpleNamespace(clone=lambda: store))
    both = []
    for rank, machine in enumerate(machines):
        trainer = SimpleNamespace(global_rank=rank, local_rank=0, world_size=2, strategy=SimpleNamespace(launcher=None))
        monkeypatch.setattr(peers, "life_of", lambda pid, machine=machine: Life(machine, pid, start_of(pid) or ""))
        both.append(Peers(trainer, 0))
    return both


def test_a_process_on_another_machine_is_known_by_its_beats(monkeypatch: pytest.MonkeyPatch) -> None:
    """One that beats is never taken for dead, however long it works."""
    here, there = two(monkeypatch, "a", "b")
    for _ in range(3 * peers.SILENCE):
        assert there.look() is None and here.look() is None
    seconds = next(second for second in range(99) if here.look())
    ended = here.look()
    assert ended is not None and ended.rank == 1 and "no sign of life for 50 s" in ended.why
    assert seconds <= 55 and here.speaks(ended)
    there.leave(peers.DONE)
    assert here.look() is None


def test_a_process_that_was_stopped_or_has_finished_has_not_died(monkeypatch: pytest.MonkeyPatch) -> None:
    here, there = two(monkeypatch, "a", "a")
    for how in (peers.DONE, f"{peers.STOPPED} 143"):
        there.leave(how)
        assert there.look() is None and here.look() is None and here.all_left() != there.all_left()
    stopped = here.stopped()
    assert stopped is not None and (stopped.rank, stopped.code) == (1, 143)
    seconds = next(second for second in range(99) if here.look() is None and here.left_behind() == stopped)
    assert 5 <= seconds <= 10


def test_the_first_error_is_the_cause_on_all_processes(monkeypatch: pytest.MonkeyPatch) -> None:
    here, there = two(monkeypatch, "a", "a")
    assert here.look() is None and there.look() is None
    assert there.announce(ValueError("first")).rank == here.announce(RuntimeError("what follows")).rank == 1
    assert here.look() == (1, "failed with ValueError: first", 1, "ValueError: first", "") and there.look() is None


def test_a_number_that_another_process_bears_now_is_not_the_process(monkeypatch: pytest.MonkeyPatch) -> None:
    here, _ = two(monkeypatch, "a", "a")
    here.lives[1] = Life("a", os.getpid(), "an earlier start")
    ended = here.look()
    assert ended is not None and ended.rank == 1


@pytest.mark.parametrize(
    ("before", "now", "killer"),
    [(0, 1, "by the system for"), (3, 3, "not for lack of memory but"), (None, None, "by somebody or by the system")],
)
def test_linux_counts_what_it_kills_for_lack_of_memory(
    monkeypatch: pytest.MonkeyPatch, before: int | None, now: int | None, killer: str
) -> None:
    counts = iter([before, before, now])
    monkeypatch.setattr(peers, "out_of_memory", lambda: next(counts))
    here, _ = two(monkeypatch, "a", "a")
    here.lives[1] = Life("a", os.getpid(), "an earlier start")
    ended = here.look()
    assert ended is not None and f"killed {killer}" in ended.why


if __name__ == "__main__":
    sys.exit(process(sys.argv[1], sys.argv[2], int(sys.argv[3]), Path(sys.argv[4])))
