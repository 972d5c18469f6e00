"""Takes the step of a bundle again, on the CPU and without an update, and says where it is not
finite."""

from __future__ import annotations

import math
from collections.abc import Iterable, Iterator, Mapping
from contextlib import contextmanager
from dataclasses import dataclass, field
from pathlib import Path
from types import SimpleNamespace
from typing import Any, cast

import pytorch_lightning as pl
import torch
from torch import Tensor, nn

from ..augment.random import mix
from ..data.datamodule import SSLDataModule
from ..plugins.archive import read
from ..plugins.rebuild import rebuild, rebuild_for
from ..plugins.run_record import config_in
from .numbers.bundle import WEIGHTS, Facts, read_bundle
from .numbers.fault import rows_not_finite
from .training import Training


@dataclass
class Retaken:
    """What one process's part of the step gave when it was taken again."""

    losses: list[float] = field(default_factory=list)
    samples: list[list[int]] = field(default_factory=list)
    bad_samples: dict[int, str] = field(default_factory=dict)
    """By index: which of its views hold NaN or infinity."""
    largest_input: float = 0.0
    """Magnitude in the views, of what is finite."""
    module: str = ""
    """The first whose output is not finite."""
    bad_gradients: list[str] = field(default_factory=list)
    gradient_norm: float = 0.0
    parameters: int = 0

    @property
    def finite(self) -> bool:
        """Whether nothing in it is NaN or infinite."""
        return all(map(math.isfinite, self.losses)) and not self.bad_gradients and not self.module

    def equals(self, recorded: Mapping[str, Any]) -> bool:
        """Whether the losses are those of the run, bit for bit."""
        pairs = zip(self.losses, recorded["losses"], strict=False)
        same = all(mine == before or (math.isnan(mine) and math.isnan(before)) for mine, before in pairs)
        return same and len(self.losses) == len(recorded["losses"])


@dataclass
class Replay:
    """A bundle's step, taken again."""

    facts: Facts
    ranks: list[Retaken]
    weights: list[tuple[str, float]]
    """The largest weights, by name and magnitude."""
    couples: str
    """The reason why one process's batch does not give the loss of all; empty where it does."""

    @property
    def reproduced(self) -> bool:
        """Whether the step is not finite again, with the run's samples."""
        return any(not rank.finite for rank in self.ranks)


def retake(folder: str | Path, trust: Iterable[str] = ()) -> Replay:
    """Rebuilds method and data of a bundle, as any file's, and takes its step again: for several
    processes the part of each, one after the other.

    Args:
        folder: `nan-step-...` of a run folder.
        trust: further packages that the config inside may name.

    Raises:
        FileNotFoundError: the folder holds no bundle.
        ValueError: the bundle is damaged, names a class that is not trusted, or the data is not
            that of the run any more.
    """
    folder, trust = Path(folder), tuple(trust)
    facts = read_bundle(folder)
    checkpoint = read(folder / WEIGHTS)
    config, where = config_in(checkpoint, folder / WEIGHTS), repr(str(folder / WEIGHTS))
    if "data" not in config or not facts.position:
        raise ValueError(f"{str(folder)!r} is of a run on plain loaders, whose batches cannot be made again.")
    weights = checkpoint.get("state_dict")
    if not isinstance(weights, dict) or not all(isinstance(tensor, Tensor) for tensor in weights.values()):
        raise ValueError(f"{where} holds no weights (`state_dict`).")
    ranks = []
    for number in range(len(facts.processes)):
        method: Training = rebuild_for(weights, config["model"], Training, "a method", trust, where)
        data = rebuild(config["data"], trust, where=where)
        if not isinstance(data, SSLDataModule):
            raise ValueError(f"{where} holds the config of a {type(data).__name__}, which is not a datamodule.")
        ranks.append(_retake_rank(facts, number, method, data, weights))
    magnitudes = [(name, float(weight.detach().abs().max())) for name, weight in method.named_parameters()]
    magnitudes.sort(key=lambda pair: -pair[1])
    couples = getattr(method, "couples_samples", "") if len(ranks) > 1 else ""
    return Replay(facts, ranks, magnitudes[:3], couples)


