"""A promise of docs/reliability.md, tried at moments that are drawn at random, as often as
SSL_LIGHTNING_TRIALS says (20)."""

from __future__ import annotations

import random
import signal
import time
from functools import cache
from pathlib import Path
from typing import Any

import pytest
from resuming import TRIALS, Run, assert_same, differences, finished
from safetensors.torch import load_file

METHODS = ("simclr", "moco", "byol", "swav", "mae", "bert", "wav2vec2", "noisy")
PLANS: tuple[dict[str, Any], ...] = ({"workers": 0}, {"workers": 2}, {"trainer": {"max_steps": 9}})
WRITTEN = ("encoder.safetensors", "encoder.md", "summary.json", "config.yaml", "metrics.csv", "plots/loss.png")

pytestmark = [pytest.mark.slow, pytest.mark.parametrize("trial", range(TRIALS))]


def spec_of(trial: int) -> dict[str, Any]:
    """Each trial takes the next method and plan."""
    plan = PLANS[trial // len(METHODS) % len(PLANS)]
    return {"method": METHODS[trial % len(METHODS)], "closing": True, "checkpoint": {"keep": 9}, **plan}


@cache
def undisturbed(run: Run, folder: Path, trial: int) -> tuple[dict[str, Any], float]:
    """A run that nobody kills, and its seconds."""
    started = time.monotonic()
    return finished(run(folder / str(trial), **spec_of(trial))), time.monotonic() - started


@pytest.fixture(scope="module")
def kept(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return tmp_path_factory.mktemp("straight")


def test_a_run_that_is_killed_at_any_moment_ends_like_one_that_is_not(
    run: Run, kept: Path, tmp_path: Path, trial: int
) -> None:
    """In set-up, training, saving or the report; killed twice in every third trial."""
    spec, draw = spec_of(trial), random.Random(trial)
    like, seconds = undisturbed(run, kept, trial % (len(METHODS) * len(PLANS)))
    for _ in range(2 if trial % 3 == 0 else 1):
        result = run(tmp_path, kill=["time", draw.uniform(0.05, seconds)], ckpt_path="newest", **spec)
        assert result["code"] in (0, -signal.SIGALRM), result["log"][-3000:]
    resumed = finished(run(tmp_path, ckpt_path="newest", **spec))
    assert_same(resumed, like)
    folder = Path(resumed["folder"])
    assert all((folder / name).is_file() for name in WRITTEN)
    assert not list(folder.rglob(".*.tmp"))
    encoders = [load_file(Path(each["folder"]) / "encoder.safetensors") for each in (resumed, like)]
    assert differences(*encoders) == []
