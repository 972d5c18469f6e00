"""A supervised run's last stage: learning from all labels, once the validation part has told for
how long."""

from __future__ import annotations

import math
from itertools import islice
from typing import Any

from torch import Tensor

from ..augment.random import mix
from ..data.datamodule import SSLDataModule
from ..data.order import Draws
from ..data.peek import peek_each
from ..data.sources import Source
from ..data.views import Views
from ..run.progress import Progress
from ..types import Batch
from .fitting import descend, seeded

ENOUGH = 1_000
"""A validation part of so many samples is left out: what it could teach is not worth a second
training."""


def withheld(data: SSLDataModule) -> Source | None:
    """All labelled samples that a run may learn from, where some were withheld for validation; None
    where they were not, are many, or are what the run is judged on, for want of a test split."""
    splits, every = data.probe_splits(), data.labelled_split
    if splits is None or every is None or len(splits[0]) == len(every) or len(splits[1]) >= ENOUGH:
        return None
    return None if data.labelled_samples("test") is None else every


def learn_all(trainer: Any, method: Any, every: Source, passes: float, seconds: float = math.inf) -> None:
    """Trains a supervised method, from the weights that it has, on all labels. Each process does
    the same by itself.

    The optimizer is that of the run, with its accumulation and clipping of gradients, and its
    schedule as long as these passes.

    Args:
        trainer: of the run.
        method: a `Supervised` method, with the weights to start from.
        every: the samples.
        passes: over the samples; 0: the head alone learns, by regression.
        seconds: that the regression may take.
    """
    data, device = trainer.datamodule, trainer.strategy.root_device
    bar = trainer.progress_bar_callback
    if isinstance(bar, Progress) and trainer.is_global_zero:
        bar.stage(f"learning from all {len(every):,} labels")
    method.begin(data, every, trainer.precision_plugin.forward_context, seconds)
    size = min(data.batch_size, len(every))
    batches, accumulated = round(passes * len(every) / size), trainer.accumulate_grad_batches
    if not batches:
        return
    steps = math.ceil(batches / accumulated)
    seed = mix(data.seed, len(every))
    order = islice(Draws(len(every), seed, 0, size, 0, 1, data.order_version), batches)
    views = Views([data.transform(strength) for strength in method.views.strengths], seed)

    def loss(batch: Batch) -> Tensor:
        with trainer.precision_plugin.forward_context():
            loss: Tensor = method.step(batch)["loss"]
        return loss

    def clip(optimizer: Any) -> None:
        method.configure_gradient_clipping(optimizer, trainer.gradient_clip_val, trainer.gradient_clip_algorithm)

    samples = size * accumulated
    with seeded(device, seed):
        optimizer, schedule = method.optimizer_spec.build(method, samples, steps, len(every) / samples)
        drawn = peek_each(data, every, order, device, views)
        descend(loss, drawn, steps, optimizer, schedule, trainer, accumulated=accumulated, clip=clip)
