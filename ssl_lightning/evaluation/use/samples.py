"""The samples of a data set, for commands that apply an encoder to all of them."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import torch
from torch import Tensor

from ...data.datamodule import SSLDataModule
from ...data.files.skipped import file_source
from ...data.sources import Source
from ...data.splits import SPLITS
from .rows import labels_as_text

UNLABELLED = "unlabelled"
"""The split of samples to pretrain on that are not those of `train`."""


def sources_of(data: SSLDataModule, split: str | None = None) -> dict[str, Source]:
    """The samples of a data set by split, as the data has them, those without labels under
    `unlabelled`.

    Args:
        data: the datamodule, after `prepare_data`.
        split: that split alone; None: all.

    Raises:
        ValueError: there is no such split.
    """
    sources: dict[str, Source | None] = {name: data.source(name) for name in SPLITS}
    pretrain, train = data.unlabelled_part(), sources["train"]
    if pretrain is not None and (train is None or pretrain.fingerprint != train.fingerprint):
        sources[UNLABELLED] = pretrain
    found = {name: source for name, source in sources.items() if source is not None}
    if split is not None and split not in found:
        raise ValueError(f"{type(data).__name__} has no split {split!r}; it has {', '.join(found)}.")
    return {name: data.opened(source) for name, source in found.items() if split in (None, name)}


def described(source: Source | None, split: str, places: Tensor, class_names: Sequence[str] | None) -> dict[str, Any]:
    """The columns that name samples in a file: path, split, place in the split, and class.

    Args:
        source: the samples; None: those of a loader, which have neither names nor labels.
        split: its name.
        places: [M] of the samples.
        class_names: of the labels; None: they have none.
    """
    numbers = places.tolist()
    labels = torch.full_like(places, -1) if source is None or source.labels is None else source.labels[places]
    return {
        "path": [f"sample {number}" if source is None else source.name(number) for number in numbers],
        "split": [split] * len(numbers),
        "index": numbers,
        "label": labels_as_text(labels, class_names),
    }


def skip_all(source: Source) -> None:
    """Lets all samples of a source be left out that cannot be read, whatever their labels."""
    files = file_source(source)
    if files is not None:
        files.unreadable, files.allowed = "skip", len(files)
