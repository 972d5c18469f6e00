"""What watches a run does not change it."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
import torch

Run = Callable[..., dict[str, Any]]


@pytest.mark.slow
@pytest.mark.parametrize("method", ["simclr", "noisy"])
def test_a_run_that_is_watched_ends_with_the_weights_of_one_that_is_not(run: Run, tmp_path: Path, method: str) -> None:
    """Probes, collapse monitor, meter and closing table on, against all off; `noisy` draws from the
    default generator in each step."""
    watched, alone = (
        run(tmp_path / str(watch), method=method, samples=70, watch=watch, closing=watch) for watch in (True, False)
    )
    for result in (watched, alone):
        assert result["code"] == 0, result["log"][-3000:]
    assert alone["end"]["step"] == watched["end"]["step"] == 12
    for name, value in alone["end"]["weights"].items():
        assert torch.equal(value, watched["end"]["weights"][name]), name
    ours, theirs = (
        set((Path(each["folder"]) / "metrics.csv").read_text().splitlines()[0].split(",")) for each in (watched, alone)
    )
    assert {"probe/linear/top1", "probe/knn/top1", "collapse/std", "collapse/rank"} <= ours - theirs
    assert "train/loss" in theirs
    assert (Path(watched["folder"]) / "speed.csv").exists() and not (Path(alone["folder"]) / "speed.csv").exists()
