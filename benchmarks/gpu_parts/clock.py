"""Time and work on the device: every figure of `gpu.py` is taken here."""

from __future__ import annotations

import statistics
import time
from collections.abc import Callable, Mapping, Sequence
from typing import Any

import torch
from torch.utils.flop_counter import FlopCounterMode

FULL = torch.cuda.is_available()
"""Whether the sizes are those that the bars are about; on a CPU all is tiny."""
DEVICE = torch.device("cuda" if FULL else "cpu")
ACCELERATOR = "gpu" if FULL else "cpu"
PEAKS = {
    "B200": 2250, "H200": 989, "GH200": 989, "H100 PCIe": 756, "H100 NVL": 835, "H100": 989, "A100": 312, "L40S": 362,
    "RTX 4090": 165, "A10G": 125, "L4": 121,
}  # fmt: skip
"""TFLOP/s of dense bfloat16 products, by the vendor's data sheets; the first name that occurs in
the device's counts."""


def peak() -> float | None:
    """FLOP/s that the device could do in bfloat16; None: unknown."""
    name = torch.cuda.get_device_name() if FULL else ""
    return next((1e12 * value for key, value in PEAKS.items() if key in name), None)


def now() -> float:
    """The time when all that was asked of the device is done."""
    if FULL:
        torch.cuda.synchronize()
    return time.perf_counter()


def timed(work: Callable[[], Any], steps: int) -> float:
    """Seconds of a step; within the steps the host may run ahead of the device, as in training."""
    began = now()
    for _ in range(steps):
        work()
    return (now() - began) / steps


def by_turns(contestants: Mapping[str, Callable[[], Any]], rounds: int, steps: int) -> dict[str, list[float]]:
    """Seconds a step of each contestant in each round; who begins alternates, and before each turn
    comes a step that is not timed."""
    seconds: dict[str, list[float]] = {name: [] for name in contestants}
    for work in contestants.values():
        timed(work, 3)
    for round_ in range(rounds):
        for name in list(contestants)[:: 1 if round_ % 2 == 0 else -1]:
            contestants[name]()
            seconds[name].append(timed(contestants[name], steps))
    return seconds


def flops(work: Callable[[], Any]) -> int:
    """Floating-point operations of matrix products, convolutions and attention, two for each
    multiply-add."""
    with FlopCounterMode(display=False) as counter:
        work()
    return counter.get_total_flops()


def use(operations: float, seconds: float) -> tuple[float, str]:
    """Share of the device's peak that so many operations in so many seconds are (MFU; 0 where the
    peak is unknown), and the rate in words."""
    rate, most = operations / seconds, peak()
    share = rate / most if most else 0.0
    return share, f"{rate / 1e12:.1f} TFLOP/s" + (f", MFU {100 * share:.1f} %" if most else "")


def spread(values: Sequence[float], form: str = ".3f") -> str:
    """Median, with the least and the most in brackets."""
    return f"{statistics.median(values):{form}} [{min(values):{form}}, {max(values):{form}}]"


def bar(met: bool) -> bool | None:
    """A verdict, which only the full sizes on a GPU have."""
    return met if FULL else None


def memory() -> float:
    """GiB that tensors took at most since the last call; 0 on a CPU, where nobody counts."""
    if not FULL:
        return 0.0
    most = torch.cuda.max_memory_allocated() / 2**30
    torch.cuda.reset_peak_memory_stats()
    return most


def autocast(precision: str, cache: bool = True) -> torch.autocast:
    """The context of a precision, as one writes it by hand; without `cache` that of Lightning."""
    return torch.autocast(DEVICE.type, torch.bfloat16, enabled=precision == "bf16-mixed", cache_enabled=cache)
