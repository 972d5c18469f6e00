"""A killed run that is resumed ends bit for bit like one that was never killed: queue, its place
and slow encoder included."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import pytest
from resuming import Run, assert_same, finished, kill

MOCO = {"method": "moco", "init_args": {"queue_length": 50, "momentum": 0.8}, "samples": 70, "watch": False}
RUNS: dict[str, dict[str, Any]] = {
    "moco, accumulated": {**MOCO, "samples": 80, "trainer": {"max_epochs": 3, "accumulate_grad_batches": 2}},
    "moco_v3": {"method": "moco_v3", "init_args": {"momentum": 0.8}, "samples": 70, "watch": False},
    "byol": {"method": "byol", "init_args": {"momentum": 0.8}, "samples": 70, "watch": False},
}


def killed_like_straight(run: Run, root: Path, place: str, number: int, **spec: Any) -> None:
    straight = finished(run(root / "straight", **spec))
    names = set(straight["end"]["weights"])
    assert {"teacher.module.1.0.weight"} < names and (
        spec["method"] != "moco" or {"queue.features", "queue.place"} < names
    )
    kill(run, root / "killed", place, number, **spec)
    assert_same(finished(run(root / "killed", ckpt_path="auto", **spec)), straight)


@pytest.mark.slow
def test_moco(run: Run, tmp_path: Path) -> None:
    killed_like_straight(run, tmp_path, "end", 7, **MOCO)


@pytest.mark.slow
@pytest.mark.parametrize("place", ["start", "backward", "end"])
@pytest.mark.parametrize("name", RUNS)
def test_others(run: Run, tmp_path: Path, name: str, place: str) -> None:
    killed_like_straight(run, tmp_path, place, 6, **RUNS[name])
