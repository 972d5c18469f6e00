"""`ssl-lightning classify`: files, or a data set, to their classes."""

from __future__ import annotations

import argparse
import json
from pathlib import Path
from typing import Any

import torch

from ..data.datamodule import SSLDataModule
from ..evaluation.measures import balanced
from ..evaluation.overview import shown_samples
from ..evaluation.plots.captioned import plot_captioned
from ..evaluation.plots.confusion import plot_confusion
from ..evaluation.use.classifying import Scores, classifier_of, predictions_of, scores_of
from ..evaluation.use.embedding import Embedding, Wanted
from ..evaluation.use.processes import compute_all, device_named
from ..evaluation.use.rows import check_target
from ..evaluation.use.samples import sources_of
from ..plugins.messages import printable
from .bar import Bar
from .embed import told_skipped
from .rows import print_rows
from .target import data_for

WORST = 32
"""Mistakes on the contact sheet."""


def main(options: argparse.Namespace) -> int:
    """Classifies what the command line says; see `verbs`."""
    out = Path(options.out).expanduser()
    if out.suffix == ".npz":
        raise ValueError(f"{str(out)!r}: predictions are written as .csv or .parquet.")
    check_target(out)
    classifier = classifier_of(options.run)
    data = data_for(options.run, options.data, options.data_options)
    classifier.to(device_named(options.device))
    wanted = Wanted(unreadable=options.unreadable, batch_size=options.batch_size)
    sources = sources_of(data, options.split)
    embedding = Embedding(classifier, data, sources, wanted, out, {"run": printable(options.run)})
    embedding.begin()
    with Bar("samples") as bar:
        compute_all(embedding, 1, bar.show)
    rows: list[dict[str, Any]] = []

    def noted(table: Any) -> Any:
        predicted = predictions_of(table, classifier.classes)
        rows.extend(predicted.select([*predicted.column_names[:6]]).to_pylist())
        return predicted

    embedded = embedding.finish(noted)
    scores = scores_of([row["label"] for row in rows], [row["predicted"] for row in rows], classifier.classes)
    pictures = [] if scores is None else _pictures(scores, rows, classifier.classes, data, sources, out)
    facts: dict[str, Any] = {"rows": embedded.rows, "out": str(out), "skipped": embedded.skipped}
    if scores is not None:
        facts |= {
            "labelled": len(scores.true),
            "accuracy": scores.accuracy,
            "balanced": balanced(scores.true == scores.predicted, scores.true),
            "classes": [each._asdict() for each in scores.of_classes(classifier.classes)],
            "pictures": [str(path) for path in pictures],
        }
    _tell(facts, rows, classifier.classes, options.json)
    return 0


def _tell(facts: dict[str, Any], rows: list[dict[str, Any]], classes: list[str], as_json: bool) -> None:
    if as_json:
        print(json.dumps(facts))
        return
    print(f"{facts['rows']:,} sample{'s' * (facts['rows'] != 1)} classified: {facts['out']}")
    if "accuracy" in facts:
        shares = [f"{100 * facts[name]:.1f} %" for name in ("accuracy", "balanced")]
        print(f"{shares[0]} of the {facts['labelled']:,} with a label are right, {shares[1]} in the mean over classes")
        print_rows(
            [
                {
                    "class": each["name"],
                    "samples": each["samples"],
                    "found %": 100 * each["recall"],
                    "rightly %": None if each["precision"] is None else 100 * each["precision"],
                }
                for each in facts["classes"]
            ]
        )
        print(f"Pictures: {', '.join(facts['pictures'])}")
    else:
        counts = [sum(row["predicted"] == name for row in rows) for name in classes]
        print_rows([{"class": name, "samples": count} for name, count in zip(classes, counts, strict=True)])
    told_skipped(facts["skipped"])


def _pictures(
    scores: Scores, rows: list[dict[str, Any]], classes: list[str], data: SSLDataModule, sources: Any, out: Path
) -> list[Path]:
    """Draws the confusion matrix, and the mistakes that the classifier is surest of."""
    confusion, mistakes = out.with_suffix(".confusion.png"), out.with_suffix(".mistakes.png")
    splits = " and ".join(sources)
    plot_confusion(scores.predicted, scores.true, confusion, classes, splits)
    wrong = scores.rows[scores.true != scores.predicted].tolist()
    worst = sorted((rows[row] for row in wrong), key=lambda row: -row["probability"])[:WORST]
    if not worst:
        return [confusion]
    shown = [shown_samples(data, sources[row["split"]], torch.tensor([row["index"]]))[0] for row in worst]
    captions = [f"{row['label']}\ntaken for {row['predicted']}\n{100 * row['probability']:.0f} %" for row in worst]
    title = f"The surest of {len(wrong):,} mistakes among {len(scores.true):,} samples of {splits}"
    plot_captioned(shown, captions, title, mistakes)
    return [confusion, mistakes]
