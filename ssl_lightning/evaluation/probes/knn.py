"""Online k-nearest-neighbour accuracy."""

from __future__ import annotations

from typing import Any, Literal

from ...plugins.arguments import require
from ...run.folder.metrics import log_metrics
from ..measures import class_weights
from ..protocol import knn_predict
from .base import Probe


class KNNProbe(Probe):
    """Measures the accuracy of weighted k nearest neighbours in the features: what the encoder
    knows without any further learning. Every class counts alike: votes are divided by its share in
    the bank, and the accuracy is the mean over classes.

    Wu et al., Unsupervised Feature Learning via Non-Parametric Instance Discrimination (2018),
    arXiv 1805.01978, Section 3.4. Logged as `probe/knn/top1`, for a further set as
    `probe/<set>/knn/top1`; of two classes also the area under the ROC curve, as `.../auroc`.

    Args:
        enabled: whether to run.
        k: neighbours.
        temperature: of their votes, exp(cosine / temperature).
        bank: at most this many labelled training samples are embedded, by the test transform.
        queries: at most this many labelled validation samples are classified.
        every_n_steps: optimizer steps between two evaluations; "auto" makes them cost about
            `budget` of the training.
        budget: the share of the training's forward and backward passes that "auto" may cost; with
            the linear probe's, 5 %.

    Raises:
        ValueError: an argument is out of range.
    """

    key = "knn_probe"
    metric = "knn/top1"

    def __init__(
        self,
        enabled: bool = True,
        k: int = 20,
        temperature: float = 0.07,
        bank: int = 10_000,
        queries: int = 5_000,
        every_n_steps: int | Literal["auto"] = "auto",
        budget: float = 0.03,
    ) -> None:
        super().__init__(enabled, every_n_steps, budget)
        require(self, at_least=1, k=k, bank=bank, queries=queries)
        require(self, above=0, temperature=temperature)
        self.k, self.temperature, self.bank, self.queries = k, temperature, bank, queries

    @property
    def settings(self) -> dict[str, Any]:
        return {"k": self.k, "temperature": self.temperature, "metric": "cosine"}

    def on_train_start(self, trainer: Any, pl_module: Any) -> None:
        self.find_sets(trainer, self.bank, self.queries)
        passes = sum(len(labelled.train_index) + len(labelled.val_index) for labelled in self.sets.values())
        auto = self.cadence(trainer, passes, self.budget) if self.sets else 0
        self.period = auto if self.every_n_steps == "auto" or not self.sets else self.every_n_steps

    def on_train_batch_end(self, trainer: Any, pl_module: Any, outputs: Any, batch: Any, batch_idx: int) -> None:
        if not self.due(trainer, batch_idx):
            return
        for prefix, labelled in self.sets.items():
            bank = labelled.embed(labelled.train, labelled.train_index, trainer, pl_module)
            queries = labelled.embed(labelled.val, labelled.val_index, trainer, pl_module)
            votes = knn_predict(
                bank, labelled.train_labels.to(bank.device), queries, labelled.num_classes, self.k, self.temperature
            )
            weights = class_weights(labelled.train_labels, labelled.num_classes).to(votes.device)
            log_metrics(trainer, labelled.measures(votes * weights, f"probe/{prefix}{self.metric}"))
