"""Contestants that work by turns, each in a process of its own that keeps its state while it is
stopped."""

from __future__ import annotations

import os
import signal
import statistics
import subprocess
import tempfile
from collections.abc import Iterator, Mapping, Sequence
from contextlib import ExitStack, contextmanager
from pathlib import Path

PEERS = Path(__file__).parent / "peers"


class Contestant:
    """A child process that follows the protocol of `peers/paced.py`.

    Between its turns the whole process group is stopped (SIGSTOP), its loader's workers too:
    neither does it compute in the other's time nor does it fill its queues for the next turn.
    """

    def __init__(self, name: str, command: Sequence[str], folder: Path) -> None:
        self.name, self.log = name, folder / "log.txt"
        environment = {**os.environ, "PYTHONWARNINGS": "ignore"}
        with self.log.open("wb") as log:
            self.process = subprocess.Popen(
                command, stdin=subprocess.PIPE, stdout=subprocess.PIPE, stderr=log, text=True, cwd=folder,
                env=environment, start_new_session=True,
            )  # fmt: skip
        self.answer()
        self.signal(signal.SIGSTOP)

    def answer(self) -> str:
        assert self.process.stdout is not None
        line = self.process.stdout.readline()
        if not line:
            raise SystemExit(f"{self.name} ended with code {self.process.wait()}:\n{self.log.read_text()[-3000:]}")
        return line

    def signal(self, number: signal.Signals) -> None:
        os.killpg(self.process.pid, number)

    def turn(self, steps: int) -> float:
        """Seconds of so many steps, after one more that is not timed."""
        assert self.process.stdin is not None
        self.signal(signal.SIGCONT)
        print(steps, file=self.process.stdin, flush=True)
        seconds = float(self.answer())
        self.signal(signal.SIGSTOP)
        return seconds

    def close(self) -> None:
        if self.process.poll() is None:
            self.signal(signal.SIGKILL)
        self.process.wait()


@contextmanager
def started(commands: Mapping[str, Sequence[str]]) -> Iterator[list[Contestant]]:
    """The contestants, each warmed up and stopped; in the end they and their folders are gone."""
    with ExitStack() as stack:
        contestants = []
        for name, command in commands.items():
            folder = Path(stack.enter_context(tempfile.TemporaryDirectory(ignore_cleanup_errors=True)))
            contestants.append(Contestant(name, command, folder))
            stack.callback(contestants[-1].close)
        yield contestants


def alternate(commands: Mapping[str, Sequence[str]], rounds: int, steps: int) -> dict[str, list[float]]:
    """Seconds of `steps` steps of each contestant in each round; who begins alternates."""
    seconds: dict[str, list[float]] = {name: [] for name in commands}
    with started(commands) as contestants:
        for round_ in range(rounds):
            for contestant in contestants if round_ % 2 == 0 else reversed(contestants):
                seconds[contestant.name].append(contestant.turn(steps))
    return seconds


def quartiles(values: Sequence[float], form: str = ".2f") -> str:
    """Median, and the quartiles in brackets."""
    low, middle, high = statistics.quantiles(values, n=4, method="inclusive") if len(values) > 1 else [values[0]] * 3
    return f"{middle:{form}} [{low:{form}}, {high:{form}}]"
