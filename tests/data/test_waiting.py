"""A worker that is slow is waited for, one that hangs ends the run with its name, and one that was
killed is told in a line."""

from __future__ import annotations

import os
import time
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
import torch
from torch import Tensor

from ssl_lightning.data import waiting
from ssl_lightning.data.files import reading
from ssl_lightning.data.files.reading import LENGTH, note
from ssl_lightning.data.loaders import Fetch, batch_loader
from ssl_lightning.data.sources import Source
from ssl_lightning.data.waiting import WorkerLost, lost_worker


class Acting(Source):
    """Sample 5 does something before it comes."""

    def __init__(self, act: Callable[[], Any]) -> None:
        self.act = act

    def __len__(self) -> int:
        return 8

    def fetch(self, index: Tensor) -> Tensor:
        if 5 in index:
            note(f"file-{int(index[0])}.flac")
            self.act()
        return index


def compute(seconds: float) -> None:
    until = time.process_time() + seconds
    while time.process_time() < until:
        pass


def read_on(seconds: float) -> None:
    until = time.monotonic() + seconds
    while time.monotonic() < until:
        Path("/proc/self/stat").read_bytes()
        time.sleep(0.1)


def other_files(seconds: float) -> None:
    for number in range(int(10 * seconds)):
        note(f"file {number}")
        time.sleep(0.1)


def fetched(act: Callable[[], Any], limit: float = 2.0) -> list[list[int]]:
    draws = torch.arange(8).split(1)
    loader = batch_loader(Fetch(Acting(act), dict), draws, workers=2, timeout=limit, seed=0, on_cpu=True, pin=False)
    return [batch["index"].tolist() for batch in loader]


@pytest.fixture
def impatient(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(waiting, "LOOK", 1)


@pytest.mark.usefixtures("impatient")
@pytest.mark.parametrize(
    "work", [compute, pytest.param(read_on, marks=pytest.mark.slow), pytest.param(other_files, marks=pytest.mark.slow)]
)
def test_a_slow_worker_is_waited_for(work: Callable[[float], None], capfd: pytest.CaptureFixture[str]) -> None:
    """Longer than one may hang: it computes, reads, or goes on to other files."""
    assert fetched(lambda: work(3.5), limit=2.0) == [[number] for number in range(8)]
    lines = capfd.readouterr().err.splitlines()
    assert len(lines) == 1 and "is slow: in the last" in lines[0] and "which reads file" in lines[0]


@pytest.mark.usefixtures("impatient")
def test_a_worker_that_hangs_ends_the_run_and_is_named(tmp_path: Path, capfd: pytest.CaptureFixture[str]) -> None:
    """A pipe that nobody writes to hangs as a network disk does; the worker ends too."""
    os.mkfifo(tmp_path / "pipe")
    pid = tmp_path / "pid"
    with pytest.raises(WorkerLost, match=r"reads file-5.flac, has hung for [234] s: .*state S.*--data.worker_timeout"):
        fetched(lambda: (pid.write_text(str(os.getpid())), (tmp_path / "pipe").read_text()))
    lines = capfd.readouterr().err.splitlines()
    assert len(lines) == 1 and "seems to hang" in lines[0] and "The run ends after 2 s" in lines[0]
    with pytest.raises(ProcessLookupError):
        os.kill(int(pid.read_text()), 0)


@pytest.mark.slow
@pytest.mark.usefixtures("impatient")
def test_without_a_limit_a_worker_may_hang(capfd: pytest.CaptureFixture[str]) -> None:
    assert len(fetched(lambda: time.sleep(2.5), limit=0)) == 8
    assert "The run waits for it" in capfd.readouterr().err


def test_a_long_name_keeps_its_end() -> None:
    pages = reading.new_pages(2)
    reading.TakePage(pages)(1)
    try:
        note("x" * LENGTH + "last.wav")
        assert reading.noted(pages[1]).endswith("xlast.wav") and not reading.noted(pages[0])
        note("short é")
        assert reading.noted(pages[1]) == "short é"
    finally:
        reading._page = None


@pytest.mark.parametrize(
    ("text", "line"),
    [
        ("is killed by signal: Killed. ", "was killed (Killed): by somebody, or by the system"),
        ("is killed by signal: Bus error. It is possible", "was killed (Bus error): the shared memory"),
        ("exited unexpectedly with exit code 3. Details", "ended with exit code 3. Use fewer workers"),
        ("exited unexpectedly", "has ended. Use fewer workers (--data.workers 1"),
    ],
)
def test_torch_s_words_about_a_dead_worker_become_a_line(text: str, line: str) -> None:
    assert f"(pid 7) {line}" in str(lost_worker(RuntimeError(f"DataLoader worker (pid 7) {text}")))
    assert "(pid 7, 8) has" in str(lost_worker(RuntimeError("DataLoader worker (pid(s) 7, 8) exited unexpectedly")))
    assert lost_worker(RuntimeError(text)) is None
