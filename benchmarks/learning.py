"""What pretraining adds: the main job of the README, from several seeds, against raw pixels and the
untrained encoder.

    python benchmarks/learning.py            # 3 seeds, 1 to 3 minutes each on 2 cores

Runs `ssl-lightning fit --config configs/simclr/digits.yaml` and reads `summary.json`. linear_10:
logistic regression on 10 labels a class, features standardised on the training part, C by
cross-validation on the labelled samples, the same 5 draws of labels for every row
(`ssl_lightning.evaluation.protocol.closing_row`).
"""

from __future__ import annotations

import argparse
import json
import statistics
import subprocess
import sys
import tempfile
from pathlib import Path
from typing import Any

from common import machine

CONFIG = Path(__file__).parent.parent / "configs" / "simclr" / "digits.yaml"
ROWS = ("raw", "untrained", "pretrained")
COLUMN = "linear_10"


def summary_of(config: Path, seed: int) -> dict[str, Any]:
    """The summary of one whole run."""
    with tempfile.TemporaryDirectory() as root:
        command = ["fit", "--config", str(config), "--seed_everything", str(seed), "--trainer.default_root_dir", root]
        subprocess.run([sys.executable, "-m", "ssl_lightning.cli", *command], check=True, stdout=subprocess.DEVNULL)
        (path,) = Path(root).glob("*/*/summary.json")
        return json.loads(path.read_text())


def points(values: list[float], sign: str = "") -> str:
    """Mean and deviation, in percent."""
    deviation = statistics.stdev(values) if len(values) > 1 else 0.0
    return f"{100 * statistics.mean(values):{sign}.1f} ± {100 * deviation:.1f}"


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--seeds", type=int, nargs="+", default=[0, 1, 2])
    parser.add_argument("--config", type=Path, default=CONFIG)
    args = parser.parse_args()
    print(f"{machine()}\n\n{args.config.name}, {COLUMN}: accuracy in %, mean ± deviation over the draws of labels\n")
    print(f"| seed | {' | '.join(ROWS)} | over raw | over untrained | s |\n| --- | --- | --- | --- | --- | --- | --- |")
    means: dict[str, list[float]] = {row: [] for row in ROWS}
    for seed in args.seeds:
        summary = summary_of(args.config, seed)
        cells = {row: summary[f"final/{row}/{COLUMN}"] for row in ROWS}
        for row in ROWS:
            means[row].append(cells[row]["mean"])
        shown = [f"{100 * cell['mean']:.1f} ± {100 * cell['std']:.1f}" for cell in cells.values()]
        gains = [f"{100 * (cells['pretrained']['mean'] - cells[row]['mean']):+.1f}" for row in ROWS[:2]]
        print(f"| {seed} | {' | '.join((*shown, *gains))} | {summary['seconds']:.0f} |", flush=True)
    gained = [
        [after - before for after, before in zip(means["pretrained"], means[row], strict=True)] for row in ROWS[:2]
    ]
    shown = [points(means[row]) for row in ROWS] + [points(gains, "+") for gains in gained]
    print(f"| mean ± deviation over seeds | {' | '.join(shown)} | |")
    print(f"\nBar: at least +4 over both; the least of a seed is {100 * min(map(min, gained)):+.1f}.")


if __name__ == "__main__":
    main()
