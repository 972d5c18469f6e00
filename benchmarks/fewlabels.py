"""What the second step makes of few labels: 10 a class, drawn 5 times, on a briefly pretrained
encoder.

    python benchmarks/fewlabels.py letters fashion digits texts  # 10 to 20 minutes each
    python benchmarks/fewlabels.py letters --encoder FOLDER      # of a run, without pretraining

For each draw, accuracy on the test split: logistic regression on the frozen features (the protocol
of a run's closing table), `linear_probe`, `finetune`, and the same network from its first weights
on the labels alone (the table's row). The bar: `finetune` at least the frozen features' regression
minus 1 point, in the mean over draws.
"""

from __future__ import annotations

import argparse
import csv
import os
import statistics
import tempfile
import time
from collections.abc import Callable
from pathlib import Path
from typing import Any, NamedTuple

import torch
from common import machine
from letters import Letters
from ssl_lightning.datamodules.fashion_mnist import FashionMNIST
from ssl_lightning.datamodules.spoken_digits import SpokenDigits
from ssl_lightning.datamodules.text_files import TextFiles
from ssl_lightning.methods.bert import BERT
from ssl_lightning.methods.finetune import Finetune
from ssl_lightning.methods.linear_probe import LinearProbe
from ssl_lightning.methods.simclr import SimCLR

from ssl_lightning import SSLMethod, Trainer, load_encoder
from ssl_lightning.data.datamodule import SSLDataModule
from ssl_lightning.data.peek import embed
from ssl_lightning.data.sources import Source, labels_of
from ssl_lightning.encoders.audio_conv import AudioConvEncoder
from ssl_lightning.encoders.base import Encoder
from ssl_lightning.encoders.conv import ConvEncoder
from ssl_lightning.encoders.text import TextTransformer
from ssl_lightning.evaluation.labels_only import classified, fitted
from ssl_lightning.evaluation.measures import balanced
from ssl_lightning.evaluation.probes.knn import KNNProbe
from ssl_lightning.evaluation.probes.linear import OnlineLinearProbe
from ssl_lightning.evaluation.protocol import closing_row
from ssl_lightning.evaluation.report import Report

FOLDER = os.environ.get("SSL_LIGHTNING_DATA", "data")
COLUMNS = ("frozen", "linear_probe", "finetune", "labels only")
LABELS, CLASSES, TEST = 10, 10, 3_000


class Case(NamedTuple):
    """A data set, the method that pretrains on it and the steps that it takes."""

    data: Callable[..., SSLDataModule]
    method: Callable[[SSLDataModule], SSLMethod]
    steps: int


def text_case() -> Case:
    """Package descriptions: pretraining on all, labels of the most frequent sections."""
    whole = Path(FOLDER) / "package_descriptions"
    some = Path(tempfile.gettempdir()) / "ssl_lightning_sections"
    some.mkdir(exist_ok=True)
    rows = {name: list(csv.DictReader((whole / f"{name}.csv").open(newline=""))) for name in ("train", "test")}
    labels = [row["label"] for row in rows["train"]]
    frequent = sorted(set(labels), key=lambda label: (-labels.count(label), label))[:CLASSES]
    for name, each in rows.items():
        with (some / f"{name}.csv").open("w", newline="") as file:
            writer = csv.DictWriter(file, ("label", "text"))
            writer.writeheader()
            writer.writerows(row for row in each if row["label"] in frequent)

    def data(**kwargs: Any) -> SSLDataModule:
        folder = some if "labels_per_class" in kwargs else whole
        return TextFiles(str(folder), label_column="label", row_length=32, **kwargs)

    def method(data: Any) -> SSLMethod:
        return BERT(TextTransformer(vocab_size=len(data.vocabulary), size="mini", max_length=32, dropout=0.0), lr=1e-3)

    return Case(data, method, 400)


CASES: dict[str, Callable[[], Case]] = {
    "letters": lambda: Case(Letters, lambda data: SimCLR(ConvEncoder(channels=1), lr=0.003), 900),
    "fashion": lambda: Case(
        lambda **kwargs: FashionMNIST(f"{FOLDER}/fashion_mnist", samples=10_000, **kwargs),
        lambda data: SimCLR(ConvEncoder(channels=1), lr=0.003),
        200,
    ),
    "digits": lambda: Case(
        lambda **kwargs: SpokenDigits(f"{FOLDER}/fsdd/recordings", probe_sets={}, **kwargs),
        lambda data: SimCLR(AudioConvEncoder(mels=48), lr=0.003),
        200,
    ),
    "texts": text_case,
}


