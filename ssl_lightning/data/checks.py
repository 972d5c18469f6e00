"""Checks before a run that refuse data which cannot serve it."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

from .sources import Source, labels_of


def check_share(batch_size: int, processes: int) -> None:
    """Raises ValueError where a batch cannot be shared out equally among processes."""
    if batch_size % processes:
        raise ValueError(
            f"batch_size={batch_size} cannot be shared out equally among {processes} processes; it counts the samples"
            f" of all of them. Use a multiple, such as --data.batch_size {-(-batch_size // processes) * processes}."
        )


def check_probe_sets(probe_sets: Mapping[str, Any]) -> None:
    """Raises ValueError where a probe set has no labels to probe on."""
    for name, data in probe_sets.items():
        if data.probe_splits() is None:
            raise ValueError(
                f"probe_sets.{name}: {type(data).__name__} {data.why_unlabelled}. Leave it out, or label it."
            )


def check_training(data: Any) -> None:
    """Raises ValueError where a datamodule has fewer samples than a batch, or shall keep samples on
    the device that it reads from files."""
    name, samples = type(data).__name__, len(data.training_split)
    if samples < data.batch_size:
        raise ValueError(
            f"{name} has {samples} training samples, fewer than batch_size={data.batch_size}; "
            f"set --data.batch_size {max(2, samples)} or less."
        )
    if data.cache == "device" and not data.training_split.in_memory:
        raise ValueError(f"cache=device needs data in memory; {name} reads it from files. Leave cache out.")


def check_classes(data: Any) -> None:
    """Raises ValueError where a split has a class that no training sample has, which a supervised
    method could not predict."""
    for split in ("val", "test"):
        source: Source | None = data.labelled_samples(split)
        most = -1 if source is None else int(labels_of(source).max())
        if most >= data.num_classes:
            raise ValueError(
                f"The {split} split of {type(data).__name__} has the class {most}, which no training sample has: they"
                f" have 0 to {data.num_classes - 1}. Mark a sample without a class by -1."
            )


def check_evaluated(data: Any, split: str, labelled: bool) -> Source:
    """Returns the samples of a split; for `labelled` those that have a class, where any has;
    without a validation split those that are held out from training, if there are any.

    Raises:
        ValueError: there is no such split, or it has fewer samples than there are processes.
    """
    source: Source | None = (data.labelled_samples(split) if labelled else None) or data.split(split)
    if source is None and split == "val":
        source = data.held_out
    if source is None:
        raise ValueError(f"{type(data).__name__} has no {split} split.")
    if len(source) < data.world_size:
        raise ValueError(f"The {split} split has {len(source)} samples, fewer than the {data.world_size} processes.")
    return source
