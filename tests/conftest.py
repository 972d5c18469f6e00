"""What several test files share."""

from __future__ import annotations

import json
import math
import os
import signal
import subprocess
import sys
from collections import Counter
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import pytest
import torch
from quick import FEW_STRENGTHS
from threadpoolctl import threadpool_limits

from ssl_lightning.data.cores import own_cores
from ssl_lightning.data.shield import STOPPING
from ssl_lightning.evaluation import protocol

MOST_WORKERS, GPU_WORKERS = 8, 4
"""Processes that share a machine's memory, and one GPU's memory and time."""


def pytest_addoption(parser: pytest.Parser, pluginmanager: pytest.PytestPluginManager) -> None:
    """Without pytest-xdist its options, which pyproject.toml gives, change nothing."""
    if not pluginmanager.hasplugin("xdist"):
        for option in ("--numprocesses", "--dist"):
            parser.addoption(option, help="of pytest-xdist, which is not there")


def on_gpu(config: pytest.Config) -> bool:
    """Whether tests that need a GPU are asked for (`-m gpu`, `-m "gpu and ..."`)."""
    return config.option.markexpr.split()[:1] == ["gpu"]


@pytest.hookimpl(optionalhook=True)
def pytest_xdist_auto_num_workers(config: pytest.Config) -> int | None:
    if on_gpu(config):
        return GPU_WORKERS if torch.cuda.is_available() else 0
    return min(MOST_WORKERS, own_cores())


def pytest_ignore_collect(collection_path: Path, config: pytest.Config) -> bool | None:
    """`-m gpu` imports no file without such tests: a machine with a GPU may lack what they need."""
    if not on_gpu(config) or collection_path.suffix != ".py":
        return None
    return "mark.gpu" not in collection_path.read_text() or None


@pytest.hookimpl(tryfirst=True)
def pytest_collection_modifyitems(items: list[pytest.Item]) -> None:
    cases: Counter[tuple[Path, str]] = Counter()
    for item in items:
        marker = item.get_closest_marker("by_default")
        if marker is not None:
            test = item.path, getattr(item, "originalname", item.name)
            cases[test] += 1
            if cases[test] > marker.args[0]:
                item.add_marker(pytest.mark.slow)
    if not torch.cuda.is_available():
        for item in items:
            if item.get_closest_marker("gpu"):
                item.add_marker(pytest.mark.skip(reason="needs a CUDA device: torch.cuda.is_available() is False"))


@pytest.fixture(autouse=True, scope="session")
def one_thread() -> Iterator[None]:
    """Threads that wait for each other make a busy machine crawl; and one thread always adds up in
    the same order. The same holds for the commands that tests start."""
    torch.set_num_threads(1)
    os.environ["OMP_NUM_THREADS"] = "1"
    with threadpool_limits(1):
        yield


@pytest.fixture(autouse=True)
def same_environment() -> Iterator[None]:
    """Variables that Lightning sets for a strategy (LOCAL_RANK) would tell the next test's command
    that its processes are started by somebody else."""
    before = dict(os.environ)
    yield
    os.environ.clear()
    os.environ.update(before)


@pytest.fixture(autouse=True, scope="session")
def few_strengths() -> Iterator[dict[str, Any]]:
    """Gives the protocol's own strengths of regression, in place of which there are a few."""
    own = {name: getattr(protocol, name) for name in FEW_STRENGTHS}
    for name, few in FEW_STRENGTHS.items():
        setattr(protocol, name, few)
    yield own
    for name, value in own.items():
        setattr(protocol, name, value)


@pytest.fixture(autouse=True)
def slow_tests_try_all(request: pytest.FixtureRequest) -> None:
    """What a slow test learns is judged as in a run."""
    if request.node.get_closest_marker("slow"):
        request.getfixturevalue("all_strengths")


@pytest.fixture
def all_strengths(few_strengths: dict[str, Any], monkeypatch: pytest.MonkeyPatch) -> None:
    """The protocol's own strengths, for tests of what is chosen."""
    for name, value in few_strengths.items():
        monkeypatch.setattr(protocol, name, value)


@pytest.fixture
def heeded_signals() -> Iterator[None]:
    """Signals do what they do in a terminal, also where the tests run under nohup."""
    before = {each: signal.signal(each, signal.SIG_DFL) for each in STOPPING}
    signal.signal(signal.SIGINT, signal.default_int_handler)
    yield
    for signum, handler in before.items():
        signal.signal(signum, handler)


class Runs:
    """Training runs in processes of their own, forked from one that has imported everything
    (`runs.py`)."""

    def __init__(self, folder: Path) -> None:
        self.folder, self.count = folder, 0
        command, environment = (
            [sys.executable, str(Path(__file__).with_name("runs.py"))],
            {**os.environ, "OMP_NUM_THREADS": "1"},
        )
        self.process = subprocess.Popen(
            command, stdin=subprocess.PIPE, stdout=subprocess.PIPE, text=True, env=environment
        )

    def __call__(self, root: Path, **spec: Any) -> dict[str, Any]:
        """Trains until the end, or until the process dies.

        Args:
            root: `default_root_dir`.
            spec: changes to `DEFAULTS` of `runs.py`.

        Returns:
            `code` (of the process, negative for a signal) and `log`; where it came to its end also
            `end` (all that two equal runs have in common), `folder` and `resumed from`.
        """
        self.count += 1
        out, log = self.folder / f"{self.count}.end", self.folder / f"{self.count}.log"
        assert self.process.stdin is not None and self.process.stdout is not None
        self.process.stdin.write(json.dumps({**spec, "root": root, "out": out, "log": log}, default=str) + "\n")
        self.process.stdin.flush()
        code = int(self.process.stdout.readline())
        end = torch.load(out, weights_only=True) if out.exists() else {}
        return {"code": code, "log": log.read_text(), **end}

    def close(self) -> None:
        self.process.kill()
        self.process.wait()


@pytest.fixture(scope="session")
def processes(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Runs]:
    runs = Runs(tmp_path_factory.mktemp("runs"))
    yield runs
    runs.close()


@pytest.fixture(scope="session")
def run(processes: Runs) -> Runs:
    return processes


@pytest.fixture
def with_cores(monkeypatch: pytest.MonkeyPatch) -> Callable[[int], None]:
    """Gives the process a machine of so many cores."""

    def give(count: int) -> None:
        monkeypatch.setattr("os.sched_getaffinity", lambda _: set(range(count)), raising=False)
        monkeypatch.setattr("ssl_lightning.data.cores.granted", lambda: math.inf)

    return give
