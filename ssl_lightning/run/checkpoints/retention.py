"""Which checkpoints of a folder stay."""

from __future__ import annotations

import json
import math
from pathlib import Path
from typing import Any, Literal

from ...data.files.atomic import write_text
from ...data.files.unwritable import explained
from ...plugins.gate import read_json
from .names import PATTERN, ours, step_of

Mode = Literal["auto", "min", "max"]
SCORES = "scores.json"


def best_in(folder: Path) -> Path | None:
    """The best checkpoint of a `checkpoints` folder, as its `scores.json` says; None: it does not,
    or that one is not there."""
    path = folder / SCORES
    content = read_json(path.read_text(), repr(str(path))) if path.is_file() else {}
    name = content.get("best") if isinstance(content, dict) else None
    return next((each for each in ours(folder) if each.name == name), None)


class Retention:
    """The newest checkpoints stay, the best by a metric, and those that are kept for good. Others
    are removed once a new one is written: at no time is there none.

    Args:
        keep: how many of the newest stay.
        monitor: the metric by which the best are known; None: none is.
        top: how many of the best stay.
        mode: whether the highest or the lowest value is the best; `auto`: the lowest, where the
            name says `loss`.
    """

    def __init__(self, keep: int, monitor: str | None, top: int, mode: Mode) -> None:
        self.keep, self.monitor, self.top = keep, monitor, top
        self.mode = ("min" if "loss" in (monitor or "") else "max") if mode == "auto" else mode
        self.kept: set[str] = set()
        """Names of those that are kept for good."""
        self.scores: dict[str, float] = {}
        """The metric's value by name, of those that are there."""
        self.value = math.nan
        """The metric's last value, which a checkpoint takes from the one before it."""
        self.step = 0
        """The step of the one that was written last."""

    @property
    def best(self) -> list[str]:
        """Names of the best, the best first; of equal ones the older first."""
        sign = -1 if self.mode == "max" else 1
        return sorted(self.scores, key=lambda name: (sign * self.scores[name], name))[: self.top]

    def add(self, step: int, values: dict[str, Any], for_good: bool) -> str:
        """Takes up the checkpoint of a step, which is about to be written, and returns its name."""
        name, self.step = PATTERN.format(step=step), step
        if for_good:
            self.kept.add(name)
        if self.monitor is not None:
            self.value = float(values.get(self.monitor, self.value))
            if math.isfinite(self.value):
                self.scores[name] = self.value
        return name

    def drop(self, name: str) -> None:
        """Forgets a checkpoint that could not be written."""
        self.kept.discard(name)
        self.scores.pop(name, None)

    def tidy(self, folder: Path) -> None:
        """Removes those that need not stay, after one was written. Later steps than its own are of
        before a resumption, which took it for the newest whole one: they do not count, and stay.

        Raises:
            Unwritable: one cannot be removed.
        """
        there = [path.name for path in ours(folder) if (step_of(path.name) or 0) <= self.step]
        self.scores = {name: value for name, value in self.scores.items() if name in there}
        stay = {*there[: self.keep], *self.best, *self.kept}
        if self.monitor is not None:
            self._publish(folder, {name: self.scores[name] for name in sorted(stay & self.scores.keys())})
        for name in set(there) - stay:
            with explained(folder / name):
                (folder / name).unlink(missing_ok=True)

    def _publish(self, folder: Path, scores: dict[str, float]) -> None:
        best = next(iter(self.best), None)
        content = {"monitor": self.monitor, "mode": self.mode, "best": best, "scores": scores}
        write_text(folder / SCORES, json.dumps(content, indent=1))

    def state(self) -> dict[str, Any]:
        return {"kept": sorted(self.kept), "scores": dict(self.scores), "value": self.value}

    def load(self, state: dict[str, Any]) -> None:
        """Takes up `state`, that of older versions too, which knew no best."""
        self.kept = set(state["kept"])
        self.scores = dict(state.get("scores", {}))
        self.value = float(state.get("value", math.nan))
