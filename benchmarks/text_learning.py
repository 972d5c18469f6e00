"""What BERT's pretraining on short texts is worth: the 10 most frequent sections of the package
descriptions, 20 labels a class, 5 draws.

    python benchmarks/text_learning.py  # 5,000 steps, about 20 minutes on 2 quiet cores
    python benchmarks/text_learning.py --seeds 0 1 2  # three of them

Pretrains on all training texts without labels. Then logistic regression and kNN (the protocol of a
run's closing table) on frozen features of the texts of these sections: pretrained, untrained,
TF-IDF of the run's 2,048 most frequent tokens (the closing table's raw features), and TF-IDF of all
words as one would do without this package, with scikit-learn's logistic regression.
"""

from __future__ import annotations

import argparse
import csv
import os
import statistics
import time
from pathlib import Path
from typing import Literal

import numpy as np
import torch
from common import machine
from sklearn.feature_extraction.text import TfidfVectorizer
from sklearn.linear_model import LogisticRegression
from ssl_lightning.datamodules.text_files import TextFiles
from ssl_lightning.methods.bert import BERT

from ssl_lightning import Trainer
from ssl_lightning.data.peek import embed
from ssl_lightning.data.sources import Subset, labelled_draw, labels_of
from ssl_lightning.encoders.text import TextTransformer
from ssl_lightning.evaluation.probes.knn import KNNProbe
from ssl_lightning.evaluation.probes.linear import OnlineLinearProbe
from ssl_lightning.evaluation.protocol import closing_row
from ssl_lightning.evaluation.report import Report

CLASSES, LABELS, DRAWS = 10, 20, 5
COLUMNS = {
    f"linear_{LABELS}": f"linear, {LABELS} a class",
    f"knn_{LABELS}": f"kNN, {LABELS} a class",
    "linear": "linear, all",
    "knn": "kNN, all",
}
MOST = 5_000
"""Labelled samples of each split."""


def of_classes(data: TextFiles, split: Literal["train", "test"], classes: torch.Tensor) -> Subset:
    """The samples of these classes, at most `MOST`, drawn by a fixed seed."""
    source = data.split(split)
    assert source is not None
    labels = labels_of(source)
    index = torch.isin(labels, classes).nonzero()[:, 0]
    index = index[torch.randperm(len(index), generator=torch.Generator().manual_seed(0))[:MOST]]
    return Subset(source, index.sort().values)


def written(path: Path, part: Subset) -> list[str]:
    """The texts of these samples as they stand in the file, which has no empty ones."""
    with path.open(newline="") as file:
        texts = [row["text"] for row in csv.DictReader(file)]
    assert len(texts) == len(part.source)
    return [texts[number] for number in part.indices.tolist()]


def words_alone(texts: list[list[str]], labels: list[np.ndarray]) -> list[float]:
    """Accuracy of logistic regression on the TF-IDF of words, for each draw of labels."""
    vectorizer = TfidfVectorizer(sublinear_tf=True)
    train, test = vectorizer.fit_transform(texts[0]), vectorizer.transform(texts[1])
    draws = [labelled_draw(labels[0], LABELS, 0, draw) for draw in range(DRAWS)]
    return [LogisticRegression(C=10.0, max_iter=2000).fit(train[d], labels[0][d]).score(test, labels[1]) for d in draws]


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--folder", default=os.environ.get("SSL_LIGHTNING_DATA", "data") + "/package_descriptions")
    parser.add_argument("--seeds", type=int, nargs="+", default=[0])
    parser.add_argument("--steps", type=int, default=5_000)
    parser.add_argument("--batch", type=int, default=256)
    parser.add_argument("--lr", type=float, default=1e-3)
    parser.add_argument("--mask-ratio", type=float, default=0.3)
    parser.add_argument("--size", default="mini")
    parser.add_argument("--norm", default="pre")
    parser.add_argument("--dropout", type=float, default=0.0)
    parser.add_argument("--row-length", type=int, default=64)
    parser.add_argument("--threads", type=int)
    parser.add_argument("--root", default="runs/text_learning")
    args = parser.parse_args()
    if args.threads:
        torch.set_num_threads(args.threads)
    print(
        f"{machine()}\n{args}\n\n| features | {' | '.join(COLUMNS.values())} | training, s |\n| ---"
        f" |{' --- |' * (len(COLUMNS) + 1)}"
    )
    gains = []
    for seed in args.seeds:
        torch.manual_seed(seed)
        data = TextFiles(
            args.folder, label_column="label", row_length=args.row_length, batch_size=args.batch, seed=seed
        )
        data.prepare_data()
        data.setup("predict")
        frequent = labels_of(data.training_split).bincount().argsort(descending=True)[:CLASSES]
        parts = [of_classes(data, "train", frequent), of_classes(data, "test", frequent)]
        labels = [torch.searchsorted(frequent.sort().values, labels_of(part)).numpy() for part in parts]
        encoder = TextTransformer(
            vocab_size=len(data.vocabulary),
            size=args.size,
            max_length=args.row_length,
            norm=args.norm,
            dropout=args.dropout,
        )
        method = BERT(encoder, lr=args.lr, mask_ratio=args.mask_ratio)

        def row(
            name: str,
            features: list[torch.Tensor],
            seconds: str = "",
            seed: int = seed,
            labels: list[np.ndarray] = labels,
        ) -> float:
            cells = closing_row(features[0], labels[0], features[1], labels[1], labels_per_class=LABELS, draws=DRAWS)
            shown = [
                f"{100 * cells[key]['mean']:.1f}" + (f" ± {100 * cells[key]['std']:.1f}" if cells[key]["n"] > 1 else "")
                for key in COLUMNS
            ]
            print(f"| {name}, seed {seed} | {' | '.join(shown)} | {seconds} |", flush=True)
            return cells[f"linear_{LABELS}"]["mean"]

        if seed == args.seeds[0]:
            texts = [
                written(Path(args.folder) / f"{name}.csv", part)
                for name, part in zip(("train", "test"), parts, strict=True)
            ]
            scores = words_alone(texts, labels)
            print(
                f"| TF-IDF of all words | {100 * statistics.mean(scores):.1f} ± {100 * statistics.stdev(scores):.1f} |"
                " | | | |",
                flush=True,
            )
            row("TF-IDF of 2,048 tokens", [data.raw_features(part.fetch(torch.arange(len(part)))) for part in parts])
        untrained = row("untrained", [embed(encoder, data, part) for part in parts])
        data = TextFiles(
            args.folder, label_column="label", row_length=args.row_length, batch_size=args.batch, seed=seed
        )
        trainer = Trainer(
            max_steps=args.steps, default_root_dir=args.root, enable_progress_bar=False,
            callbacks=[OnlineLinearProbe(False), KNNProbe(False), Report(False)],
        )  # fmt: skip
        began = time.perf_counter()
        trainer.fit(method, datamodule=data)
        seconds = time.perf_counter() - began
        held_out = {
            name.removeprefix("held_out/"): round(float(value), 3)
            for name, value in trainer.callback_metrics.items()
            if name.startswith("held_out")
        }
        gains.append(row("pretrained", [embed(method, data, part) for part in parts], f"{seconds:.0f}") - untrained)
        print(
            f"held out: {held_out}; {100 * gains[-1]:+.1f} points over untrained. {Path(trainer.log_dir).name}\n",
            flush=True,
        )
    if len(gains) > 1:
        print(
            f"over untrained: {100 * statistics.mean(gains):+.1f} ± {100 * statistics.stdev(gains):.1f} points, least"
            f" {100 * min(gains):+.1f}"
        )


if __name__ == "__main__":
    main()