def trained(method: SSLMethod, data: SSLDataModule, root: str, **length: Any) -> Trainer:
    """A run without probes and table."""
    trainer = Trainer(
        **length, default_root_dir=root, enable_progress_bar=False,
        callbacks=[OnlineLinearProbe(False), KNNProbe(False), Report(False)],
    )  # fmt: skip
    trainer.fit(method, datamodule=data)
    return trainer


def pretrained(case: Case, root: str) -> tuple[Path, float]:
    """The folder of a pretraining run, and the seconds that it took."""
    torch.manual_seed(0)
    data = case.data(batch_size=128)
    data.prepare_data()
    data.setup("predict")
    started = time.monotonic()
    trainer = trained(case.method(data), data, root, max_steps=case.steps)
    assert trainer.run_folder is not None
    return trainer.run_folder, time.monotonic() - started


def measured(case: Case, folder: Path, draw: int, root: str, options: dict[str, Any]) -> dict[str, float]:
    """The accuracies of one draw of labels, by column."""
    made: Any = {"seed": draw, "labels_per_class": LABELS}
    extra = {"tokenizer": str(folder)} if (folder / "tokenizer.json").is_file() else {}
    data = case.data(**made, **extra)
    data.prepare_data()
    data.setup("predict")
    labelled, test = data.labelled_split, data.split("test")
    assert labelled is not None and test is not None
    x, judged = (embed(load_encoder(folder), data, part) for part in (labelled, test))
    cells = closing_row(x, labels_of(labelled), judged, labels_of(test), labels_per_class=LABELS, draws=1)
    scores = {"frozen": cells["linear"]["mean"]}
    for name, cls in (("linear_probe", LinearProbe), ("finetune", Finetune)):
        torch.manual_seed(draw)
        method = cls(load_encoder(folder), **(options if cls is Finetune else {}))
        second = case.data(**made, **extra)
        trained(method, second, root, max_epochs=second.default_epochs)
        scores[name] = method.judge(second, test)[1]
    return scores


def labels_only(case: Case, encoder: Encoder, draw: int, trainer: Trainer, extra: dict[str, Any]) -> float:
    """Accuracy of an encoder trained on the labels alone."""
    data = case.data(seed=draw, labels_per_class=LABELS, **extra)
    data.setup("predict")
    train: Source | None = data.labelled_split
    test: Source | None = data.split("test")
    assert train is not None and test is not None
    network = fitted(encoder, data, train, trainer, draw)
    return balanced(classified(network, data, test, trainer).hits, labels_of(test))


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("cases", nargs="+", choices=CASES)
    parser.add_argument("--encoder", type=Path, help="a run folder, in place of pretraining")
    parser.add_argument("--draws", type=int, nargs="+", default=range(5))
    parser.add_argument("--root", default="runs/fewlabels")
    parser.add_argument("--lr", type=float)
    parser.add_argument("--without", nargs="*", default=[], choices=COLUMNS, help="columns that are not measured")
    args = parser.parse_args()
    options = {} if args.lr is None else {"lr": args.lr}
    print(f"{machine()}\n\n| data, draw | {' | '.join(COLUMNS)} |\n| --- |{' --- |' * len(COLUMNS)}", flush=True)
    for name in args.cases:
        case = CASES[name]()
        folder, seconds = (args.encoder, 0.0) if args.encoder else pretrained(case, args.root)
        rows = []
        for draw in args.draws:
            scores = measured(case, folder, draw, args.root, options)
            if "labels only" not in args.without:
                extra = {"tokenizer": str(folder)} if (folder / "tokenizer.json").is_file() else {}
                torch.manual_seed(draw)
                data = case.data(seed=draw, labels_per_class=LABELS, **extra)
                data.setup("predict")
                quiet = Trainer(enable_progress_bar=False, default_root_dir=args.root)
                scores["labels only"] = labels_only(case, case.method(data).backbone, draw, quiet, extra)
            rows.append(scores)
            shown = [f"{100 * scores[column]:.1f}" if column in scores else "" for column in COLUMNS]
            print(f"| {name}, {draw} | {' | '.join(shown)} |", flush=True)
        means = {c: 100 * statistics.mean(row[c] for row in rows) for c in COLUMNS if c in rows[0]}
        print(
            f"| **{name}**, mean | {' | '.join(f'{means[c]:.1f}' if c in means else '' for c in COLUMNS)} |"
            f"\n{name}: pretrained in {seconds:.0f} s; bar: {means['finetune'] - means['frozen']:+.1f} of at least -1",
            flush=True,
        )


if __name__ == "__main__":
    main()
