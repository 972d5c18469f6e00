"""The splits of a data set, and which of its labels a run may use."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Literal

import torch

from ..plugins.messages import counted
from .labels import dominant
from .ledger import LeftOut, Tally
from .sources import Source, Subset, holdout, labelled_draw, labelled_part, labels_of, withhold_fifth

Split = Literal["train", "val", "test"]
SPLITS: tuple[Split, ...] = ("train", "val", "test")


class Splits:
    """The samples of each split, built once: those to train on, the labelled ones, and those that
    watch a run."""

    seed: int
    labels_per_class: int | None
    supervised: bool
    class_names: Sequence[str] | None
    _sources: dict[str, Source | None]

    def source(self, split: Split) -> Source | None:
        """Returns the samples of a split, or None if the data does not have it; `train` is
        required. Without `val`, a part of the labelled training samples is held out from the probes
        that watch a run."""
        raise NotImplementedError(f"{type(self).__name__} must define source(split).")

    def pretraining_source(self) -> Source | None:
        """Returns the samples to pretrain on if they differ from `train` (STL-10's unlabelled
        ones)."""
        return None

    def split(self, split: Split) -> Source | None:
        """Returns the samples of a split, built once; `val` falls back to a part of the labelled
        training samples."""
        if split not in self._sources:
            few = split == "val" and self.labels_per_class is not None  # validation labels are among those few too
            samples = None if few else self._given(split)
            labelled = self.labelled_split if samples is None and split == "val" else None
            if labelled is not None:
                labels = labels_of(labelled)
                groups = labelled.groups
                rest, withheld = withhold_fifth(labels, self.seed, groups) if few else holdout(labels, groups)
                samples, self._sources["rest"] = Subset(labelled, withheld), Subset(labelled, rest)
            self._sources[split] = samples
        return self._sources[split]

    @property
    def held_out(self) -> Source | None:
        """Samples that neither training nor the closing table uses: the validation split, if the
        data has one of its own."""
        return self._given("val")

    def opened(self, source: Source) -> Source:
        """Returns a source of this data as all that judges an encoder embeds it: where a sample may
        be longer than a view, the source knows how long that is."""
        return source

    def _given(self, split: Split) -> Source | None:
        """The samples of a split as the data has it, opened once."""
        if f"given {split}" not in self._sources:
            source = self.source(split)
            self._sources[f"given {split}"] = None if source is None else self.opened(source)
        return self._sources[f"given {split}"]

    def labelled_samples(self, split: Split) -> Source | None:
        """Returns the samples of a split that have a class; None where none has."""
        if f"labelled {split}" not in self._sources:
            self._sources[f"labelled {split}"] = labelled_part(self.split(split))
        return self._sources[f"labelled {split}"]

    @property
    def labelled_split(self) -> Source | None:
        """The training samples whose labels a run may use: all that have a class, or
        `labels_per_class` of each class; None where there are fewer than two classes, from which
        nothing can be learned."""
        if "labelled" not in self._sources:
            train = self.labelled_samples("train")
            labels = None if train is None else labels_of(train)
            if labels is not None and not bool((labels != labels[0]).any()):
                train = labels = None
            if train is not None and labels is not None and self.labels_per_class is not None:
                train = Subset(
                    train, torch.from_numpy(labelled_draw(labels.numpy(), self.labels_per_class, self.seed, draw=0))
                )
            self._sources["labelled"] = train
        return self._sources["labelled"]

    @property
    def how_to_label(self) -> str:
        """The setting that gives unlabelled data labels, as the end of a sentence; empty: none."""
        return ""

    @property
    def why_unlabelled(self) -> str:
        """What the training samples have instead of labels that probes, or a supervised method,
        learn from: the end of a sentence that begins with the data's name."""
        if self.labelled_samples("train") is None or self.labelled_split is not None:
            return f"has no labels in its train and val splits{self.how_to_label}"
        return "has labels of a single class in its train split, where two are needed"

    @property
    def num_classes(self) -> int:
        """The number of classes: of class names or of classes that the labels count, whichever is
        larger.

        Raises:
            ValueError: there are no labels.
        """
        if self.labelled_split is None:
            raise ValueError(f"{type(self).__name__} {self.why_unlabelled}.")
        return max(len(self.class_names or ()), int(labels_of(self.labelled_split).max()) + 1)

    def probe_splits(self) -> tuple[Source, Source] | None:
        """Returns the labelled samples that the live probes, or a supervised method, learn from,
        and those that judge them meanwhile; None without labels."""
        val = self.labelled_samples("val")
        train = self._sources.get("rest") or self.labelled_split
        if train is None or val is None:
            return None
        return train, val

    @property
    def training_split(self) -> Source:
        """The samples to train on: all of them, labelled or not; for a supervised method the
        labelled ones, without the validation part.

        Raises:
            ValueError: there are no such samples.
        """
        if self.supervised:
            splits = self.probe_splits()
            if splits is None:
                raise ValueError(
                    f"{type(self).__name__} {self.why_unlabelled}, and this method learns from labels. Label some, or"
                    " choose a method that learns without."
                )
            return splits[0]
        if "pretraining" not in self._sources:
            self._sources["pretraining"] = self.pretraining_source() or self.split("train")
        samples = self._sources["pretraining"]
        if samples is None:
            raise ValueError(f"{type(self).__name__} has no training split.")
        return samples

    # What became of all that was found.

    def beside(self) -> Tally | None:
        """Returns what was found and belongs to no split, by reason; None where there is nothing of
        the kind."""
        return None

    def ledger(self, probed: bool = False) -> list[Tally]:
        """Returns what was found of each split, what it is used for, and what is left out and why.
        No sample is read.

        Args:
            probed: whether this data only serves to probe a run on other data.
        """
        parts: dict[str, Source | None] = {split: self._given(split) for split in SPLITS}
        parts["pretrain"] = self.unlabelled_part()
        uses = {"train": "training" if self.supervised else "pretraining", "val": "validation", "test": "test"}
        if (parts["pretrain"] is not None and not self.supervised) or probed:
            uses["train"] = "probes"
        if not probed:
            uses["pretrain"] = "pretraining"
        tallies = [
            self.tally(split, source, uses[split])
            for split, source in parts.items()
            if source is not None and split in uses
        ]
        beside = self.beside()
        return tallies if beside is None else [*tallies, beside]

    def unlabelled_part(self) -> Source | None:
        """Returns the samples to pretrain on in place of `train`, as the ledger counts them."""
        return self.pretraining_source()

    def tally(self, split: str, source: Source, use: str) -> Tally:
        """Returns what was found of a split whose samples are used for one end; those without a
        class serve pretraining alone."""
        if self.supervised and use == "pretraining":
            rest = LeftOut("have no labels, from which this method learns", len(source), source.name(0))
            return Tally(split, source.unit, {}, [*source.left_out, rest])
        windows = source.windows()
        remarks = () if windows is None or use.endswith("training") else (windows.sentence(),)
        if source.labels is None:
            return Tally(split, source.unit, {use: len(source)}, source.left_out, source.remark, remarks)
        absent = (source.labels < 0).nonzero()[:, 0]
        classes = source.labels[source.labels >= 0].unique().tolist()
        labels, left_out = f"labels of {counted(len(classes), 'classes')}", [*source.left_out]
        labels += dominant(source.labels[source.labels >= 0], self.class_names)
        if split == "train" and len(classes) == 1:
            name = f", {self.class_names[classes[0]]!r}" if self.class_names else ""
            labels = f"labels of a single class{name}: nothing to learn from, so there are no probes"
        if len(absent) and use == "pretraining":
            labels += f"; {len(absent):,} have none and are left out of probes and table"
        elif len(absent):
            left_out.append(LeftOut("have no label", len(absent), source.name(int(absent[0]))))
        used = len(source) - len(absent) * (use != "pretraining")
        return Tally(split, source.unit, {use: used}, left_out, labels, remarks)
