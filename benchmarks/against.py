"""What a method learns here and in lightly, from the same images and the same initial weights,
under one judge.

    # SimCLR, 3 seeds, about 8 minutes each on 2 quiet cores
    python benchmarks/against.py --peer PEER/bin/python
    python benchmarks/against.py --method moco --peer PEER/bin/python  # or byol, swav

Fashion-MNIST, 10,000 images, the encoder of 15 million multiply-adds, 10 epochs. Ours is
`configs/METHOD/fashion_mnist.yaml`; lightly is given the same images, initial encoder, batch size,
optimizer, learning rate of every step, settings of the method and precision, and keeps its own
head, loss and operations on images (`peers/lightly_methods.py`). Their strengths are ours
(`--peer-views ours`), or those that lightly takes for small images, with this strength of colour
jitter: 0.5, which it recommends, or 1, its default. SimCLR is compared with both of these, and the
better counts; the other methods with ours. Each encoder's features of the 10,000 images and of the
test split, under our test transform in float32, are judged by
`ssl_lightning.evaluation.protocol.closing_row`.
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
from common import machine, quiet, settings_of
from ssl_lightning.datamodules.fashion_mnist import FashionMNIST
from torch import nn

from ssl_lightning import SSLDataModule, SSLMethod, Trainer
from ssl_lightning.data.peek import embed
from ssl_lightning.data.sources import Subset
from ssl_lightning.encoders.conv import ConvEncoder
from ssl_lightning.evaluation.probes.knn import KNNProbe
from ssl_lightning.evaluation.probes.linear import OnlineLinearProbe
from ssl_lightning.evaluation.protocol import closing_row
from ssl_lightning.evaluation.report import Report
from ssl_lightning.optim.recipes import warmup_cosine
from ssl_lightning.plugins.registry import Registry
from ssl_lightning.run.settings.precision import best_precision

CONFIGS = Path(__file__).parent.parent / "configs"
METHODS = ("simclr", "moco", "byol", "swav")
PEER = Path(__file__).parent / "peers" / "lightly_learning.py"
COLUMNS = ("knn", "knn_10", "linear", "linear_10")
JUDGED = ("knn", "linear")
"""The columns that the bars are about: all labels."""
ABOVE_UNTRAINED = 3.0
LIGHTLY = {"crop_scale": (0.08, 1.0), "grey_p": 0.2, "local_crop_scale": (0.05, 0.14), "solarize_p": 0.2}
"""What lightly takes for images of 32 pixels; the jitter's strength is a factor on `JITTER`."""
JITTER = (0.8, 0.8, 0.8, 0.2)

Results = dict[str, list[dict[str, float]]]
"""For each row of the table, the accuracies of each seed."""


