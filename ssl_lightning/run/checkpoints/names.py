"""The names of the checkpoints that a run writes; known without importing torch."""

from __future__ import annotations

import re
from pathlib import Path

PATTERN = "step-{step:08d}.ckpt"
OURS = re.compile(r"step-(\d{8,})\.ckpt")


def ours(folder: Path) -> list[Path]:
    """The checkpoints that a run itself wrote into a folder, the newest first. Others may lie
    there, such as those of Lightning's `ModelCheckpoint`."""
    steps = {path: int(match[1]) for path in folder.glob("step-*.ckpt") if (match := OURS.fullmatch(path.name))}
    return sorted(steps, key=lambda path: steps[path], reverse=True)


def step_of(name: str) -> int | None:
    """The number of optimizer steps in a checkpoint's name; None: a run did not name it."""
    match = OURS.fullmatch(name)
    return int(match[1]) if match else None
