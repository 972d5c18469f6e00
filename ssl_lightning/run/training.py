"""A method's `step` becomes training: what every run does with a method, in Lightning's hooks."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from contextlib import AbstractContextManager, nullcontext, suppress
from dataclasses import replace
from math import isfinite
from typing import Any

import torch
from lightning_fabric.utilities.exceptions import MisconfigurationException
from pytorch_lightning import LightningModule
from pytorch_lightning.utilities import rank_zero_warn
from pytorch_lightning.utilities.memory import recursive_detach
from torch import Tensor, nn

from ..augment.random import mix
from ..data.datamodule import SSLDataModule
from ..data.peek import try_encoder
from ..distributed import row_counts, world_size
from ..encoders.base import Encoder
from ..nn.convolution import narrow_in_float32
from ..nn.ema import EMA
from ..nn.heads import Head
from ..nn.precision import cast
from ..nn.queue import FeatureQueue
from ..optim.accumulation import WeightedLosses
from ..optim.configure import configure_optimizer
from ..optim.finite import LeftOut, carried_by_gradients
from ..optim.recipes import OptimizerSpec
from ..optim.steps import StepWatch
from ..plugins.record import Recorded
from ..plugins.run_record import check_resume, record_run
from ..types import Batch, Step, View, ViewSpec
from .compiling import Compiled
from .folder.mismatch import check_shapes
from .lightning import batches_done, count_epoch, do_not_broadcast, trainer_of
from .numbers.guard import Guard
from .settings.length import check_length
from .settings.monitors import Monitors
from .settings.precision import check_precision

STEP_KEYS = frozenset(("loss", "losses", "embeddings", "logs", "state", "weight"))


class Training(Recorded, LightningModule):
    """Trains, evaluates and checkpoints a method; `SSLMethod` adds what its author writes."""

    views: ViewSpec
    couples_samples: str
    moves_rows: str
    optimizer_spec: OptimizerSpec
    compiles: bool
    step: Callable[[Batch], Step]
    after_update: Callable[[list[Any]], None]

    def __init__(self) -> None:
        super().__init__()
        self._states: list[Any] = []
        self._weighted = WeightedLosses()
        self._planned_steps: int | None = None
        self._compiled: AbstractContextManager[None] = nullcontext()
        self._guard: Guard | None = None

    @property
    def backbone(self) -> Encoder:
        """The network that the paper says to keep; exported, probed and called by `forward`."""
        raise NotImplementedError

    def layer_groups(self) -> list[list[nn.Parameter]]:
        """The encoder's parameters by layer, for `layer_decay`; heads have the full rate."""
        return self.backbone.layer_groups()

    # What a method may ask while it trains.

    def row_counts(self, x: Tensor) -> list[int]:
        """Number of rows of x, one a sample, on each process, in the order of ranks. A datamodule
        shares its batches out equally, so that it is known; elsewhere the processes exchange it,
        and wait."""
        data = getattr(trainer_of(self), "datamodule", None)
        return [len(x)] * world_size() if isinstance(data, SSLDataModule) else row_counts(x)

    @property
    def epochs_done(self) -> float:
        """Number of epochs that the run has done, counted in optimizer steps, so that a resumed run
        agrees; 0 outside of a run."""
        trainer = trainer_of(self)
        if trainer is None:
            return 0.0
        steps_an_epoch = trainer.num_training_batches / trainer.accumulate_grad_batches
        return float(trainer.global_step / steps_an_epoch) if steps_an_epoch else 0.0

    @property
    def progress(self) -> float:
        """Part of the run that is done, counted in optimizer steps, so that a resumed run agrees; 0
        outside of a run, as in `validate`."""
        trainer = trainer_of(self)
        if trainer is None or trainer.state.fn != "fit":
            return 0.0
        return float(min(1.0, trainer.global_step / max(1, trainer.estimated_stepping_batches)))

    @property
    def left_out(self) -> bool:
        """Whether the optimizer step that ends was left out, since it was not finite."""
        return self._guard is not None and bool(self._guard.health.left_out)

    @property
    def gradient_lengths(self) -> list[Tensor]:
        """The lengths of the gradients of the last step, before they were clipped; empty where they
        were not looked at, and where the step was left out."""
        return [] if self._guard is None else self._guard.lengths

    def check_finite(self) -> None:
        """Raises `NotFinite` where the run's last steps, or its weights, are not finite. Every
        process must call it."""
        if self._guard is not None:
            self._guard.check_weights(self.state_dict())

    def forward(self, view: View) -> Tensor:
        """View of S samples -> features [S, dim] of the network to keep."""
        return self.backbone(cast(view, self.backbone))

    # Training.

    @property
    def teachers(self) -> list[EMA]:
        """Every EMA teacher that the method built."""
        return [module for module in self.modules() if isinstance(module, EMA)]

    def setup(self, stage: str) -> None:
        """Refuses, before anything is written, what would fail at the first step or change the loss
        in silence."""
        check_precision(self.trainer, stage)
        narrow_in_float32(self)
        data = getattr(self.trainer, "datamodule", None)
        if isinstance(data, SSLDataModule):
            data.meet(self)
            try_encoder(self.backbone, data, local=stage == "fit" and self.views.local > 0)
        if stage == "fit" and self.moves_rows and self.trainer.world_size > 1 and not getattr(data, "rows_alike", True):
            raise MisconfigurationException(
                f"{type(self).__name__} moves rows of views between processes, and those of {type(data).__name__}"
                f" differ in length or hold several samples. {self.moves_rows}"
            )
        queues = [name for name, module in self.named_modules() if isinstance(module, FeatureQueue)]
        do_not_broadcast(self, [f"{name}.features" for name in queues])  # equal everywhere: megabytes a step saved
        if stage == "fit" and self.couples_samples and self.trainer.accumulate_grad_batches > 1:
            raise MisconfigurationException(
                f"accumulate_grad_batches={self.trainer.accumulate_grad_batches} changes the loss of"
                f" {type(self).__name__}: {self.couples_samples}. Use a larger batch_size, or more processes: they"
                " share their negatives."
            )
        if stage == "fit":
            for callback in getattr(self.trainer, "callbacks", ()):
                if isinstance(callback, Monitors):
                    callback.follow(self.trainer, self)

    def on_fit_start(self) -> None:
        self._states, self._weighted = [], WeightedLosses()  # a fit may have ended between two optimizer steps
        self._teachers = self.teachers
        data = getattr(self.trainer, "datamodule", None)
        self._compiled = Compiled(self) if self.compiles else nullcontext()
        if self.compiles and isinstance(data, SSLDataModule):
            data.compiled = Compiled(*data.transforms)
        self._seed = int(getattr(data, "seed", 0))
        self._guard = Guard(self, self.trainer)

    def on_train_start(self) -> None:
        planned, total = self._planned_steps, self.trainer.estimated_stepping_batches
        if 0 < total < self.trainer.global_step:
            raise MisconfigurationException(
                f"The checkpoint is of step {self.trainer.global_step:,}, and max_epochs={self.trainer.max_epochs} are"
                f" {total:,} steps of this batch size: no learning rate is left for the epochs to come. Give the batch"
                " size of the checkpoint, or max_steps in place of max_epochs."
            )
        if planned not in (None, total):
            before, now = (f"{each:,} steps" if isfinite(each) else "a time" for each in (planned, total))
            rank_zero_warn(
                f"The run was planned for {before} and goes on to {now}: its learning-rate schedule changes with it."
            )
        if isfinite(total):  # `Pace` plans it otherwise, and checks it then
            check_length(self.trainer, self)
        self.backbone.taught = True  # for a later fit

    def on_train_batch_start(self, batch: Any, batch_idx: int) -> None:
        """Seeds the default generators from (seed, batches done, rank), so that no generator's
        state need be saved."""
        count_epoch(self.trainer)
        seed = mix(self._seed, batches_done(self.trainer), self.global_rank)
        torch.default_generator.manual_seed(seed)
        if self.device.type == "cuda":
            torch.cuda.manual_seed(seed)

    def training_step(self, batch: Batch, batch_idx: int) -> dict[str, Any]:
        guard = self._guard
        if guard is not None:
            guard.begin(batch)
        with self._compiled:
            out: dict[str, Any] = dict(self.step(batch))
        if not out.keys() <= STEP_KEYS or "loss" not in out:
            raise ValueError(
                f"{type(self).__name__}.step returned the keys {sorted(out)}; it must return 'loss', and may return "
                "'embeddings', 'logs' (a dict of scalars), 'state' (for after_update), 'weight', and 'losses' (with a"
                " weight each)."
            )
        # Whatever is kept of a step, its graph is not: it would hold the step's activations.
        kept = recursive_detach({key: value for key, value in out.items() if key not in ("loss", "losses")})
        self._states.append(kept.get("state"))
        loss, weight = out["loss"], kept.get("weight")
        named: Mapping[str, Any] = out.get("losses", {})
        losses = named or {"loss": (loss, weight)}
        if guard is not None:
            guard.note(loss)
        if self.trainer.world_size > 1 or self.trainer.accumulate_grad_batches > 1:
            loss = self._weighted.weigh(list(losses.values()), self.trainer.accumulate_grad_batches)
        if guard is not None and guard.on:
            loss = carried_by_gradients(loss)
        return {
            "loss": loss,
            "losses": recursive_detach(dict(losses)),
            "embeddings": kept.get("embeddings"),
            "logs": {**kept.get("logs", {}), **{name: each.detach() for name, (each, _) in named.items()}},
            "weight": weight,
        }

    def backward(self, loss: Tensor, *args: Any, **kwargs: Any) -> None:
        scaler = None if self._guard is None else self._guard.scaler
        self._weighted.differentiate(self.parameters(), (lambda each: each) if scaler is None else scaler.scale)
        super().backward(loss, *args, **kwargs)

    def optimizer_step(self, epoch: int, batch_idx: int, optimizer: Any, optimizer_closure: Any = None) -> None:
        guard = self._guard

        def closure() -> Any:
            result = optimizer_closure()
            self._weighted.finish(self.parameters(), self.trainer.accumulate_grad_batches)
            if guard is not None:
                guard.look(optimizer)
            return result

        with StepWatch(optimizer, scaled=guard is not None and guard.scaler is not None) as watch, suppress(LeftOut):
            super().optimizer_step(epoch, batch_idx, optimizer, closure)
        states, self._states = self._states, []
        if guard is not None:
            guard.end(optimizer, watch.stepped)
        if not states or not watch.stepped:
            return
        for teacher in self._teachers:
            teacher.update(self.progress)
        with torch.no_grad():
            self.after_update(states)

    def configure_optimizers(self) -> Any:
        return configure_optimizer(self.optimizer_spec, self, self.trainer)

    # Evaluation: the labelled splits of validate and test, and the vectors of predict.

    def validation_step(self, batch: Batch, batch_idx: int) -> dict[str, Tensor]:
        known = {name: value for name, value in batch.items() if name in ("label", "sample")}
        return {"features": self(batch["views"][0]), **known}

    def test_step(self, batch: Batch, batch_idx: int) -> dict[str, Tensor]:
        return self.validation_step(batch, batch_idx)

    def predict_step(self, batch: Batch, batch_idx: int) -> dict[str, Tensor]:
        windows = {"sample": batch["sample"]} if "sample" in batch else {}
        return {"features": self(batch["views"][0]), "index": windows.get("sample", batch["index"]), **windows}

    # Checkpoints.

    def __getstate__(self) -> dict[str, Any]:
        return {**super().__getstate__(), "_guard": None}  # a copy is not watched

    def on_save_checkpoint(self, checkpoint: dict[str, Any]) -> None:
        if self._guard is not None:
            self._guard.check_weights(checkpoint["state_dict"])
        record_run(self, checkpoint)

    def on_load_checkpoint(self, checkpoint: dict[str, Any]) -> None:
        check_resume(self, checkpoint)
        weights = checkpoint.get("state_dict") or {}
        for name, head in self.named_modules():
            if isinstance(head, Head):
                head.follow({key.removeprefix(f"{name}.") for key in weights if key.startswith(f"{name}.")})
        check_shapes(self, checkpoint)
        resolved = checkpoint.get("resolved", {})
        self._planned_steps = resolved.get("steps")
        spec = self.optimizer_spec
        before = {"schedule": "cosine" if spec.schedule == "linear" else spec.schedule, "recipe_epochs": None}
        self.optimizer_spec = replace(spec, **resolved.get("schedule", before))  # a run goes on as it began