def _retake_rank(
    facts: Facts, rank: int, method: Training, data: SSLDataModule, weights: Mapping[str, Tensor]
) -> Retaken:
    recorded, retaken, precision = facts.processes[rank], Retaken(), cast("Any", facts.precision)
    data.workers = 0
    plugin = pl.Trainer(
        accelerator="cpu", precision=precision, logger=False, enable_checkpointing=False,
        enable_progress_bar=False, enable_model_summary=False,
    ).precision_plugin  # fmt: skip
    trainer: Any = _stand_in(facts, rank, method, data, plugin)
    data.trainer, method.trainer = trainer, trainer
    data.setup("fit")
    method.setup("fit")
    data.load_state_dict(dict(facts.position))
    plugin.convert_module(method)
    method.load_state_dict(weights)  # in their precision
    batches = iter(data.train_dataloader())
    with _first_not_finite(method, retaken):
        for number in recorded["batches"]:
            batch = data.on_after_batch_transfer(next(batches), 0)
            retaken.samples.append(batch["index"].tolist())
            _look_at(batch, retaken)
            torch.manual_seed(mix(data.seed, int(number), rank))
            with plugin.forward_context():
                loss = method.step(batch)["loss"]
            retaken.losses.append(float(loss.detach()))
            if loss.requires_grad:
                (loss / len(recorded["batches"])).backward()
    named = [(name, each.grad) for name, each in method.named_parameters() if each.grad is not None]
    retaken.parameters = len(named)
    retaken.bad_gradients = [name for name, gradient in named if not bool(gradient.isfinite().all())]
    retaken.gradient_norm = (
        float(torch.stack([gradient.float().norm() for _, gradient in named]).norm()) if named else 0
    )
    return retaken


def _stand_in(facts: Facts, rank: int, method: Training, data: SSLDataModule, plugin: Any) -> Any:
    """What a method and its data ask of a trainer, as it was at the step, of a process that is
    alone here."""
    batches = SimpleNamespace(total=SimpleNamespace(processed=0))
    return SimpleNamespace(
        world_size=len(facts.processes), global_rank=rank, global_step=facts.step - 1,
        estimated_stepping_batches=facts.steps_planned, num_training_batches=facts.batches_an_epoch,
        accumulate_grad_batches=facts.accumulated, precision=facts.precision, precision_plugin=plugin,
        state=SimpleNamespace(fn="fit"), strategy=SimpleNamespace(root_device=torch.device("cpu")),
        fit_loop=SimpleNamespace(epoch_loop=SimpleNamespace(batch_progress=batches)),
        lightning_module=method, datamodule=data, callbacks=[], loggers=[],
    )  # fmt: skip


def _look_at(batch: Any, retaken: Retaken) -> None:
    """Notes which samples' views are not finite, and the largest value in the others."""
    for number, view in enumerate(batch["views"], 1):
        for row in rows_not_finite(view):
            index = int(batch["index"][row])
            before = retaken.bad_samples.get(index)
            retaken.bad_samples[index] = f"{before}, {number}" if before else f"view {number}"
        if view.x.is_floating_point():
            largest = float(view.x.nan_to_num(0.0, 0.0, 0.0).abs().max())
            retaken.largest_input = max(retaken.largest_input, largest)


@contextmanager
def _first_not_finite(method: nn.Module, retaken: Retaken) -> Iterator[None]:
    """Notes the first module, in the order of the computation, whose output is not finite."""

    def hook(name: str, module: nn.Module) -> Any:
        def look(_: nn.Module, __: Any, output: Any) -> None:
            if not retaken.module and any(not bool(part.isfinite().all()) for part in _tensors(output)):
                retaken.module = f"{name} ({type(module).__name__})"

        return look

    handles = [module.register_forward_hook(hook(name, module)) for name, module in method.named_modules() if name]
    try:
        yield
    finally:
        for handle in handles:
            handle.remove()


def _tensors(value: Any) -> list[Tensor]:
    if isinstance(value, Tensor):
        return [value] if value.is_floating_point() else []
    if isinstance(value, Mapping):
        value = list(value.values())
    return [each for part in value for each in _tensors(part)] if isinstance(value, (list, tuple)) else []
