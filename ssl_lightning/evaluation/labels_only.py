"""The row "labels only" of the closing table: the same encoder trained on labels alone, the
baseline that pretraining has to beat.

Notation for shapes: M labelled samples, Q evaluation samples, K classes.
"""

from __future__ import annotations

import copy
import math
import textwrap
import time
from collections.abc import Sequence
from itertools import islice
from typing import Any

import torch
from torch import Tensor, nn
from torch.nn import functional as F

from ..augment.random import mix
from ..data.datamodule import SSLDataModule
from ..data.order import Draws
from ..data.peek import BATCH, evaluating, features_here, peek_each
from ..data.sources import Source, Subset, labelled_draw, labels_of
from ..data.views import Views
from ..distributed import on_each, rank, world_size
from ..encoders.base import Encoder
from ..nn.convolution import narrow_in_float32
from ..nn.precision import cast
from ..optim.recipes import OptimizerSpec
from ..types import Batch, Strength, View
from .fitting import descend, seeded
from .measures import Outcome, class_weights, judged, outcome
from .probes.base import COST_OF_STEP
from .regression import OutOfTime
from .table import ENOUGH_DRAWS, Cell, Show, column_title, silent

Fits = dict[str, list[Tensor]]
"""By column of the closing table, the labelled samples of each fit: positions [M] in the training
split."""

SHARE = 2 / 3
"""`auto` computes a cell that costs less than this fraction of the pretraining."""
RECIPE = OptimizerSpec("adamw", lr=3e-3, weight_decay=0.05, reference_batch=None, warmup_epochs=0.1)
"""The whole fit counts as one epoch, a tenth of which is the warm-up; then the learning rate falls
along half a cosine to zero."""
STRENGTH: Strength = "strong"
TRAINING_BATCH = 64
FEWEST_STEPS, PASSES = 400, 20
"""Each fit takes `FEWEST_STEPS` optimizer steps, or `PASSES` passes over its samples where that is
more. With 10 labels per class on Fashion-MNIST, twice as many steps gain less than the standard
deviation over draws, and half as many lose 3 points; on digits half as many do as well. With all
labels, weak and strong views give the same accuracy on both."""


class LabelsOnlyNetwork(nn.Module):
    """An encoder with a linear classifier, trained end to end."""

    def __init__(self, encoder: Encoder, num_classes: int) -> None:
        super().__init__()
        self.encoder, self.classifier = encoder, nn.Linear(encoder.dim, num_classes)

    def forward(self, view: View) -> Tensor:
        """View of S samples -> logits [S, K]."""
        logits: Tensor = self.classifier(self.encoder(view))
        return logits


def labels_only_row(
    encoder: Encoder,
    data: SSLDataModule,
    train: Source,
    test: Source,
    trainer: Any,
    fits: Fits,
    seed: int = 0,
    seconds: float = math.inf,
    show: Show = silent,
) -> dict[str, Cell]:
    """The row "labels only": accuracies of the same encoder, trained end to end from these weights
    on labels alone.

    The fits are divided among the processes, all of which must call it; each of them gets the row,
    when the last has ended.

    Args:
        encoder: the encoder with the weights to start from; it is copied, not changed.
        data: the datamodule whose transforms are used.
        train: the labelled samples to train on, M of them.
        test: the labelled samples to evaluate on.
        trainer: gives device and precision.
        fits: what `fits_of` returned, or a part of it.
        seed: fixes the order, the augmentation, the initialization of the classifier and dropout.
        seconds: draws of labels that would take longer are left out; a cell with fewer than
            `ENOUGH_DRAWS` of more is missing.
        show: called with the title of each cell before it is computed.
    """
    order = sorted(fits, key=lambda column: len(fits[column][0]))  # few labels first: they are what is to be saved
    runs = [(column, draw) for column in order for draw in range(len(fits[column]))]

    def share() -> list[Outcome | None]:
        mine, ends = runs[rank() :: world_size()], time.monotonic() + seconds
        outcomes: list[Outcome | None] = []
        too_long: set[str] = set()
        for column, draw in mine:
            show(column_title(column))
            limit = 0.0 if column in too_long else ends - time.monotonic()
            labelled = Subset(train, fits[column][draw])
            try:
                network = fitted(encoder, data, labelled, trainer, mix(seed, draw), limit)
                outcomes.append(classified(network, data, test, trainer))
            except OutOfTime:
                outcomes.append(None)
                too_long.add(column)
        return outcomes

    shares = [iter(each) for each in on_each(share)]
    results: dict[str, list[Outcome | None]] = {column: [] for column in fits}
    for number, (column, _) in enumerate(runs):
        results[column].append(next(shares[number % len(shares)]))
    return {
        column: judged(first, labels_of(test), len(draws[0]))
        for column, draws in fits.items()
        if len(first := leading(results[column])) >= min(ENOUGH_DRAWS, len(draws))
    }


def leading(outcomes: Sequence[Outcome | None]) -> list[Outcome]:
    """The outcomes before the first that is missing: other rows have those draws too."""
    kept: list[Outcome] = []
    for each in outcomes:
        if each is None:
            break
        kept.append(each)
    return kept


