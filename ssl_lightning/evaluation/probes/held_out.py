"""How good a method is at its own task, on samples that it does not train on."""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Mapping
from typing import Any, Literal

import torch
from torch import Tensor

from ...data.datamodule import SSLDataModule
from ...data.peek import evaluating, peek, sample
from ...distributed import rank, world_size
from ...plugins.arguments import require
from ...run.folder.metrics import log_metrics
from ...types import Batch
from .base import Probe

GROUP = "held_out/"
"""Before the names of these metrics."""
SAMPLES = 1_000
"""At most this many are scored."""


class HeldOut(Probe):
    """Scores of the method's own task (`SSLMethod.scores`) on samples that are withheld from
    training, in eval mode: BERT's loss, accuracy and perplexity at 15 % of the tokens. Logged as
    `held_out/<name>`.

    Their masks and other random numbers are the same at every evaluation. There are no scores
    for data that withholds nothing (`Splits.held_out`), and for methods that define none.

    Args:
        enabled: whether to run.
        samples: at most this many are scored.
        every_n_steps: optimizer steps between two evaluations; "auto" makes them cost about
            `budget` of the training.
        budget: the share of the training's forward and backward passes that "auto" may cost.

    Raises:
        ValueError: an argument is out of range.
    """

    key = "held_out"

    def __init__(
        self,
        enabled: bool = True,
        samples: int = SAMPLES,
        every_n_steps: int | Literal["auto"] = "auto",
        budget: float = 0.01,
    ) -> None:
        super().__init__(enabled, every_n_steps, budget)
        require(self, at_least=1, samples=samples)
        self.samples = samples

    def on_train_start(self, trainer: Any, pl_module: Any) -> None:
        data = trainer.datamodule
        if not self.enabled or not pl_module.has_scores or not isinstance(data, SSLDataModule) or data.held_out is None:
            return
        self.index = sample(len(data.held_out), self.samples)
        auto = self.cadence(trainer, len(self.index) * pl_module.views_a_step, self.budget)
        self.period = auto if self.every_n_steps == "auto" else self.every_n_steps

    def names_logged(self, trainer: Any, pl_module: Any) -> Iterable[str]:
        data = trainer.datamodule
        if not self.enabled or not pl_module.has_scores or not isinstance(data, SSLDataModule):
            return []
        return [GROUP] if data.held_out is not None else []

    def on_train_batch_end(self, trainer: Any, pl_module: Any, outputs: Any, batch: Any, batch_idx: int) -> None:
        if not self.due(trainer, batch_idx):
            return
        log_metrics(trainer, scores_of(trainer, pl_module, self.index))


def scores_of(trainer: Any, pl_module: Any, index: Tensor) -> dict[str, float]:
    """The scores of a method on held-out samples, by their names in `summary.json`. Every process
    must call it.

    Args:
        trainer: of the run, whose data withholds samples.
        pl_module: the method.
        index: [M] of the held-out samples.
    """
    with evaluating(pl_module), torch.no_grad(), trainer.precision_plugin.forward_context():
        scores = pl_module.scores(
            trainer.precision_plugin.convert_input(batch)
            for batch in batches(trainer.datamodule, index, pl_module.device)
        )
    return {f"{GROUP}{name}": float(value) for name, value in scores.items()}


def in_words(values: Mapping[str, Any]) -> str:
    """A line of the held-out scores among metrics, such as those of `summary.json`; empty where
    there are none."""
    scores = [f"{name.removeprefix(GROUP)} {value:.4g}" for name, value in values.items() if name.startswith(GROUP)]
    return f"On held-out samples: {', '.join(scores)}." if scores else ""


def batches(data: SSLDataModule, index: Tensor, device: torch.device) -> Iterator[Batch]:
    """This process's share of the held-out samples, in the views of the first pass."""
    assert data.held_out is not None
    for part in data.parts(data.held_out, index[rank() :: world_size()], max(1, data.batch_size // world_size())):
        yield peek(data, data.held_out, part, device, data.maker)
