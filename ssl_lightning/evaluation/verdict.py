"""The result of a supervised run: the accuracy of the network itself, on samples that were not used
to choose anything where the data has a labelled test split."""

from __future__ import annotations

import copy
import math
import time
from collections.abc import Callable
from typing import Any

import torch
from torch import Tensor

from ..data.datamodule import SSLDataModule
from ..data.peek import sample
from ..data.sources import Source, Subset, labels_of
from ..distributed import all_or_none, on_first
from ..plugins.messages import counted
from .budget import affordable, seconds_left
from .features import features_of, seconds_of_features
from .frozen import regress
from .labels_only import labels_only_row
from .measures import cell_of
from .protocols.stamp import Stamp
from .regression import OutOfTime
from .rows import ClosingSettings
from .stages import Stages
from .stamps import of_head
from .table import Cell
from .untrained import untaught
from .validation import Validation, restore


def verdict(
    trainer: Any, pl_module: Any, data: SSLDataModule, settings: ClosingSettings, stages: Stages
) -> tuple[dict[str, dict[str, Cell]], str, Tensor, Tensor, str, Stamp]:
    """Accuracy on the test split, or on the validation part where the test split is missing or has
    no labels; beside it what the same labels are worth without fine-tuning, and without
    pretraining. Every process must call it.

    Args:
        trainer: the trainer of the run that ends.
        pl_module: the supervised method.
        data: the data that it was trained on.
        settings: how many samples are classified, and whether labels alone are tried.
        stages: shows what is computed, and keeps what failed.

    Returns:
        `{split: {"top1": accuracy, "balanced": ..., "frozen": ..., "labels_only": ...}}`, the
        split's name, its features [N, D] and labels [N], the accuracies in words, and their stamp.
    """
    test, splits = all_or_none(lambda: (data.labelled_samples("test"), data.probe_splits()))
    if splits is None:
        raise ValueError(f"{type(data).__name__} has no labels.")
    split, source = ("test", test) if test is not None else ("val", splits[1])
    chosen = next((each for each in trainer.callbacks if isinstance(each, Validation) and each.weights), None)
    index = sample(len(source), settings.test_samples)
    if chosen is not None:
        count = on_first(lambda: affordable(len(index), 0, chosen.looked, chosen.limit)[0])
        index = sample(len(source), count)
    judged, labels = Subset(source, index), labels_of(source)[index]
    features = features_of(pl_module, data, source, index, trainer)
    score = on_first(lambda: pl_module.score(features, labels))
    learned = splits[0]
    if chosen is not None and chosen.passes is not None and data.labelled_split is not None:
        learned = data.labelled_split
    count = len(learned)
    if pl_module.solved and pl_module.regressed_on is not None:
        count = min(count, pl_module.regressed_on)
    cells = {"top1": score.top1, "balanced": score.balanced}
    origin = pl_module.init_args.get("checkpoint")
    counts = labels.unique(return_counts=True)[1]
    lines = [f"Accuracy on the {split} split: {100 * score.top1:.1f} % of {len(labels):,} samples"]
    if len(counts.unique()) > 1:
        lines += [f"in the mean over classes, which differ in size: {100 * score.balanced:.1f} %"]
    lines += [f"learned from {counted(count, 'labels')}" + (f", starting at {origin}" if origin else "")]
    baselines: dict[str, tuple[str, Callable[[], float | None]]] = {}
    if chosen is not None and chosen.start and not pl_module.solved:
        start = chosen.start
        baselines["frozen"] = (
            "logistic regression on the frozen features, same labels",
            lambda: frozen_accuracy(trainer, pl_module, data, learned, judged, start, chosen.limit),
        )
    if chosen is not None and settings.labels_only:
        baselines["labels_only"] = (
            "labels only, the same network without pretraining",
            lambda: labels_only_accuracy(trainer, pl_module, data, learned, judged, settings),
        )
    for name, (title, compute) in baselines.items():
        with stages.attempt(title):
            accuracy = compute()
            lines += [
                f"{title}: " + ("skipped, it would take too long" if accuracy is None else f"{100 * accuracy:.1f} %")
            ]
            cells |= {} if accuracy is None else {name: accuracy}
    if chosen is not None:
        lines += [how_chosen(chosen, chosen.samples or len(splits[1]), pl_module.solved)]
    table: dict[str, Cell] = {name: {**cell_of([value]), "labels": count} for name, value in cells.items()}
    stamp = of_head(data, learned, judged, split)
    return {split: table}, split, features, labels, ",\n".join(lines), stamp


def how_chosen(chosen: Validation, held_out: int, solved: bool) -> str:
    """Says which weights a run ended with."""
    where = f"{held_out:,} samples held out for validation"
    if solved:
        return f"{100 * chosen.accuracy:.1f} % of {where}"
    if not chosen.step:
        return f"it is the regression that the run began with: no step was better by a standard error on {where}"
    if chosen.passes is not None:
        return f"trained anew on all labels for {chosen.passes:.0f} passes, after which accuracy on {where} was highest"
    return f"weights of step {chosen.step:,}, whose accuracy on {where} was the highest"


def frozen_accuracy(
    trainer: Any,
    pl_module: Any,
    data: SSLDataModule,
    learned: Source,
    judged: Source,
    start: dict[str, Tensor],
    seconds: float = math.inf,
) -> float | None:
    """Accuracy of logistic regression on the features of the encoder that a run started from; None:
    it would take longer than so many seconds."""
    network = copy.deepcopy(pl_module.backbone)
    prefix = "encoder."
    restore(network, {name.removeprefix(prefix): each for name, each in start.items() if name.startswith(prefix)})
    index, ends = sample(len(learned), pl_module.most_samples), time.monotonic() + seconds
    if seconds < math.inf and seconds < len(index) * seconds_of_features(network, data, learned, index, trainer):
        return None
    x = features_of(network, data, learned, index, trainer)
    test = features_of(network, data, judged, torch.arange(len(judged)), trainer)
    labels, answers = labels_of(learned)[index], labels_of(judged)

    def accuracy() -> float | None:
        try:
            return regress(x, labels, data.num_classes, ends).accuracy(test, answers)
        except OutOfTime:
            return None

    return on_first(accuracy)


def labels_only_accuracy(
    trainer: Any, pl_module: Any, data: SSLDataModule, learned: Source, judged: Source, settings: ClosingSettings
) -> float | None:
    """Accuracy of the encoder, built anew, trained on the labels alone; None: it would take longer
    than the tables of a run may."""
    seconds = seconds_left(settings.minutes, trainer)
    encoder = untaught(pl_module.backbone, data.seed)
    fits = {"linear": [torch.arange(len(learned))]}
    row = labels_only_row(encoder, data, learned, judged, trainer, fits, data.seed, seconds)
    return row["linear"]["mean"] if row else None
