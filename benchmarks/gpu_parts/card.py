"""The machine: what it is, and what its device does at most."""

from __future__ import annotations

import os
import platform
from importlib.metadata import version
from typing import Any

import torch

import ssl_lightning
from ssl_lightning.run.folder.folder import device_name

from .clock import DEVICE, FULL, by_turns, peak, spread
from .sheet import Sheet


def run(sheet: Sheet, names: list[str]) -> None:
    facts = machine()
    sheet.tell("machine", "", ", ".join(f"{name} {value}" for name, value in facts.items()))
    side, gibibytes = (8192, 4.0) if FULL else (256, 0.01)
    a, b = (torch.randn(side, side, device=DEVICE, dtype=torch.bfloat16) for _ in range(2))
    source = torch.zeros(int(gibibytes * 2**30), dtype=torch.uint8, device=DEVICE)
    target = torch.empty_like(source)
    seconds = by_turns({"product": lambda: a @ b, "copy": lambda: target.copy_(source)}, 5, 10)
    rates = [2 * side**3 / each / 1e12 for each in seconds["product"]]
    most = peak()
    sheet.tell(
        f"bfloat16 product of {side}x{side}",
        "",
        f"{spread(rates, '.0f')} TFLOP/s" + (f" of {most / 1e12:.0f}" if most else ""),
        rates=rates,
    )
    copies = [2 * len(source) / each / 1e12 for each in seconds["copy"]]
    sheet.tell(f"copy of {gibibytes:g} GiB, read and written", "", f"{spread(copies, '.2f')} TB/s", rates=copies)


def machine() -> dict[str, Any]:
    facts: dict[str, Any] = {
        "device": torch.cuda.get_device_name() if FULL else device_name(torch.device("cpu")),
        "CPU cores": os.cpu_count(),
        "ssl_lightning": ssl_lightning.__version__,
        "torch": torch.__version__,
        "pytorch_lightning": version("pytorch-lightning"),
        "Python": platform.python_version(),
    }
    if FULL:
        facts |= {"CUDA": torch.version.cuda, "GiB": round(torch.cuda.get_device_properties(0).total_memory / 2**30)}
    return facts