class Pair:
    """One seed: a method and its data as the config says, and what lightly needs in order to start
    from the same place."""

    def __init__(self, config: dict[str, Any], seed: int, args: argparse.Namespace) -> None:
        model = {name: value for name, value in config["model"]["init_args"].items() if name != "encoder"}
        torch.manual_seed(seed)
        cls = Registry("ssl_lightning.methods")[args.method]
        self.method: SSLMethod = cls(ConvEncoder(channels=1), **model)
        self.data = FashionMNIST(args.root, download=False, seed=seed, **config["data"]["init_args"])
        self.epochs, self.precision, self.seed = config["trainer"]["max_epochs"], args.precision, seed
        self.initial = copy.deepcopy(self.method.encoder)
        self.start = {**self.settings(args), "method": args.method, "settings": settings_of(self.method, model)}

    def settings(self, args: argparse.Namespace) -> dict[str, Any]:
        """All that the peer is given: weights, images, and the recipe in numbers."""
        spec, batch_size = self.method.optimizer_spec, self.data.batch_size
        train = self.data.training_split
        index = train.indices if isinstance(train, Subset) else torch.arange(len(train))
        epoch = len(train) // batch_size
        steps = self.epochs * epoch
        warm_up = spec.warmup_steps(steps, epoch)
        final = 0.0 if spec.schedule == "cosine" else 1.0
        return {
            "encoder": self.initial.state_dict(),
            "index": index,
            "root": args.root,
            "seed": self.seed,
            "threads": torch.get_num_threads(),
            "workers": args.peer_workers,
            "batch_size": batch_size,
            "epochs": self.epochs,
            "precision": self.precision,
            "optimizer": spec.name,
            "weight_decay": spec.weight_decay,
            "betas": spec.betas,
            "momentum": spec.momentum,
            "lrs": [spec.scaled_lr(batch_size) * warmup_cosine(step, warm_up, steps, final) for step in range(steps)],
        }

    def train(self) -> nn.Module:
        """Our run; its encoder."""
        callbacks = [OnlineLinearProbe(False), KNNProbe(False), Report(False)]
        with tempfile.TemporaryDirectory() as root, quiet():
            trainer = Trainer(
                accelerator="cpu", max_epochs=self.epochs, precision=self.precision, default_root_dir=root,
                callbacks=callbacks, enable_checkpointing=False, enable_progress_bar=False,
            )  # fmt: skip
            trainer.fit(self.method, datamodule=self.data)
        return self.method.encoder

    def policy(self, views: str) -> dict[str, Any]:
        """How lightly augments: as strong as we do (`ours`), or as it does by itself at a strength
        of the jitter."""
        recipe, spec = self.data.recipe, self.method.views
        policy = {"jitter": recipe.jitter, **{name: getattr(recipe, name) for name in LIGHTLY}}
        if views != "ours":
            policy = {"jitter": tuple(float(views) * each for each in JITTER), **LIGHTLY}
        local_size = self.data.local_size(spec) if spec.local else None
        return {
            **policy,
            "mean": list(recipe.mean),
            "std": list(recipe.std),
            "local": spec.local,
            "local_size": local_size,
        }

    def train_peer(self, python: str, views: str) -> nn.Module:
        """lightly's run, in its own environment; its encoder, under our class, which must fit
        exactly."""
        with tempfile.TemporaryDirectory() as folder:
            start, trained = (Path(folder) / name for name in ("start.pt", "trained.pt"))
            torch.save({**self.start, "policy": self.policy(views)}, start)
            done = subprocess.run(
                [python, str(PEER), str(start), str(trained)], capture_output=True, text=True, cwd=folder, check=False
            )
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
        print(
            f"{column}: ours {-behind:+.2f} against {lightly}, range over seeds {spread:.2f}: {met(behind <= spread)}"
        )
        for row in ("ours", lightly):
            gain = means[row] - means["untrained"]
            print(
                f"{column}: {row} {gain:+.2f} over untrained, bar {ABOVE_UNTRAINED:+.0f}:"
                f" {met(gain >= ABOVE_UNTRAINED)}"
            )


def met(bar: bool) -> str:
    return "met" if bar else "not met"


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--peer", default=sys.executable, help="the interpreter of lightly's environment")
    parser.add_argument("--peer-workers", type=int, default=2, help="of lightly's loader")
    parser.add_argument("--method", choices=METHODS, default="simclr")
    parser.add_argument(
        "--peer-views",
        nargs="+",
        help="`ours`, or strengths of lightly's colour jitter; by default 0.5 and 1.0 for simclr, else ours",
    )
    parser.add_argument(
        "--root", default=os.environ.get("SSL_LIGHTNING_DATA", "data") + "/fashion_mnist", help="holds FashionMNIST/raw"
    )
    parser.add_argument("--seeds", type=int, nargs="+", default=[0, 1, 2])
    parser.add_argument("--config", type=Path, help="of ours; by default configs/METHOD/fashion_mnist.yaml")
    parser.add_argument("--precision", default=best_precision("cpu"), help="of both")
    parser.add_argument("--threads", type=int, help="of torch; by default as many as it takes")
    args = parser.parse_args()
    if args.threads:
        torch.set_num_threads(args.threads)
    config = yaml.safe_load((args.config or CONFIGS / args.method / "fashion_mnist.yaml").read_text())
    peers = args.peer_views or (["0.5", "1.0"] if args.method == "simclr" else ["ours"])
    print(f"{args.method}; {machine()}, precision {args.precision} in both\n\naccuracy in % on the test split\n")
    print(f"| features | {' | '.join(COLUMNS)} | training, s |\n| --- | --- | --- | --- | --- | --- |")
    rows: dict[str, Callable[[Pair], nn.Module]] = {
        "untrained": lambda pair: pair.initial,
        **{f"lightly {views}": partial(Pair.train_peer, python=args.peer, views=views) for views in peers},
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
