"""The base of all methods, which turns `step(batch)` into training."""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from pathlib import Path
from typing import Any, ClassVar

import torch
from lightning_fabric.utilities.exceptions import MisconfigurationException
from pytorch_lightning import LightningModule
from pytorch_lightning.utilities import rank_zero_warn
from pytorch_lightning.utilities.memory import recursive_detach
from torch import Tensor

from .augment.random import mix
from .data.datamodule import SSLDataModule
from .data.peek import try_encoder
from .distributed import row_counts, world_size
from .encoders.base import Encoder
from .encoders.kinds import check_encoder
from .nn.ema import EMA
from .nn.queue import FeatureQueue
from .optim.accumulation import WeightedBatches
from .optim.configure import configure_optimizer
from .optim.recipes import OptimizerSpec
from .optim.steps import StepWatch
from .plugins.record import Recorded
from .plugins.run_record import check_resume, record_run
from .run.lightning import batches_done, count_epoch, do_not_broadcast, trainer_of
from .types import Alarm, Batch, Step, View, ViewSpec

STEP_KEYS = frozenset(("loss", "embeddings", "logs", "state", "weight"))


class SSLMethod(Recorded, LightningModule):
    """A self-supervised method defines its input (`views`), what it adds to the encoder
    (`__init__`), and its loss (`step`).

    Optimizer, schedule, EMA updates, seeding, logging and probes are the framework's. Every
    argument after `encoder` is keyword-only and has a default, so that `Method(encoder)` always
    builds.

    Args:
        encoder: the network to pretrain.
        optimizer: a key of the class's `optimizer_specs`; None: the first, the paper's.
        lr: learning rate at the optimizer's reference batch size; None: the paper's.
        weight_decay: of weights, not of biases and norms; None: the paper's.
        warmup_epochs: epochs of linear warm-up, at most a tenth of the run; None: the paper's.
    """

    views: ViewSpec = ViewSpec()
    optimizer_specs: ClassVar[dict[str, OptimizerSpec]] = {"adamw": OptimizerSpec("adamw", lr=1e-3, weight_decay=1e-4)}
    """The paper's optimizer settings, as data; the first is the default."""
    couples_samples: str = ""
    """The reason why several small batches do not give the loss of a large one ("its negatives come
    from the same batch"), with which `accumulate_grad_batches` is refused; empty where they do."""

    suited_encoder_args: ClassVar[dict[str, Any]] = {}
    """Encoder arguments that the method needs, used as defaults: `{"causal": True}`."""

    alarms: tuple[Alarm, ...] = ()
    """Bounds of the values in `logs` in a healthy run, with the remedies."""
    reads_padding: ClassVar[bool] = True
    """Whether the loss does not depend on padding in views (`View.segment`); otherwise data that
    would pad is refused."""
    supervised: ClassVar[bool] = False
    """Whether `step` reads the labels; the data then serves labelled samples alone."""

    def __init__(
        self,
        encoder: Encoder,
        *,
        optimizer: str | None = None,
        lr: float | None = None,
        weight_decay: float | None = None,
        warmup_epochs: float | None = None,
    ) -> None:
        super().__init__()
        check_encoder(type(self), encoder)
        self.encoder = encoder
        name = optimizer or next(iter(self.optimizer_specs))
        if name not in self.optimizer_specs:
            raise ValueError(
                f"{type(self).__name__} has no settings for optimizer {name!r}; choose from"
                f" {', '.join(self.optimizer_specs)}."
            )
        self.optimizer_spec = self.optimizer_specs[name].with_changes(
            lr=lr, weight_decay=weight_decay, warmup_epochs=warmup_epochs
        )
        self._states: list[Any] = []
        self._weighted = WeightedBatches()
        self._planned_steps: int | None = None

    # What an author writes.

    @property
    def views_a_step(self) -> float:
        """Cost of a training step in full views of a sample, forward and backward; the budget of
        probes is a part of it."""
        return self.views.full + self.views.clean + self.views.local / 4

    def step(self, batch: Batch) -> Step:
        """Computes the loss of a batch; the heart of a method."""
        raise NotImplementedError(f"{type(self).__name__} must define step(batch).")

    def after_update(self, states: list[Any]) -> None:
        """Updates queues, prototypes, centres. The framework calls it once after each optimizer
        step, unless float16 gradients overflow and the step is skipped.

        Args:
            states: the `state` that `step` returned (None where it gave none), of each batch since
                the last optimizer step: one, or as many as are accumulated.
        """

    def pictures(self, batch: Batch) -> dict[str, Tensor]:
        """Outputs of the network for a batch, to look at when a run ends: by caption, tensors like
        a view's `x` (MAE's reconstructions). Most methods have none."""
        return {}

    def scores(self, batches: Iterable[Batch]) -> dict[str, Tensor]:
        """Measures the method at its pretraining task, in scalars by which runs with other settings
        can be compared. It is called in eval mode with the batches of held-out samples, of which
        each process has a share; logged as `held_out/<name>`. Most methods have none."""
        return {}

    def export(self, folder: Path, artifacts: Mapping[str, str]) -> str:
        """Writes the trained method into a folder in a form that another library loads, and gives
        the line that says how (`ssl-lightning export`). Most methods have none.

        Args:
            folder: to write.
            artifacts: of the run, such as the text of its `tokenizer.json`.
        """
        raise NotImplementedError(f"{type(self).__name__} has no other form to be exported to.")

    @property
    def backbone(self) -> Encoder:
        """The network that the paper says to keep; exported, probed and called by `forward`."""
        return self.encoder

    def forward(self, view: View) -> Tensor:
        """View of S samples -> features [S, dim] of the network to keep."""
        return self.backbone(view)

    # What the framework does with it.

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
        outside of a run."""
        trainer = trainer_of(self)
        if trainer is None:
            return 0.0
        return float(min(1.0, trainer.global_step / max(1, trainer.estimated_stepping_batches)))

    @property
    def has_scores(self) -> bool:
        """Whether the method defines `scores`."""
        return type(self).scores is not SSLMethod.scores

    @property
    def teachers(self) -> list[EMA]:
        """Every EMA teacher that the method built."""
        return [module for module in self.modules() if isinstance(module, EMA)]

    def setup(self, stage: str) -> None:
        """Refuses, before anything is written, what would fail at the first step or change the loss
        in silence."""
        data = getattr(self.trainer, "datamodule", None)
        if isinstance(data, SSLDataModule):
            data.meet(self)
            try_encoder(self.backbone, data, self.device, local=stage == "fit" and self.views.local > 0)
        queues = [name for name, module in self.named_modules() if isinstance(module, FeatureQueue)]
        do_not_broadcast(self, [f"{name}.features" for name in queues])  # equal everywhere: megabytes a step saved
        if stage == "fit" and self.couples_samples and self.trainer.accumulate_grad_batches > 1:
            raise MisconfigurationException(
                f"accumulate_grad_batches={self.trainer.accumulate_grad_batches} changes the loss of"
                f" {type(self).__name__}: {self.couples_samples}. Use a larger batch_size, or more processes: they"
                " share their negatives."
            )

    def on_fit_start(self) -> None:
        self._teachers = self.teachers
        self._seed = int(getattr(getattr(self.trainer, "datamodule", None), "seed", 0))

    def on_train_start(self) -> None:
        planned, total = self._planned_steps, self.trainer.estimated_stepping_batches
        if planned not in (None, total):
            rank_zero_warn(
                f"The run was planned for {planned:,} steps and goes on to {total:,}: its learning-rate schedule"
                " changes with it."
            )

    def on_train_batch_start(self, batch: Any, batch_idx: int) -> None:
        """Seeds the default generators from (seed, batches done, rank), so that no generator's
        state need be saved."""
        count_epoch(self.trainer)
        seed = mix(self._seed, batches_done(self.trainer), self.global_rank)
        torch.default_generator.manual_seed(seed)
        if self.device.type == "cuda":
            torch.cuda.manual_seed(seed)

    def training_step(self, batch: Batch, batch_idx: int) -> dict[str, Any]:
        out: dict[str, Any] = dict(self.step(batch))
        if not out.keys() <= STEP_KEYS or "loss" not in out:
            raise ValueError(
                f"{type(self).__name__}.step returned the keys {sorted(out)}; it must return 'loss', and may return "
                "'embeddings', 'logs' (a dict of scalars), 'state' (for after_update) and 'weight'."
            )
        # Whatever is kept of a step, its graph is not: it would hold the step's activations.
        kept = recursive_detach({key: value for key, value in out.items() if key != "loss"})
        self._states.append(kept.get("state"))
        loss, weight = out["loss"], None
        if "weight" in kept and (self.trainer.world_size > 1 or self.trainer.accumulate_grad_batches > 1):
            weight = kept["weight"].float()
            loss = self._weighted.weigh(loss, weight)
        return {
            "loss": loss,
            "embeddings": kept.get("embeddings"),
            "logs": kept.get("logs", {}),
            "weight": weight,
        }

    def optimizer_step(self, epoch: int, batch_idx: int, optimizer: Any, optimizer_closure: Any = None) -> None:
        def closure() -> Any:
            result = optimizer_closure()
            self._weighted.divide_gradients(self.parameters(), self.trainer.accumulate_grad_batches)
            return result

        with StepWatch(optimizer) as watch:
            super().optimizer_step(epoch, batch_idx, optimizer, closure)
        states, self._states = self._states, []
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
        labels = {"label": batch["label"]} if "label" in batch else {}
        return {"features": self(batch["views"][0]), **labels}

    def test_step(self, batch: Batch, batch_idx: int) -> dict[str, Tensor]:
        return self.validation_step(batch, batch_idx)

    def predict_step(self, batch: Batch, batch_idx: int) -> dict[str, Tensor]:
        return {"features": self(batch["views"][0]), "index": batch["index"]}

    # Checkpoints.

    def on_save_checkpoint(self, checkpoint: dict[str, Any]) -> None:
        record_run(self, checkpoint)

    def on_load_checkpoint(self, checkpoint: dict[str, Any]) -> None:
        check_resume(self, checkpoint)
        self._planned_steps = checkpoint.get("resolved", {}).get("steps")
