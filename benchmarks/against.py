"""What SimCLR learns here and in lightly, from the same images and the same initial weights, under one judge.

    python benchmarks/against.py --peer PEER/bin/python            # 3 seeds, about 8 minutes each on 2 quiet cores

Fashion-MNIST, 10,000 images, the encoder of 15 million multiply-adds, 10 epochs. Ours is `configs/simclr/fashion_mnist.yaml`; lightly
is given the same images, initial encoder, batch size, optimizer, learning rate of every step, temperature and precision, and keeps its
own transform, head and loss (`peers/lightly_learning.py`), with each `--peer-strength` of colour jitter: 0.5, which it recommends for small
images, and its default, 1. The better of the two counts. Each encoder's features of the 10,000 images and of the test split, under
our test transform in float32, are judged by `ssl_lightning.evaluate.closing_row`.
"""

from __future__ import annotations

import argparse
import copy
import os
import subprocess
import sys
import tempfile
import time
from collections.abc import Callable
from functools import partial
from pathlib import Path
from typing import Any

import torch
import yaml
from common import machine, quiet
from ssl_lightning.datamodules.fashion_mnist import FashionMNIST
from ssl_lightning.methods.simclr import SimCLR
from torch import nn

from ssl_lightning import SSLDataModule, Trainer
from ssl_lightning.encoders.conv import ConvEncoder
from ssl_lightning.evaluate import closing_row
from ssl_lightning.optim import warmup_cosine
from ssl_lightning.probes.features import embed
from ssl_lightning.probes.knn import KNNProbe
from ssl_lightning.probes.linear import LinearProbe
from ssl_lightning.report import Report
from ssl_lightning.sources import Subset
from ssl_lightning.trainer import best_precision

CONFIG = Path(__file__).parent.parent / "configs" / "simclr" / "fashion_mnist.yaml"
PEER = Path(__file__).parent / "peers" / "lightly_learning.py"
COLUMNS = ("knn", "knn_10", "linear", "linear_10")
JUDGED = ("knn", "linear")
"""The columns that the bars are about: all labels."""
ABOVE_UNTRAINED = 3.0

Results = dict[str, list[dict[str, float]]]
"""For each row of the table, the accuracies of each seed."""


class Pair:
    """One seed: a method and its data as the config says, and what lightly needs in order to start from the same place."""

    def __init__(self, config: dict[str, Any], seed: int, args: argparse.Namespace) -> None:
        model = {name: value for name, value in config["model"]["init_args"].items() if name != "encoder"}
        torch.manual_seed(seed)
        self.method = SimCLR(ConvEncoder(channels=1), **model)
        self.data = FashionMNIST(args.root, download=False, seed=seed, **config["data"]["init_args"])
        self.epochs, self.precision, self.seed = config["trainer"]["max_epochs"], args.precision, seed
        self.initial = copy.deepcopy(self.method.encoder)
        self.start = self.settings(args)

    def settings(self, args: argparse.Namespace) -> dict[str, Any]:
        """All that the peer is given: weights, images, and the recipe in numbers."""
        spec, batch_size = self.method.optimizer_spec, self.data.batch_size
        train = self.data.training_split
        index = train.indices if isinstance(train, Subset) else torch.arange(len(train))
        epoch = len(train) // batch_size
        steps = self.epochs * epoch
        warm_up = int(min(spec.warmup_epochs * epoch, steps / 10))
        final = 0.0 if spec.schedule == "cosine" else 1.0
        return {
            "encoder": self.initial.state_dict(), "index": index, "root": args.root, "seed": self.seed, "threads": torch.get_num_threads(),
            "workers": args.peer_workers, "batch_size": batch_size, "epochs": self.epochs, "precision": self.precision,
            "temperature": self.method.temperature, "optimizer": spec.name, "weight_decay": spec.weight_decay, "betas": spec.betas,
            "momentum": spec.momentum, "mean": list(self.data.recipe.mean), "std": list(self.data.recipe.std),
            "lrs": [spec.scaled_lr(batch_size) * warmup_cosine(step, warm_up, steps, final) for step in range(steps)],
        }  # fmt: skip

    def train(self) -> nn.Module:
        """Our run; its encoder."""
        callbacks = [LinearProbe(False), KNNProbe(False), Report(False)]
        with tempfile.TemporaryDirectory() as root, quiet():
            trainer = Trainer(
                accelerator="cpu", max_epochs=self.epochs, precision=self.precision, default_root_dir=root,
                callbacks=callbacks, enable_checkpointing=False, enable_progress_bar=False,
            )  # fmt: skip
            trainer.fit(self.method, datamodule=self.data)
        return self.method.encoder

    def train_peer(self, python: str, strength: float) -> nn.Module:
        """lightly's run, in its own environment; its encoder, under our class, which must fit exactly."""
        with tempfile.TemporaryDirectory() as folder:
            start, trained = (Path(folder) / name for name in ("start.pt", "trained.pt"))
            torch.save({**self.start, "strength": strength}, start)
            done = subprocess.run([python, str(PEER), str(start), str(trained)], capture_output=True, text=True, cwd=folder, check=False)
            if done.returncode:
                raise SystemExit(f"{PEER.name} ended with code {done.returncode}:\n{done.stderr[-3000:]}")
            encoder = copy.deepcopy(self.initial)
            encoder.load_state_dict(torch.load(trained, weights_only=True))
        return encoder


