"""What probes share: which labelled sets there are, and when to evaluate."""

from __future__ import annotations

import math
from collections.abc import Iterable
from typing import Any, ClassVar, Literal

from torch import Tensor

from ...data.datamodule import SSLDataModule
from ...data.peek import embed
from ...data.sources import Source, labels_of, stratified_sample
from ...plugins.arguments import require
from ...plugins.record import class_path
from ...run.lightning import updated
from ...run.standing import Standing
from ..measures import balanced, outcome

COST_OF_STEP = 3.0
"""Forward passes that a training step costs for each view of a sample: forward, and backward at
twice that."""


class Labelled:
    """A labelled set under a probe: the samples it learns from, and those it is judged on.

    Args:
        data: the datamodule whose labelled splits they are.
        most_train: at most this many training samples; None: all.
        most_val: at most this many validation samples; None: all.

    Raises:
        ValueError: the data has no labels.
    """

    def __init__(self, data: SSLDataModule, most_train: int | None, most_val: int | None) -> None:
        splits = data.probe_splits()
        if splits is None:
            raise ValueError(f"{type(data).__name__} has no labels to probe on.")
        self.data = data
        self.train, self.val = splits
        self.train_index = stratified_sample(labels_of(self.train), most_train)
        self.val_index = stratified_sample(labels_of(self.val), most_val)
        self.train_labels = labels_of(self.train)[self.train_index]
        self.val_labels = labels_of(self.val)[self.val_index]
        self.num_classes = max(2, int(max(self.train_labels.max(), self.val_labels.max())) + 1)

    def embed(self, source: Source, index: Tensor, trainer: Any, network: Any) -> Tensor:
        """Embeds some of its samples by the network that trains, on its device and in its
        precision.

        Args:
            source: `self.train` or `self.val`.
            index: [M] which of its samples.
            trainer: whose precision is used.
            network: the method.

        Returns:
            Features [M, D], float32.
        """
        return embed(network, self.data, source, index, network.device, trainer.precision_plugin.forward_context)

    def measures(self, scores: Tensor, metric: str) -> dict[str, float]:
        """Computes the balanced accuracy of scores [M, K] for the samples it is judged on, in which
        every class counts alike, and of two classes the area under the ROC curve. Each process has
        the scores of all samples.

        Args:
            scores: the larger, the more probable is the class.
            metric: the name of the accuracy.
        """
        seen = outcome(scores.cpu(), self.val_labels)
        values = {metric: balanced(seen.hits, self.val_labels)}
        return values if math.isnan(seen.auroc) else values | {area_of(metric): seen.auroc}


class Probe(Standing):
    """A callback that evaluates the network every so many steps, right after the update and before
    the checkpoint of that step.

    Args:
        enabled: whether to run.
        every_n_steps: optimizer steps between two evaluations; "auto" makes them cost about
            `budget` of the training.
        budget: the share of the training's forward and backward passes that "auto" may cost.

    Raises:
        ValueError: every_n_steps is neither "auto" nor at least 1, or budget lies outside (0, 1].
    """

    metric: ClassVar[str] = ""
    """The name of what it logs of each labelled set, after `probe/<set>/`."""

    def __init_subclass__(cls, **kwargs: Any) -> None:
        key = vars(cls).get("key", class_path(cls))  # of other packages' probes
        super().__init_subclass__(**kwargs)
        cls.key = key

    def __init__(self, enabled: bool, every_n_steps: int | Literal["auto"], budget: float) -> None:
        require(self, at_least=1, every_n_steps=None if every_n_steps == "auto" else every_n_steps)
        require(self, above=0, at_most=1, budget=budget)
        self.enabled = enabled
        self.every_n_steps = every_n_steps
        self.budget = budget
        self.reset()

    def reset(self) -> None:
        self.period = 0
        self.sets: dict[str, Labelled] = {}

    def cadence(self, trainer: Any, passes: float, budget: float) -> int:
        """Computes after how many steps `passes` forward passes cost `budget` of the training. The
        number depends on sizes, never on a clock, so that a resumed run looks at the same steps.

        Args:
            passes: forward passes of one sample in an evaluation.
            budget: the share of the training that they may cost.
        """
        data = trainer.datamodule
        # Where samples are read from files, reading one costs a probe what it costs the training.
        of_sample = COST_OF_STEP * trainer.lightning_module.views_a_step if data.training_split.in_memory else 1.0
        of_step = data.batch_size * trainer.accumulate_grad_batches * of_sample
        return max(1, int(-(-passes // (budget * of_step))))

    @property
    def settings(self) -> dict[str, Any]:
        """What its values depend on besides the samples, in plain values, for their stamp."""
        return {}

    def find_sets(self, trainer: Any, most_train: int | None, most_val: int | None) -> None:
        """Looks up the labelled sets of the run's data: none where the method learns from labels
        itself."""
        data = trainer.datamodule
        if self.enabled and isinstance(data, SSLDataModule) and not trainer.lightning_module.supervised:
            self.sets = {prefix: Labelled(each, most_train, most_val) for prefix, each in data.probed().items()}

    def names_logged(self, trainer: Any, pl_module: Any) -> Iterable[str]:
        data = trainer.datamodule
        if not self.enabled or not self.metric or not isinstance(data, SSLDataModule) or pl_module.supervised:
            return []
        names = {f"probe/{prefix}{self.metric}": each.num_classes for prefix, each in data.probed().items()}
        return [*names, *(area_of(name) for name, classes in names.items() if classes == 2)]

    def due(self, trainer: Any, batch_idx: int) -> bool:
        """Whether the network is evaluated at this step: each `period`-th, and the run's last."""
        if not self.period or not updated(trainer):
            return False
        return trainer.global_step % self.period == 0 or at_end(trainer, batch_idx)


def area_of(metric: str) -> str:
    """The name of the area under the ROC curve, beside that of an accuracy: `probe/knn/auroc`."""
    return f"{metric.rpartition('/')[0]}/auroc"


def at_end(trainer: Any, batch_idx: int) -> bool:
    """Whether this step is the run's last, as planned."""
    if trainer.global_step == trainer.max_steps:
        return True
    return batch_idx + 1 == trainer.num_training_batches and trainer.current_epoch + 1 == trainer.max_epochs
