"""What labels alone teach the same encoder: the row of the closing table that pretraining has to
beat.

Notation for shapes: M labelled samples, Q samples to judge by, K classes.
"""

from __future__ import annotations

import copy
import textwrap
from itertools import islice
from typing import Any

import torch
from torch import Tensor, nn
from torch.nn import functional as F

from ..augment.random import mix
from ..data.datamodule import SSLDataModule
from ..data.order import Draws
from ..data.peek import BATCH, evaluating, peek_each
from ..data.sources import Source, Subset, labelled_draw, labels_of
from ..data.views import Views
from ..distributed import gather, rank, world_size
from ..encoders.base import Encoder
from ..optim.recipes import OptimizerSpec
from ..types import Strength, View
from .probes.base import COST_OF_STEP
from .protocol import cell_of
from .table import Cell, column_title

Fits = dict[str, list[Tensor]]
"""By column of the closing table, the labelled samples of each fit: places [M] in the training
part."""

SHARE = 2 / 3
"""`auto` makes a cell that costs less than this part of the pretraining."""
RECIPE = OptimizerSpec("adamw", lr=3e-3, weight_decay=0.05, reference_batch=None, warmup_epochs=0.1)
"""Its length is counted as one epoch, of which the warm-up takes a tenth; then half a cosine to
zero."""
STRENGTH: Strength = "strong"
TRAINING_BATCH = 64
FEWEST_STEPS, PASSES = 400, 20
"""Each fit takes the first number of steps, or the second of passes over its samples where those
are more. With 10 labels a class, twice as many steps gain less than the deviation over draws on
Fashion-MNIST, where half as many lose 3 points; on digits half as many do as well. With all labels,
weak and strong views come to the same on both."""


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
    encoder: Encoder, data: SSLDataModule, learned: Source, judged: Source, trainer: Any, fits: Fits, seed: int = 0
) -> dict[str, Cell]:
    """The row "labels only": accuracies of the same encoder, trained end to end from these weights
    on labels alone.

    Args:
        encoder: with the weights to start from; it stays as it is.
        data: whose transforms are used.
        learned: the labelled samples to learn from, M of them.
        judged: the labelled samples to judge by.
        trainer: gives device and precision.
        fits: what `fits_of` returned, or a part of it.
        seed: of the order, the augmentation, the classifier's first weights and dropout.

    The fits are shared out among the processes, which must all call it; all get the row.
    """
    chosen = [(draw, places) for each in fits.values() for draw, places in enumerate(each)]
    accuracies = torch.zeros(len(chosen), dtype=torch.float64, device=trainer.strategy.root_device)
    for number in range(rank(), len(chosen), world_size()):
        draw, places = chosen[number]
        network = fitted(encoder, data, Subset(learned, places), trainer, mix(seed, draw))
        accuracies[number] = accuracy(network, data, judged, trainer)
    found = iter(gather(accuracies[None]).sum(dim=0).tolist())
    return {column: cell_of([next(found) for _ in each]) for column, each in fits.items()}


def fits_of(labels: Tensor, labels_per_class: int, draws: int) -> Fits:
    """The labelled samples of each fit: all, and the very draws that the other rows of the table
    are given.

    Args:
        labels: [M] of the samples to learn from.
        labels_per_class: of the column with few labels.
        draws: how often they are drawn.
    """
    few = [torch.from_numpy(labelled_draw(labels.numpy(), labels_per_class, 0, draw)) for draw in range(draws)]
    return {"linear": [torch.arange(len(labels))], f"linear_{labels_per_class}": few}


def left_out(fits: Fits, judged: int, pretraining: float) -> dict[str, float]:
    """The columns that `auto` does not make, with their cost as a part of the pretraining's.

    Args:
        fits: what `fits_of` returned.
        judged: how many samples each fit is judged by.
        pretraining: sample passes of the pretraining.
    """
    return {
        column: cost / max(1.0, pretraining)
        for column, cost in costs(fits, judged).items()
        if cost >= SHARE * pretraining
    }


def spared_line(spared: dict[str, float]) -> str:
    """What is left out, why, and how to have it; empty where nothing is.

    Args:
        spared: what `left_out` returned.
    """
    if not spared:
        return ""
    cells = " and ".join(f"{column_title(column)} ({cost:,.1f})" for column, cost in spared.items())
    text = (
        f"Left out for its cost, in times the pretraining's: labels only, {cells}. --report.labels_only true makes it."
    )
    return textwrap.fill(text, 80, break_on_hyphens=False)


def costs(fits: Fits, judged: int) -> dict[str, float]:
    """What each column costs, in sample passes: forward and backward of one view of one sample.

    Args:
        fits: what `fits_of` returned.
        judged: how many samples each fit is judged by, at the cost of a forward pass.
    """
    return {
        column: sum(steps_of(len(places)) * min(TRAINING_BATCH, len(places)) + judged / COST_OF_STEP for places in each)
        for column, each in fits.items()
    }


def steps_of(samples: int) -> int:
    """Optimizer steps of a fit on this many labelled samples."""
    return max(FEWEST_STEPS, PASSES * samples // TRAINING_BATCH)


def fitted(encoder: Encoder, data: SSLDataModule, source: Source, trainer: Any, seed: int) -> LabelsOnlyNetwork:
    """A copy of the encoder with a linear classifier, trained on all samples of a source; no
    generator is left changed."""
    device = trainer.strategy.root_device
    steps, batch_size = steps_of(len(source)), min(TRAINING_BATCH, len(source))
    views = Views([data.transform(STRENGTH)], seed)
    order = islice(Draws(len(source), seed, 0, batch_size, rank=0, world_size=1), steps)
    scaler = torch.amp.GradScaler(device.type, enabled=trainer.precision == "16-mixed")
    with torch.random.fork_rng(devices=[device] if device.type == "cuda" else []), torch.enable_grad():
        torch.default_generator.manual_seed(seed)
        if device.type == "cuda":
            torch.cuda.manual_seed(seed)
        network = LabelsOnlyNetwork(copy.deepcopy(encoder), int(labels_of(source).max()) + 1).to(device).train()
        optimizer, schedule = RECIPE.build(network, batch_size, steps, steps)
        for batch in peek_each(data, source, order, device, views):
            with trainer.precision_plugin.forward_context():
                logits = network(batch["views"][0])
            loss = F.cross_entropy(logits.float(), batch["label"])
            optimizer.zero_grad()
            scaler.scale(loss).backward()
            scaler.step(optimizer)
            scaler.update()
            schedule.step()
    return network


@torch.no_grad()
def accuracy(network: nn.Module, data: SSLDataModule, source: Source, trainer: Any) -> float:
    """The part of a source's samples that the network classifies rightly, under the test transform,
    by this process alone."""
    parts = data.parts(source, torch.arange(len(source)), BATCH)
    right = torch.zeros((), dtype=torch.int64, device=trainer.strategy.root_device)
    with evaluating(network):
        for batch in peek_each(data, source, parts, right.device, data.clean_views()):
            with trainer.precision_plugin.forward_context():
                logits = network(batch["views"][0])
            right += (logits.argmax(dim=1) == batch["label"]).sum()
    return right.item() / len(source)
