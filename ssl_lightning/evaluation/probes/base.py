"""What probes share: which labelled sets there are, when to look, and what to log."""

from __future__ import annotations

from typing import Any, Literal

from torch import Tensor
from torchmetrics.classification import MulticlassAccuracy

from ...data.datamodule import SSLDataModule
from ...data.peek import embed, sample
from ...data.sources import Source, labels_of
from ...distributed import rank, world_size
from ...plugins.record import class_path
from ...run.lightning import updated
from ...run.standing import Standing

COST_OF_STEP = 3.0
"""Forward passes that a training step costs for each view of a sample: forward, and backward at
twice that."""


class Labelled:
    """One labelled set under a probe: the samples it learns from and those it is judged by."""

    def __init__(self, data: SSLDataModule, most_train: int | None, most_val: int | None) -> None:
        splits = data.probe_splits()
        if splits is None:
            raise ValueError(f"{type(data).__name__} has no labels to probe on.")
        self.data = data
        self.train, self.val = splits
        self.train_index, self.val_index = sample(len(self.train), most_train), sample(len(self.val), most_val)
        self.train_labels, self.val_labels = (
            labels_of(self.train)[self.train_index],
            labels_of(self.val)[self.val_index],
        )
        self.num_classes = int(max(self.train_labels.max(), self.val_labels.max())) + 1

    def embed(self, source: Source, index: Tensor, trainer: Any, network: Any) -> Tensor:
        """Features [M, D] of some of its samples, by the network that trains, on its device and in
        its precision."""
        return embed(network, self.data, source, index, network.device, trainer.precision_plugin.forward_context)

    def accuracy(self, scores: Tensor) -> float:
        """Top-1 accuracy of scores [M, K] for the samples it is judged by, by torchmetrics, reduced
        over processes."""
        metric = MulticlassAccuracy(self.num_classes, average="micro").to(scores.device)
        share = slice(rank(), None, world_size())
        metric.update(scores[share], self.val_labels[share].to(scores.device))
        return float(metric.compute())


class Probe(Standing):
    """A callback that looks every so many steps, right after the update and before the checkpoint
    of that step.

    Args:
        enabled: whether to run.
        every_n_steps: optimizer steps between two looks; "auto" makes them cost about `budget` of
            the training.
        budget: the share of the training's forward and backward passes that "auto" may cost.
    """

    def __init_subclass__(cls, **kwargs: Any) -> None:
        key = vars(cls).get("key", class_path(cls))  # of other packages' probes
        super().__init_subclass__(**kwargs)
        cls.key = key

    def __init__(self, enabled: bool, every_n_steps: int | Literal["auto"], budget: float) -> None:
        if every_n_steps != "auto" and every_n_steps < 1:
            raise ValueError(f"{type(self).__name__}(every_n_steps={every_n_steps}) must be at least 1, or 'auto'.")
        if not 0 < budget <= 1:
            raise ValueError(
                f"{type(self).__name__}(budget={budget}) is a share of the training; give a number in (0, 1]."
            )
        self.enabled = enabled
        self.every_n_steps = every_n_steps
        self.budget = budget
        self.period = 0
        self.sets: dict[str, Labelled] = {}

    def cadence(self, trainer: Any, passes: float, budget: float) -> int:
        """Steps after which `passes` forward passes cost `budget` of the training. A pure function
        of sizes, never of a clock, so that a resumed run looks at the same steps."""
        data = trainer.datamodule
        # Where samples are read from files, reading one costs a probe what it costs the training.
        of_sample = COST_OF_STEP * trainer.lightning_module.views_a_step if data.training_split.in_memory else 1.0
        of_step = data.batch_size * trainer.accumulate_grad_batches * of_sample
        return max(1, int(-(-passes // (budget * of_step))))

    def find_sets(self, trainer: Any, most_train: int | None, most_val: int | None) -> None:
        data = trainer.datamodule
        if self.enabled and isinstance(data, SSLDataModule) and not trainer.lightning_module.supervised:
            self.sets = {prefix: Labelled(each, most_train, most_val) for prefix, each in data.probed().items()}

    def due(self, trainer: Any, batch_idx: int) -> bool:
        """Whether this step is one to look at: each `period`-th, and the run's last."""
        if not self.period or not updated(trainer):
            return False
        return trainer.global_step % self.period == 0 or self.at_end(trainer, batch_idx)

    def at_end(self, trainer: Any, batch_idx: int) -> bool:
        """Whether this step is the run's last, as planned."""
        if trainer.global_step == trainer.max_steps:
            return True
        return batch_idx + 1 == trainer.num_training_batches and trainer.current_epoch + 1 == trainer.max_epochs
