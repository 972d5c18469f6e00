"""The protocols of a run's results, each stamped once: of closing tables, of a supervised run's
accuracy, of live probes, and of scores without labels."""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from typing import Any

import torch
from torch import Tensor

from ..data.datamodule import SSLDataModule
from ..data.sources import Source
from .overview import Overview, pair_of
from .probes.base import Probe
from .probes.spectrum import GROUP, Spectrum
from .protocols.classes import KNN, Linear
from .protocols.parts import Part, described, digest_of_parts
from .protocols.stamp import Stamp
from .rows import Rows, positions, whole

KEY = "protocol"
"""The entry of `summary.json`: the stamp of each group of values, by the beginning of their
names."""
Chosen = tuple[Source, Tensor]
"""Samples of a source, by positions [M]."""


def stamp(
    data: SSLDataModule, name: str, settings: Mapping[str, Any], learned: Chosen | None, judged: Chosen, split: str
) -> Stamp:
    """The stamp of values that have no draws of their own beyond those of seed 0.

    Args:
        data: whose test transform made the views.
        name: of the protocol.
        settings: of it, in plain values.
        learned: the labelled samples that were learned from; None: none.
        judged: the samples that were judged.
        split: their split.
    """
    parts = [_part(*each) for each in (learned, judged) if each is not None]
    return Stamp(
        protocol=name, settings=dict(settings), transform=described(data.transform("none")),
        data=digest_of_parts(data, parts), split=split, train=0 if learned is None else len(learned[1]),
        judged=len(judged[1]), seed=0,
    )  # fmt: skip


def _part(source: Source, index: Tensor) -> Part:
    labels = None if source.labels is None else source.labels[index]
    return Part(whole(source), positions(source, index), labels)


def of_table(rows: Rows) -> Stamp:
    """The stamp of a closing table: its protocols are `knn` and `linear`."""
    few = {"labels_per_class": rows.settings.labels_per_class, "draws": rows.settings.draws}
    protocols = {each.name: each.settings for each in (KNN(**few), Linear(**few))}
    learned, judged = zip((rows.train, rows.judged), rows.index, strict=True)
    return stamp(rows.data, "closing table", protocols, learned, judged, rows.split)


def of_head(data: SSLDataModule, learned: Source, judged: Source, split: str) -> Stamp:
    """The stamp of a supervised run's accuracy, by the head that it trained."""
    one, other = ((each, torch.arange(len(each))) for each in (learned, judged))
    return stamp(data, "trained head", {}, one, other, split)


def of_probes(callbacks: Iterable[Any]) -> dict[str, Stamp]:
    """The stamps of live probes, by the beginning of their metrics' names."""
    stamps = {}
    for probe in (each for each in callbacks if isinstance(each, Probe) and each.metric):
        kind = probe.metric.rpartition("/")[0]
        for prefix, each in probe.sets.items():
            learned, judged = (each.train, each.train_index), (each.val, each.val_index)
            stamps[f"probe/{prefix}{kind}"] = stamp(each.data, f"live {kind}", probe.settings, learned, judged, "val")
    return stamps


def of_spectrum(trainer: Any) -> dict[str, Stamp]:
    """The stamp of the scores that need no labels while a run trains, under their group; none where
    none was logged."""
    probe = next((each for each in trainer.callbacks if isinstance(each, Spectrum) and each.scores), None)
    if probe is None or probe.too_early(trainer.global_step):  # a run that ends early was never looked at
        return {}
    data = trainer.datamodule
    judged = data.training_split, probe.index
    return {GROUP: stamp(data, "live label-free", probe.settings, None, judged, "pretraining")}


def of_overview(seen: Overview, spec: Any) -> Stamp:
    """The stamp of scores without labels.

    Args:
        seen: the scores.
        spec: the method's `ViewSpec`, whose views `own_view` compares.
    """
    judged = seen.source, seen.places
    return stamp(seen.data, "label-free", {"views": list(pair_of(spec))}, None, judged, "pretraining")


def as_json(stamps: Mapping[str, Stamp]) -> dict[str, Any]:
    """The entry of `summary.json`; empty without stamps."""
    return {KEY: {name: each.as_json() for name, each in stamps.items()}} if stamps else {}
