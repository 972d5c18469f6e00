"""A long run stays as it began."""

from __future__ import annotations

import re
from pathlib import Path

import pytest
from resuming import Run, finished

SCRIPT = Path(__file__).parents[2] / "benchmarks" / "long_run.py"
LINE = re.compile(r"([\d,]+) steps +([\d.]+) MB +(\d+) handles +(\d+) threads, checkpoint ([\d,]+) bytes")


@pytest.mark.slow
def test_memory_handles_threads_and_checkpoints_are_flat_over_5000_steps(run: Run, tmp_path: Path) -> None:
    """From the second tenth on, when everything has begun."""
    log = finished(run(tmp_path, script=[str(SCRIPT), "--steps", "5000"]))["log"]
    lines = [[float(text.replace(",", "")) for text in line] for line in LINE.findall(log)][1:]
    assert len(lines) == 8, log
    steps, memory, handles, threads, sizes = zip(*lines, strict=True)
    assert max(handles) == min(handles) and max(threads) == min(threads), log
    assert max(sizes) - min(sizes) < 2_000, "rows that wait, and figures with another digit"
    assert (memory[-1] - memory[0]) / (steps[-1] - steps[0]) < 0.002, f"MB a step: {log}"
