"""The splits of a data set, and which of its labels a run may use."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Literal

import torch

from .sources import Source, Subset, holdout, labelled_draw, labels_of, withhold_fifth

Split = Literal["train", "val", "test"]


class Splits:
    """The samples of each split, made once: those to train on, the labelled ones, and those that
    watch a run."""

    seed: int
    labels_per_class: int | None
    supervised: bool
    class_names: Sequence[str] | None
    _sources: dict[str, Source | None]

    def source(self, split: Split) -> Source | None:
        """The samples of a split, `train` at least; None where there is none. `val` may be left
        out: it is then a part of the labelled training samples, withheld from the probes that watch
        a run."""
        raise NotImplementedError(f"{type(self).__name__} must define source(split).")

    def pretraining_source(self) -> Source | None:
        """The samples to pretrain on, where those are not `train` (STL-10's unlabelled ones)."""
        return None

    def split(self, split: Split) -> Source | None:
        """The samples of a split, made once; `val` falls back to a part of the labelled training
        samples."""
        if split not in self._sources:
            few = split == "val" and self.labels_per_class is not None  # then every label that is used is one of those
            found = None if few else self.source(split)
            labelled = self.labelled_split if found is None and split == "val" else None
            if labelled is not None:
                labels = labels_of(labelled)
                rest, withheld = withhold_fifth(labels, self.seed) if few else holdout(labels)
                found, self._sources["rest"] = Subset(labelled, withheld), Subset(labelled, rest)
            self._sources[split] = found
        return self._sources[split]

    @property
    def held_out(self) -> Source | None:
        """Samples that no training sees and no closing table reads: the validation split, where the
        data has one of its own."""
        if "held_out" not in self._sources:
            self._sources["held_out"] = self.source("val")
        return self._sources["held_out"]

    @property
    def labelled_split(self) -> Source | None:
        """The training samples whose labels a run may use: all, or `labels_per_class` of each
        class; None without labels."""
        if "labelled" not in self._sources:
            train = self.split("train")
            labels = None if train is None else train.labels
            if train is not None and labels is not None and self.labels_per_class is not None:
                train = Subset(
                    train, torch.from_numpy(labelled_draw(labels.numpy(), self.labels_per_class, self.seed, draw=0))
                )
            self._sources["labelled"] = train if labels is not None else None
        return self._sources["labelled"]

    @property
    def num_classes(self) -> int:
        """How many classes there are: those with a name, else those that the labels count.

        Raises:
            ValueError: there are no labels.
        """
        if self.labelled_split is None:
            raise ValueError(f"{type(self).__name__} has no labels in its train split.")
        return max(len(self.class_names or ()), int(labels_of(self.labelled_split).max()) + 1)

    def probe_splits(self) -> tuple[Source, Source] | None:
        """The labelled samples that the live probes, or a supervised method, learn from, and those
        that judge them while they do; None without labels."""
        val = self.split("val")
        train = self._sources.get("rest") or self.labelled_split
        if train is None or val is None or val.labels is None:
            return None
        return train, val

    @property
    def training_split(self) -> Source:
        """The samples to train on: all of them, labelled or not; for a supervised method the
        labelled ones, without the validation part.

        Raises:
            ValueError: there are none.
        """
        if self.supervised:
            splits = self.probe_splits()
            if splits is None:
                raise ValueError(
                    f"{type(self).__name__} has no labels in its train and val splits, and this method learns from"
                    " labels."
                )
            return splits[0]
        if "pretraining" not in self._sources:
            self._sources["pretraining"] = self.pretraining_source() or self.split("train")
        found = self._sources["pretraining"]
        if found is None:
            raise ValueError(f"{type(self).__name__} has no training split.")
        return found
