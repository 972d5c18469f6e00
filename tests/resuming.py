"""What tests of killed and resumed runs share."""

from __future__ import annotations

import os
import signal
from collections.abc import Callable
from pathlib import Path
from typing import Any

import torch

TRIALS = int(os.environ.get("SSL_LIGHTNING_TRIALS", "20"))
"""How often the slow tests try a promise at a moment that is drawn at random."""
Run = Callable[..., dict[str, Any]]
"""`Runs` of `conftest.py`."""


def finished(result: dict[str, Any]) -> dict[str, Any]:
    assert result["code"] == 0, result["log"][-3000:]
    return result


def kill(run: Run, root: Path, place: str, number: int, **spec: Any) -> Path:
    """Kills a run at a place; returns its folder."""
    result = run(root, kill=[place, number], **spec)
    assert result["code"] == -signal.SIGKILL, f"the run was to die at {place} {number}: {result['log'][-3000:]}"
    assert "end" not in result
    (folder,) = root.glob("*/*")
    return folder


def metrics(result: dict[str, Any]) -> bytes:
    return (Path(result["folder"]) / "metrics.csv").read_bytes()


def differences(one: Any, two: Any, where: str = "") -> list[str]:
    """The places where two nests of dicts, lists, tensors and numbers are not bitwise the same."""
    if isinstance(one, dict) and isinstance(two, dict):
        return [
            d
            for key in [*one, *(two.keys() - one.keys())]
            for d in differences(one.get(key), two.get(key), f"{where}/{key}")
        ]
    if isinstance(one, (list, tuple)) and isinstance(two, (list, tuple)) and len(one) == len(two):
        return [
            d for number, pair in enumerate(zip(one, two, strict=True)) for d in differences(*pair, f"{where}/{number}")
        ]
    if isinstance(one, torch.Tensor) and isinstance(two, torch.Tensor):
        return [] if one.dtype == two.dtype and torch.equal(one, two) else [where]
    return [] if type(one) is type(two) and one == two else [f"{where}: {one!r}, {two!r}"]


def assert_same(run: dict[str, Any], like: dict[str, Any]) -> None:
    """Weights, optimizer, schedule, steps, position, heads and `metrics.csv` are bitwise those of
    another run."""
    assert differences(like["end"], run["end"]) == []
    assert metrics(run).decode() == metrics(like).decode()