def judge(encoder: nn.Module | None, data: SSLDataModule) -> dict[str, float]:
    """Accuracies in %, of an encoder's features or, without one, of the pixels."""
    parts = []
    for source in (data.training_split, data.split("test")):
        assert source is not None and source.labels is not None
        everything = torch.arange(len(source))
        features = data.raw_features(source.fetch(everything)) if encoder is None else embed(encoder, data, source)
        parts += [features, source.labels]
    return {column: 100 * cell["mean"] for column, cell in closing_row(*parts).items()}


def show(label: str, accuracies: dict[str, float], seconds: float | None = None) -> None:
    cells = " | ".join(f"{accuracies[column]:.1f}" for column in COLUMNS)
    print(f"| {label} | {cells} | {'' if seconds is None else f'{seconds:.0f}'} |", flush=True)


def verdicts(results: Results) -> None:
    """Each bar, and whether it is met."""
    for column in JUDGED:
        values = {row: [accuracies[column] for accuracies in rows] for row, rows in results.items()}
        means = {row: sum(numbers) / len(numbers) for row, numbers in values.items()}
        lightly = max((row for row in results if row.startswith("lightly")), key=means.__getitem__)
        spread = max(max(values[row]) - min(values[row]) for row in ("ours", lightly))
        behind = means[lightly] - means["ours"]
        print(f"{column}: ours {-behind:+.2f} against {lightly}, range over seeds {spread:.2f}: {met(behind <= spread)}")
        for row in ("ours", lightly):
            gain = means[row] - means["untrained"]
            print(f"{column}: {row} {gain:+.2f} over untrained, bar {ABOVE_UNTRAINED:+.0f}: {met(gain >= ABOVE_UNTRAINED)}")


def met(bar: bool) -> str:
    return "met" if bar else "not met"


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--peer", default=sys.executable, help="the interpreter of lightly's environment")
    parser.add_argument("--peer-workers", type=int, default=2, help="of lightly's loader")
    parser.add_argument("--peer-strength", type=float, nargs="+", default=[0.5, 1.0], help="of lightly's colour jitter")
    parser.add_argument("--root", default=os.environ.get("SSL_LIGHTNING_DATA", "data") + "/fashion_mnist", help="holds FashionMNIST/raw")
    parser.add_argument("--seeds", type=int, nargs="+", default=[0, 1, 2])
    parser.add_argument("--config", type=Path, default=CONFIG)
    parser.add_argument("--precision", default=best_precision("cpu"), help="of both")
    parser.add_argument("--threads", type=int, help="of torch; by default as many as it takes")
    args = parser.parse_args()
    if args.threads:
        torch.set_num_threads(args.threads)
    config = yaml.safe_load(args.config.read_text())
    print(f"{machine()}, precision {args.precision} in both\n\naccuracy in % on the test split\n")
    print(f"| features | {' | '.join(COLUMNS)} | training, s |\n| --- | --- | --- | --- | --- | --- |")
    rows: dict[str, Callable[[Pair], nn.Module]] = {
        "untrained": lambda pair: pair.initial,
        **{f"lightly {strength}": partial(Pair.train_peer, python=args.peer, strength=strength) for strength in args.peer_strength},
        "ours": Pair.train,
    }
    results: Results = {row: [] for row in rows}
    show("pixels", judge(None, Pair(config, 0, args).data))
    for seed in args.seeds:
        pair = Pair(config, seed, args)
        for row, train in rows.items():
            began = time.perf_counter()
            encoder = train(pair)
            seconds = time.perf_counter() - began
            results[row].append(judge(encoder, pair.data))
            show(f"{row}, seed {seed}", results[row][-1], None if row == "untrained" else seconds)
    for row, runs in results.items():
        show(f"{row}, mean", {column: sum(accuracies[column] for accuracies in runs) / len(runs) for column in COLUMNS})
    print()
    verdicts(results)


if __name__ == "__main__":
    main()
