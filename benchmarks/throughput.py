"""Images per second of training: a method with a ResNet-18 at 32x32 on Fashion-MNIST, batch 128,
against lightly in Lightning.

    # SimCLR, about 8 minutes on 2 quiet cores
    python benchmarks/throughput.py --peer PEER/bin/python
    python benchmarks/throughput.py --method moco byol swav --peer PEER/bin/python  # about 25

Each trains in a process of its own and rests while the other works; a round is one step that is not
timed and `--steps` that are, and the ratio is taken within each round. Both have a ResNet-18 with
the stem for small images and one forward for each view, and each its default arrangement of
workers: ours none, since the data is in memory; lightly 2.

same: three channels, crop 0.08 to 1, flip, jitter, grey, no blur, SGD with momentum, the heads and
settings of lightly's examples; BYOL solarises, SwAV has 2 views and 6 of 12 pixels; no live probes.
defaults (SimCLR): `ssl-lightning fit --model simclr --data fashion_mnist` (grey images, `precision:
auto`, all standing callbacks; looks at the validation samples, which take 5 % of a run at most, are
rarer than the rounds) against lightly's example (blur, float32).
"""

from __future__ import annotations

import argparse
import json
import os
import statistics
import sys
from dataclasses import dataclass
from typing import Any

import torch
from common import machine
from turns import PEERS, alternate, quartiles

BATCH = 128
SETTINGS: dict[str, dict[str, Any]] = {
    "simclr": {"hidden_dim": 512, "output_dim": 128, "temperature": 0.5},
    "moco": {
        "hidden_dim": 512, "output_dim": 128, "temperature": 0.2, "queue_length": 4096, "momentum": 0.99,
        "symmetric": True,
    },
    "byol": {"hidden_dim": 1024, "output_dim": 256, "momentum": 0.99},
    "swav": {
        "hidden_dim": 512, "output_dim": 128, "prototypes": 512, "temperature": 0.1, "epsilon": 0.05, "iterations": 3,
        "freeze_epochs": 0.0,
    },
}  # fmt: skip
POLICY: dict[str, Any] = {
    "crop_scale": (0.08, 1.0),
    "jitter": (0.4, 0.4, 0.4, 0.1),
    "grey_p": 0.2,
    "solarize_p": 0.2,
    "local_crop_scale": (0.05, 0.14),
    "mean": (0.485, 0.456, 0.406),
    "std": (0.229, 0.224, 0.225),
    "local": 6,
    "local_size": 12,
}
SGD = {"momentum": 0.9, "weight_decay": 1e-4}
EXAMPLE = {
    "settings": {"hidden_dim": 2048, "output_dim": 2048, "temperature": 0.5, "sgd": {}},
    "policy": {**POLICY, "jitter": (0.8, 0.8, 0.8, 0.2), "blur_p": 0.5},
}
"""lightly's SimCLR as its example has it."""


@dataclass(frozen=True)
class Case:
    """What is compared: the settings of both, their precisions, and the bar."""

    title: str
    settings: str
    ours: str
    lightly: str
    bar: float


CASES = {
    "fp32": Case("same operations, fp32", "same", "32-true", "32-true", 1.2),
    "bf16": Case("same operations, bf16", "same", "bf16-mixed", "bf16-mixed", 1.05),
    "defaults": Case("both use their defaults", "defaults", "auto", "32-true", 2.2),
}


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("cases", nargs="*", help=f"{', '.join(CASES)}; all of them if none is named")
    parser.add_argument("--method", nargs="+", choices=SETTINGS, default=["simclr"])
    parser.add_argument("--peer", default=sys.executable, help="the interpreter of lightly's environment")
    parser.add_argument("--peer-workers", type=int, default=2, help="of lightly's loader")
    parser.add_argument(
        "--root", default=os.environ.get("SSL_LIGHTNING_DATA", "data") + "/fashion_mnist", help="holds FashionMNIST/raw"
    )
    parser.add_argument("--rounds", type=int, default=6)
    parser.add_argument("--steps", type=int, default=6, help="timed steps in a round")
    args = parser.parse_args()
    if unknown := set(args.cases) - set(CASES):
        parser.error(f"unknown case {', '.join(unknown)}; choose from {', '.join(CASES)}.")
    root = os.path.abspath(args.root)
    print(f"{machine()}\n\nimages/s, medians over {args.rounds} rounds of {args.steps} steps [quartiles]\n")
    print(
        "| ResNet-18 at 32x32, batch 128 | bar | ours / lightly | ours | lightly | |\n| --- | --- | --- | --- | --- |"
        " --- |"
    )
    for method, name in ((method, name) for method in args.method for name in args.cases or CASES):
        case = CASES[name]
        if case.settings == "defaults" and method != "simclr":
            continue
        theirs = (
            {"settings": {**SETTINGS[method], "sgd": SGD}, "policy": POLICY} if case.settings == "same" else EXAMPLE
        )
        commands = {
            "ours": [sys.executable, str(PEERS / "our_throughput.py"), root, method, case.settings, case.ours,
                     json.dumps(SETTINGS[method]), json.dumps(POLICY)],
            "lightly": [args.peer, str(PEERS / "lightly_throughput.py"), root, method, case.lightly,
                        *map(json.dumps, theirs.values()), str(args.peer_workers)],
        }  # fmt: skip
        seconds = alternate(commands, args.rounds, args.steps)
        ratios = [lightly / ours for ours, lightly in zip(seconds["ours"], seconds["lightly"], strict=True)]
        rates = {
            who: quartiles([BATCH * args.steps / value for value in values], ".1f") for who, values in seconds.items()
        }
        met = "met" if statistics.median(ratios) >= case.bar else "not met"
        print(
            f"| {method}: {case.title} | {case.bar} | {quartiles(ratios)} | {rates['ours']} | {rates['lightly']} |"
            f" {met} |",
            flush=True,
        )
    print(f"\nIn the end: load {os.getloadavg()[0]:.1f}; {torch.get_num_threads()} threads each.")


if __name__ == "__main__":
    main()
