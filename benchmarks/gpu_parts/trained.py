"""Training by `fit`, and by a loop as one writes it by hand, of the same modules."""

from __future__ import annotations

import copy
import tempfile
from collections.abc import Callable, Mapping
from typing import Any

import pytorch_lightning as pl
import torch
from common import quiet
from torch import nn

from ssl_lightning import SSLMethod, Trainer
from ssl_lightning.augment.random import mix
from ssl_lightning.evaluation.probes.held_out import HeldOut
from ssl_lightning.evaluation.probes.knn import KNNProbe
from ssl_lightning.evaluation.probes.linear import OnlineLinearProbe
from ssl_lightning.evaluation.report import Report
from ssl_lightning.types import Batch

from .clock import ACCELERATOR, DEVICE, autocast, now, timed


def without_probes() -> list[pl.Callback]:
    """The standing callbacks that cost what their budgets allow are off; the others run."""
    return [OnlineLinearProbe(False), KNNProbe(False), HeldOut(False), Report(False)]


def trainer(root: str, precision: Any, callbacks: list[pl.Callback], **settings: Any) -> Trainer:
    """A trainer on the one device, without checkpoints and bar."""
    return Trainer(
        accelerator=ACCELERATOR, devices=1, precision=precision, default_root_dir=root, callbacks=callbacks,
        enable_progress_bar=False, **{"enable_checkpointing": False, **settings},
    )  # fmt: skip


class Loop:
    """A training step of a method by hand, with the method's own `step`, optimizer, schedule,
    teachers and `after_update`.

    Args:
        method: a copy of it is trained.
        batch: ready on the device, the same in each step.
        precision: as Lightning names it.
        steps: of the whole training.
        exact: whether it does what `fit` does besides: seeds each step, and casts weights again
            where they are used again.
    """

    def __init__(self, method: SSLMethod, batch: Batch, precision: str, steps: int, exact: bool = False) -> None:
        self.method: Any = copy.deepcopy(method).to(DEVICE).train()  # a trainer leaves it on the CPU
        self.method.__class__ = known(type(method), self)
        self.batch, self.precision, self.steps, self.exact = batch, precision, steps, exact
        self.optimizer, self.schedule = method.optimizer_spec.build(self.method, len(batch["index"]), steps, steps)
        self.teachers, self.done = self.method.teachers, 0

    @property
    def progress(self) -> float:
        """Part of the training that is done."""
        return min(1.0, self.done / self.steps)

    def __call__(self) -> None:
        if self.exact:
            torch.manual_seed(mix(0, self.done, 0))
        with autocast(self.precision, cache=not self.exact):
            out = self.method.step(self.batch)
        self.optimizer.zero_grad()
        out["loss"].backward()
        self.optimizer.step()
        self.schedule.step()
        self.done += 1
        for teacher in self.teachers:
            teacher.update(self.progress)
        with torch.no_grad():
            self.method.after_update([out.get("state")])

    def without_update(self) -> None:
        """Forward and backward alone."""
        with autocast(self.precision):
            self.method.step(self.batch)["loss"].backward()
        self.method.zero_grad()


def known(cls: Any, loop: Loop) -> Any:
    """A method's class that asks the loop, in place of a trainer, how far the training is."""
    return type(cls.__name__, (cls,), {name: property(lambda _: loop.progress) for name in ("progress", "epochs_done")})


class PeerLoop:
    """A training step of another library's model by hand.

    Args:
        model: to train.
        loss: computes it.
        precision: as Lightning names it.
    """

    def __init__(self, model: nn.Module, loss: Callable[[], Any], precision: str) -> None:
        self.loss, self.precision = loss, precision
        weights = [weight for weight in model.train().parameters() if weight.requires_grad]
        self.optimizer = torch.optim.AdamW(weights, lr=1e-4, weight_decay=0.05, fused=True)

    def __call__(self) -> None:
        with autocast(self.precision):
            loss = self.loss()
        self.optimizer.zero_grad()
        loss.backward()
        self.optimizer.step()


class Turns:
    """A training loader that hands out one ready batch again and again, and before each block of
    steps of `fit` lets others work.

    Args:
        batch: ready on the device.
        others: a step of each.
        rounds: blocks that are timed, after one that is not.
        steps: in a block.
    """

    def __init__(self, batch: Batch, others: Mapping[str, Callable[[], Any]], rounds: int, steps: int) -> None:
        self.batch, self.others, self.steps = batch, others, steps
        self.batch_size = len(batch["index"])
        self.total = (rounds + 1) * steps + 1  # at the last the block before it has ended
        self.seconds: dict[str, list[float]] = {name: [] for name in ("fit", *others)}
        self.count, self.began = 0, 0.0

    def __len__(self) -> int:
        return self.total

    def __iter__(self) -> Turns:
        return self

    def __next__(self) -> Batch:
        if self.count % self.steps == 0:
            self.change()
        self.count += 1
        return self.batch

    def change(self) -> None:
        if self.count:
            self.seconds["fit"].append((now() - self.began) / self.steps)
        if self.count + 1 < self.total:
            for name, work in self.others.items():
                work()
                self.seconds[name].append(timed(work, self.steps))
        self.began = now()

    def rounds(self) -> dict[str, list[float]]:
        """Seconds a step of `fit` and of the others in each round after the first."""
        return {name: values[1:] for name, values in self.seconds.items()}


def against(
    method: SSLMethod, batch: Batch, precision: str, others: Mapping[str, Callable[[], Any]], rounds: int, steps: int
) -> dict[str, list[float]]:
    """Seconds a step of `fit`, of a loop by hand (`loop`) and of others, by turns."""
    turns = Turns(batch, others, rounds, steps)
    turns.others = {"loop": Loop(method, batch, precision, 2 * turns.total), **others}
    turns.seconds["loop"] = []
    fit(method, turns, precision)
    return turns.rounds()


def difference(method: SSLMethod, batch: Batch, precision: str, steps: int = 3) -> float:
    """Largest difference of a weight after some steps of `fit` and of the loop by hand, as a part
    of the largest weight of its tensor: 0 where operations are deterministic."""
    turns = Turns(batch, {}, 0, steps - 1)
    loop = Loop(method, batch, precision, turns.total, exact=True)
    for _ in range(turns.total):
        loop()
    fit(method, turns, precision)
    return apart(method.state_dict(), loop.method.state_dict())


def apart(one: Mapping[str, torch.Tensor], two: Mapping[str, torch.Tensor]) -> float:
    """Largest difference of two sets of tensors, as a part of the largest value of its tensor."""
    return max(
        float((value - other).abs().max() / value.abs().max().clamp(min=1e-12))
        for value, other in ((each.double().cpu(), two[name].double().cpu()) for name, each in one.items())
        if value.numel()
    )


def fit(method: SSLMethod, turns: Turns, precision: str) -> None:
    with tempfile.TemporaryDirectory(ignore_cleanup_errors=True) as root, quiet():
        trainer(root, precision, without_probes(), max_steps=turns.total).fit(method, train_dataloaders=turns)
