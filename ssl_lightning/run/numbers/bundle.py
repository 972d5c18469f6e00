"""What a run leaves of a step that is not finite, so that it can be taken again: `replay.json` and
a checkpoint of the weights before it."""

from __future__ import annotations

import json
from dataclasses import asdict, dataclass
from importlib.metadata import version
from pathlib import Path
from typing import Any

import torch

from ...data.files.atomic import atomic, write_text
from ...plugins.gate import read_json
from ...plugins.run_record import record_run
from ..lightning import batches_done

FACTS, WEIGHTS = "replay.json", "before.ckpt"
MOST = 1 << 62
"""No run counts further."""
PRECISIONS = ("32-true", "16-mixed", "bf16-mixed", "bf16-true", "64-true")


@dataclass(frozen=True)
class Facts:
    """A step as a run took it, in plain values."""

    line: str
    """The message with which the run stopped, without its advice."""
    step: int
    """The optimizer step, counted from 1."""
    precision: str
    device: str
    lr: float
    position: dict[str, Any]
    """State of the datamodule at the first batch of the step; empty where the data had none."""
    steps_planned: float
    """Optimizer steps of the whole run."""
    batches_an_epoch: int
    accumulated: int
    """Batches of an optimizer step."""
    processes: list[dict[str, Any]]
    """By rank: `batches`, the numbers of the step's batches, counted over the run; their `losses`;
    `samples`, their indices."""


def write_bundle(folder: Path, module: Any, step: int, processes: list[dict[str, Any]], line: str) -> None:
    """Writes the folder. The checkpoint is one as any other for `ssl_lightning.load`, without the
    state of the optimizer.

    Args:
        folder: `nan-step-<step>` in the run folder.
        module: the method, with the weights before the step.
        step, processes, line: as in `Facts`.
    """
    trainer = module.trainer
    data: Any = trainer.datamodule
    position = data.state_dict() if hasattr(data, "position") else {}
    if position:
        unit = 1 if data.buckets is not None else data.batch_size
        position["position"] -= unit * (batches_done(trainer) - processes[0]["batches"][0])
    facts = Facts(
        line,
        step,
        str(trainer.precision),
        module.device.type,
        float(trainer.optimizers[0].param_groups[0]["lr"]),
        position,
        float(trainer.estimated_stepping_batches),
        int(trainer.num_training_batches),
        int(trainer.accumulate_grad_batches),
        processes,
    )
    checkpoint: dict[str, Any] = {
        "state_dict": module.state_dict(),
        "global_step": step - 1,
        "epoch": trainer.current_epoch,
        "pytorch-lightning_version": version("pytorch-lightning"),
    }
    record_run(module, checkpoint)
    folder.mkdir(parents=True, exist_ok=True)
    with atomic(folder / WEIGHTS) as temporary, temporary.open("wb") as file:
        torch.save(checkpoint, file)
    write_text(folder / FACTS, json.dumps(asdict(facts), indent=1))


def read_bundle(folder: Path) -> Facts:
    """The facts of a bundle.

    Raises:
        FileNotFoundError: the folder holds none.
        ValueError: they are not what a run writes.
    """
    path = folder / FACTS
    if not path.is_file():
        raise FileNotFoundError(f"There is no {FACTS} in {str(folder)!r}; give a folder nan-step-... of a run.")
    value = read_json(path.read_text(encoding="utf-8"), repr(str(path)))
    try:
        facts = Facts(**value)
        kinds = {name: type(getattr(facts, name)) for name in ("line", "step", "accumulated", "batches_an_epoch")}
        numbers = [[int(number) for number in each["batches"]] for each in facts.processes]
        losses = [[float(loss) for loss in each["losses"]] for each in facts.processes]
        samples = [[each and list(map(int, each)) for each in rank["samples"]] for rank in facts.processes]
        float(facts.steps_planned), float(facts.lr)
        counts = [facts.step, int(facts.position.get("position", 0)), *(each for some in numbers for each in some)]
    except (TypeError, ValueError, KeyError, AttributeError) as error:
        raise ValueError(f"{str(path)!r} is not what a run writes: {error}.") from error
    whole = list(kinds.values()) == [str, int, int, int] and facts.precision in PRECISIONS
    whole = whole and bool(numbers) and all(map(len, numbers)) and len(losses) == len(samples) == len(numbers)
    whole = whole and facts.accumulated > 0 and all(0 <= each < MOST for each in counts)
    if not whole:
        raise ValueError(f"{str(path)!r} is not what a run writes.")
    return facts