def fewer_line(cells: dict[str, Cell], fits: Fits) -> str:
    """A line that says which cells have fewer draws of labels than the other rows, for want of
    time; empty where none has.

    Args:
        cells: what `labels_only_row` returned.
        fits: those that it was asked for.
    """
    fewer = [
        f"{column_title(column)} {cell['n']} of {len(fits[column])}"
        for column, cell in cells.items()
        if cell["n"] < len(fits[column])
    ]
    if not fewer:
        return ""
    return (
        f"Draws of labels that there was time for, labels only: {', '.join(fewer)}; the gain is over the same draws."
        " --report.minutes 0 computes all."
    )


def fits_of(labels: Tensor, labels_per_class: int, draws: int) -> Fits:
    """The labelled samples of each fit: all of them, and the same draws as in the other rows of the
    table.

    Args:
        labels: [M] the classes of the samples to train on.
        labels_per_class: number of labels per class in the column with few labels.
        draws: how often they are drawn.
    """
    few = [torch.from_numpy(labelled_draw(labels.numpy(), labels_per_class, 0, draw)) for draw in range(draws)]
    return {"linear": [torch.arange(len(labels))], f"linear_{labels_per_class}": few}


def skipped_cells(fits: Fits, judged: int, pretraining: float, processes: int = 1) -> dict[str, float]:
    """The columns that `auto` skips, with their cost relative to that of the pretraining.

    Args:
        fits: what `fits_of` returned.
        judged: number of samples that each fit is evaluated on.
        pretraining: sample passes of the pretraining, of all processes together.
        processes: number of processes that share the fits.
    """
    return {
        column: cost / max(1.0, pretraining)
        for column, cost in costs(fits, judged, processes).items()
        if cost >= SHARE * pretraining
    }


def skipped_line(skipped: dict[str, float]) -> str:
    """A line that says which cells were skipped, why, and how to compute them; empty where none
    was.

    Args:
        skipped: what `skipped_cells` returned.
    """
    if not skipped:
        return ""
    possessive, pronoun = ("their", "them") if len(skipped) > 1 else ("its", "it")
    factors = " and ".join(f"{cost:,.1f} x" for cost in skipped.values())
    cells = " and ".join(column_title(column) for column in skipped)
    text = (
        f"Skipped because of {possessive} cost ({factors} the pretraining): labels only, {cells}."
        f" --report.labels_only true computes {pronoun}."
    )
    return textwrap.fill(text, 80, break_on_hyphens=False)


def costs(fits: Fits, judged: int, processes: int = 1) -> dict[str, float]:
    """The cost of each column in sample passes, forward and backward, of one view of one sample. A
    process that has no fit waits for the others, which costs as much.

    Args:
        fits: what `fits_of` returned.
        judged: number of samples that each fit is evaluated on, at the cost of a forward pass.
        processes: number of processes that share the fits, each of which is one process's.
    """
    return {
        column: sum(steps_of(size) * min(TRAINING_BATCH, size) + judged / COST_OF_STEP for size in map(len, each))
        * (-(-len(each) // processes) * processes / len(each))
        for column, each in fits.items()
    }


def steps_of(samples: int) -> int:
    """Number of optimizer steps of a fit on this many labelled samples."""
    return max(FEWEST_STEPS, PASSES * samples // TRAINING_BATCH)


def fitted(
    encoder: Encoder, data: SSLDataModule, source: Source, trainer: Any, seed: int, seconds: float = math.inf
) -> LabelsOnlyNetwork:
    """A copy of the encoder with a linear classifier, trained on all samples of a source; the state
    of the random generators is restored afterwards.

    Raises:
        OutOfTime: the steps so far say that all of them would take more than so many seconds.
    """
    if seconds <= 0:
        raise OutOfTime
    device = trainer.strategy.root_device
    steps, batch_size = steps_of(len(source)), min(TRAINING_BATCH, len(source))
    views = Views([data.transform(STRENGTH)], seed)
    order = islice(Draws(len(source), seed, 0, batch_size, 0, 1, data.order_version), steps)
    with seeded(device, seed):
        network = LabelsOnlyNetwork(copy.deepcopy(encoder), int(labels_of(source).max()) + 1).to(device).train()
        network = trainer.precision_plugin.convert_module(narrow_in_float32(network))
        weight = class_weights(labels_of(source)).to(device)
        optimizer, schedule = RECIPE.build(network, batch_size, steps, steps)

        def loss(batch: Batch) -> Tensor:
            with trainer.precision_plugin.forward_context():
                logits = network(cast(batch["views"][0], network))
            return F.cross_entropy(logits.float(), batch["label"], weight)

        descend(loss, peek_each(data, source, order, device, views), steps, optimizer, schedule, trainer, seconds)
    return network


@torch.no_grad()
def classified(network: nn.Module, data: SSLDataModule, source: Source, trainer: Any) -> Outcome:
    """What the network says of a source's samples under the test transform, computed by this
    process alone."""
    index, context = torch.arange(len(source)), trainer.precision_plugin.forward_context
    device, labels = trainer.strategy.root_device, labels_of(source)
    if source.windows() is not None:
        return outcome(features_here(network, data, source, index, device, context), labels)
    logits = []
    with evaluating(network):
        for batch in peek_each(data, source, data.parts(source, index, BATCH), device, data.clean_views()):
            with context():
                logits.append(network(cast(batch["views"][0], network)).float())
    return outcome(torch.cat(logits).cpu(), labels)
