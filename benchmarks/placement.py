"""Where augmentation runs and with how many workers: images per second of training for each
arrangement, by turns.

    python benchmarks/placement.py            # about 8 minutes on 2 quiet cores

`memory` is Fashion-MNIST at 32x32 with the small convolutional encoder, where augmentation is a
large part of a step; `files` are made-up JPEGs at 224 pixels with a ResNet-18, and `light` the same
at 96 pixels with the small encoder, where reading is. What `augment_on: auto` and `workers: null`
take on few cores is marked. Ratios are taken within each round.
"""

from __future__ import annotations

import argparse
import os
import statistics
import sys
import tempfile
from pathlib import Path

from common import machine
from photographs import write_photographs
from turns import alternate, quartiles

ARRANGEMENTS = {
    "device, 0 workers": ("device", 0),
    "device, 1 worker": ("device", 1),
    "device, 2 workers": ("device", 2),
    "worker, 1 worker": ("worker", 1),
    "worker, 2 workers": ("worker", 2),
}

AUTO = "device, 0 workers"


def command(*options: str) -> list[str]:
    return [
        sys.executable, "-m", "ssl_lightning.cli", "fit", "--model", "simclr", "--trainer.callbacks+=paced.Paced",
        "--online_probe.enabled", "false", "--knn_probe.enabled", "false", "--report.enabled", "false", *options,
    ]  # fmt: skip


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("cases", nargs="*", help="memory, files, light; all if none is named")
    parser.add_argument(
        "--root", default=os.environ.get("SSL_LIGHTNING_DATA", "data") + "/fashion_mnist", help="holds FashionMNIST/raw"
    )
    parser.add_argument("--rounds", type=int, default=5)
    parser.add_argument("--steps", type=int, default=3, help="timed steps in a round; ten times as many in memory")
    args = parser.parse_args()
    os.environ["PYTHONPATH"] = str(Path(__file__).parent / "peers")
    print(f"{machine()}\n\nimages/s, medians over {args.rounds} rounds [quartiles]\n", flush=True)
    with tempfile.TemporaryDirectory() as folder:
        write_photographs(Path(folder), 300)
        fashion = [
            "--data",
            "fashion_mnist",
            "--data.root",
            os.path.abspath(args.root),
            "--data.download",
            "false",
            "--model.encoder",
            "conv",
        ]
        files = ["--data", "image_folder", "--data.root", folder]
        cases = {
            "memory": (command(*fashion), 128, 10 * args.steps),
            "files": (command(*files, "--data.batch_size", "32"), 32, args.steps),
            "light": (
                command(*files, "--data.batch_size", "64", "--data.image_size", "96", "--model.encoder", "conv"),
                64,
                4 * args.steps,
            ),
        }
        for case in args.cases or cases:
            options, batch, steps = cases[case]
            commands = {
                name: [*options, "--data.augment_on", place, "--data.workers", str(workers)]
                for name, (place, workers) in ARRANGEMENTS.items()
            }
            seconds = alternate(commands, args.rounds, steps)
            print(f"| {case} | images/s | against the best |\n| --- | --- | --- |")
            best = min(seconds, key=lambda name: statistics.median(seconds[name]))
            for name, values in seconds.items():
                ratios = [fastest / value for fastest, value in zip(seconds[best], values, strict=True)]
                mark = " (auto on up to 4 cores)" if name == AUTO else ""
                print(
                    f"| {name}{mark} | {quartiles([batch * steps / value for value in values], '.1f')} |"
                    f" {quartiles(ratios)} |"
                )
            print(flush=True)


if __name__ == "__main__":
    main()
