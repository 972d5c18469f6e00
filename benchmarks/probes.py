"""What the live probes cost: runs with the default linear probe and kNN, and runs without, by
turns.

    python benchmarks/probes.py            # about 5 minutes on 2 quiet cores

A run with probes notes the seconds that it spends inside each; the table has their share of it, and
what the whole run takes longer than one without. Both end with bitwise equal weights, or the
program stops.
"""

from __future__ import annotations

import argparse
import statistics
import tempfile
import time
from collections.abc import Callable
from typing import Any

import torch
from common import NoiseImages, machine, quiet
from ssl_lightning.datamodules.digits import Digits
from ssl_lightning.methods.simclr import SimCLR

from ssl_lightning import SSLDataModule, Trainer
from ssl_lightning.encoders.conv import ConvEncoder
from ssl_lightning.evaluation.probes.knn import KNNProbe
from ssl_lightning.evaluation.probes.linear import OnlineLinearProbe
from ssl_lightning.evaluation.report import Report


class Timed:
    """Notes the seconds that a probe spends, beginning and end of the training included."""

    seconds = 0.0

    def on_train_start(self, *args: Any) -> None:
        start = time.perf_counter()
        super().on_train_start(*args)  # type: ignore[misc]
        self.seconds += time.perf_counter() - start

    def on_train_batch_end(self, *args: Any) -> None:
        start = time.perf_counter()
        super().on_train_batch_end(*args)  # type: ignore[misc]
        self.seconds += time.perf_counter() - start


class TimedLinear(Timed, OnlineLinearProbe):
    pass


class TimedKNN(Timed, KNNProbe):
    pass


CASES: dict[str, tuple[Callable[[], SSLDataModule], int]] = {
    "digits": (Digits, 40),
    "Fashion-MNIST's sizes, 10,000 images": (lambda: NoiseImages(train_samples=10_000), 9),
}
"""The data, and epochs: long enough for several looks."""


def run(make_data: Callable[[], SSLDataModule], epochs: int, enabled: bool) -> tuple[float, dict[str, float], SimCLR]:
    """Seconds of a run, those inside each probe, and the method that it trained."""
    torch.manual_seed(0)
    method = SimCLR(ConvEncoder(channels=1))
    probes: dict[str, Any] = {"linear": TimedLinear(enabled), "kNN": TimedKNN(enabled)}
    with tempfile.TemporaryDirectory() as root, quiet():
        trainer = Trainer(
            accelerator="cpu",
            max_epochs=epochs,
            default_root_dir=root,
            callbacks=[*probes.values(), Report(enabled=False)],
        )
        start = time.perf_counter()
        trainer.fit(method, datamodule=make_data())
        seconds = time.perf_counter() - start
    return seconds, {name: probe.seconds for name, probe in probes.items()}, method


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--rounds", type=int, default=3)
    parser.add_argument("--threads", type=int, help="of torch; by default as many as it takes")
    args = parser.parse_args()
    if args.threads:
        torch.set_num_threads(args.threads)
    print(f"{machine()}\n\nConvEncoder, default probes; medians over {args.rounds} rounds [least, most]\n")
    print(
        "| data | seconds | linear probe, % | kNN, % | both, % (bar 5) | longer than without, % |\n| --- | --- | --- |"
        " --- | --- | --- |"
    )
    for name, (make_data, epochs) in CASES.items():
        run(make_data, 1, True)  # warm-up
        shares: dict[str, list[float]] = {"linear": [], "kNN": [], "both": [], "longer": []}
        totals = []
        for _ in range(args.rounds):
            seconds, inside, watched = run(make_data, epochs, True)
            without, _, alone = run(make_data, epochs, False)
            if not all(map(torch.equal, watched.state_dict().values(), alone.state_dict().values())):
                raise SystemExit(f"{name}: the probes changed the weights.")
            totals.append(seconds)
            for probe, spent in inside.items():
                shares[probe].append(100 * spent / seconds)
            shares["both"].append(100 * sum(inside.values()) / seconds)
            shares["longer"].append(100 * (seconds / without - 1))
        cells = [
            f"{statistics.median(values):.1f} [{min(values):.1f}, {max(values):.1f}]" for values in shares.values()
        ]
        print(f"| {name}, {epochs} epochs | {statistics.median(totals):.0f} | {' | '.join(cells)} |", flush=True)


if __name__ == "__main__":
    main()
