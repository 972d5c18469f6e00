"""Images per second of training: SimCLR with a ResNet-18 at 32x32 on Fashion-MNIST, batch 128, against lightly in Lightning.

    python benchmarks/throughput.py --peer PEER/bin/python            # about 8 minutes on 2 quiet cores

Each trains in a process of its own and rests while the other works; a round is one step that is not timed and `--steps` that are, and
the ratio is taken within each round. Both have a ResNet-18 with the stem for small images and one forward for each view, and each its
default arrangement of workers: ours none, since the data is in memory; lightly 2.

same: three channels, crop 0.08 to 1, flip, jitter, grey, no blur, SGD with momentum; no live probes.
defaults: `ssl-lightning fit --model simclr --data fashion_mnist` (grey images, `precision: auto`, all standing callbacks; looks at the
validation samples, which take 5 % of a run at most, are rarer than the rounds) against lightly's example (blur, float32). Which
settings of lightly's these are, and where it documents them: `peers/lightly_throughput.py`.
"""

from __future__ import annotations

import argparse
import os
import statistics
import sys
from dataclasses import dataclass

import torch
from common import machine
from turns import PEERS, alternate, quartiles

BATCH = 128


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
    parser.add_argument("--peer", default=sys.executable, help="the interpreter of lightly's environment")
    parser.add_argument("--peer-workers", type=int, default=2, help="of lightly's loader")
    parser.add_argument("--root", default=os.environ.get("SSL_LIGHTNING_DATA", "data") + "/fashion_mnist", help="holds FashionMNIST/raw")
    parser.add_argument("--rounds", type=int, default=6)
    parser.add_argument("--steps", type=int, default=6, help="timed steps in a round")
    args = parser.parse_args()
    if unknown := set(args.cases) - set(CASES):
        parser.error(f"unknown case {', '.join(unknown)}; choose from {', '.join(CASES)}.")
    root = os.path.abspath(args.root)
    print(f"{machine()}\n\nimages/s, medians over {args.rounds} rounds of {args.steps} steps [quartiles]\n")
    print("| SimCLR, ResNet-18 at 32x32, batch 128 | bar | ours / lightly | ours | lightly | |\n| --- | --- | --- | --- | --- | --- |")
    for name in args.cases or CASES:
        case = CASES[name]
        commands = {
            "ours": [sys.executable, str(PEERS / "our_throughput.py"), root, case.settings, case.ours],
            "lightly": [args.peer, str(PEERS / "lightly_throughput.py"), root, case.settings, case.lightly, str(args.peer_workers)],
        }
        seconds = alternate(commands, args.rounds, args.steps)
        ratios = [theirs / ours for ours, theirs in zip(seconds["ours"], seconds["lightly"], strict=True)]
        rates = {who: quartiles([BATCH * args.steps / value for value in values], ".1f") for who, values in seconds.items()}
        met = "met" if statistics.median(ratios) >= case.bar else "not met"
        print(f"| {case.title} | {case.bar} | {quartiles(ratios)} | {rates['ours']} | {rates['lightly']} | {met} |", flush=True)
    print(f"\nIn the end: load {os.getloadavg()[0]:.1f}; {torch.get_num_threads()} threads each.")


if __name__ == "__main__":
    main()
