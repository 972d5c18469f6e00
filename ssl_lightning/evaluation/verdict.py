"""The result of a supervised run: the accuracy of the network itself, on samples that were not used
to choose anything where the data has a labelled test split."""

from __future__ import annotations

from typing import Any

from torch import Tensor

from ..data.datamodule import SSLDataModule
from ..data.peek import sample
from ..data.sources import labels_of
from ..distributed import all_or_none, on_first
from .features import features_of
from .measures import cell_of
from .table import Cell
from .validation import Validation


def verdict(
    trainer: Any, pl_module: Any, data: SSLDataModule, most: int
) -> tuple[dict[str, dict[str, Cell]], str, Tensor, Tensor, str]:
    """Accuracy on the test split, or on the validation part where the test split is missing or has
    no labels. Every process must call it.

    Args:
        trainer: the trainer of the run that ends.
        pl_module: the supervised method.
        data: the data that it was trained on.
        most: at most this many samples are classified.

    Returns:
        `{split: {"top1": accuracy}}`, the split's name, its features [N, D] and labels [N], and the
        accuracy in words.
    """
    test, splits = all_or_none(lambda: (data.labelled_samples("test"), data.probe_splits()))
    if splits is None:
        raise ValueError(f"{type(data).__name__} has no labels.")
    split, source = ("test", test) if test is not None else ("val", splits[1])
    index = sample(len(source), most)
    labels = labels_of(source)[index]
    features = features_of(pl_module, data, source, index, trainer)
    top1 = on_first(lambda: float(pl_module.score(features, labels)[1]))
    origin = pl_module.init_args.get("checkpoint")
    lines = [f"Accuracy on the {split} split: {100 * top1:.1f} % of {len(labels):,} samples"]
    lines += [f"learned from {len(splits[0]):,} labels" + (f", starting at {origin}" if origin else "")]
    chosen = next(
        (callback for callback in trainer.callbacks if isinstance(callback, Validation) and callback.weights), None
    )
    if chosen is not None:
        lines += [
            f"weights of step {chosen.step:,}, whose loss on {len(splits[1]):,} samples held out for validation was the"
            " lowest"
        ]
    return {split: {"top1": {**cell_of([top1]), "labels": len(splits[0])}}}, split, features, labels, ",\n".join(lines)
