"""What each method learns from spoken digits: frozen features against the untrained encoder and
against pooled log-mels.

    # all configs/METHOD/spoken_digits.yaml, 3 seeds: minutes for each run
    python benchmarks/sound_learning.py
    python benchmarks/sound_learning.py simclr byol  # these alone

Runs `ssl-lightning fit --config configs/METHOD/spoken_digits.yaml` and reads `summary.json`: the
official split, logistic regression on all labels and on 10 labels a class (the mean of 5 draws, the
same for every row), for digits and for speakers (`ssl_lightning.evaluation.protocol.closing_row`).
Raw: mean and deviation over time of each band's log-mels. Each run leaves a file in `--folder`, and
one whose file is there, for the same settings, is not run again: an interrupted table goes on.
"""

from __future__ import annotations

import argparse
import json
import os
import statistics
import subprocess
import sys
import tempfile
from pathlib import Path
from typing import Any

import yaml
from common import machine

CONFIGS = Path(__file__).parent.parent / "configs"
DATA = "spoken_digits.yaml"
ROWS = ("raw", "untrained", "pretrained")
COLUMNS = {
    "linear_10": "digit, 10 a class",
    "linear": "digit, all",
    "speaker/linear_10": "speaker, 10 a class",
    "speaker/linear": "speaker, all",
}
FIRST = next(iter(COLUMNS))
MINUTES = 15
Run = dict[str, Any]


def done(method: str, seed: int, args: argparse.Namespace) -> Run:
    """One run: what its file says, or a new one."""
    config, file = CONFIGS / method / DATA, args.folder / f"{method}-{seed}.json"
    settings = yaml.safe_load(config.read_text())
    if file.is_file():
        run: Run = json.loads(file.read_text())
        if run["config"] == settings:
            return run
    with tempfile.TemporaryDirectory() as root:
        command = ["fit", "--config", str(config), "--data.root", args.root, "--seed_everything", str(seed)]
        command += ["--trainer.default_root_dir", root, "--report.labels_only", "false"]
        before = os.times()
        subprocess.run([sys.executable, "-m", "ssl_lightning.cli", *command], check=True, stdout=subprocess.DEVNULL)
        after = os.times()
        (path,) = Path(root).glob("*/*/summary.json")
        summary = json.loads(path.read_text())
    spent = after.children_user - before.children_user + after.children_system - before.children_system
    run = {"config": settings, "machine": machine(), "processor": round(spent, 1), "summary": summary}
    args.folder.mkdir(parents=True, exist_ok=True)
    temporary = file.with_suffix(".tmp")
    temporary.write_text(json.dumps(run, indent=1))
    temporary.replace(file)
    return run


def accuracy(run: Run, row: str, column: str) -> float:
    """In percent."""
    labelled, _, name = column.rpartition("/")
    return 100 * run["summary"]["/".join(filter(None, ("final", labelled, row, name)))]["mean"]


def points(values: list[float], sign: str = "") -> str:
    """Mean and deviation."""
    deviation = statistics.stdev(values) if len(values) > 1 else 0.0
    return f"{statistics.mean(values):{sign}.1f} ± {deviation:.1f}"


def line(*cells: str) -> None:
    print(f"| {' | '.join(cells)} |", flush=True)


def shown(method: str, runs: list[Run]) -> None:
    """The mean rows of a method, and what it gained."""
    for row in ROWS:
        line(
            f"{method}, {row}, mean", *(points([accuracy(run, row, column) for run in runs]) for column in COLUMNS), ""
        )
    gains = [
        [accuracy(run, "pretrained", column) - accuracy(run, "untrained", column) for run in runs] for column in COLUMNS
    ]
    line(f"{method}, over untrained", *(f"{points(each, '+')}, least {min(each):+.1f}" for each in gains), "")


def verdicts(runs: dict[str, list[Run]]) -> None:
    """Each bar, and whether it is met."""
    means = {
        row: {
            method: {column: statistics.mean(accuracy(run, row, column) for run in each) for column in COLUMNS}
            for method, each in runs.items()
        }
        for row in ROWS
    }
    print()
    for method, each in runs.items():
        pairs = {
            name: (means["pretrained"][method][column], means["untrained"][method][column])
            for column, name in COLUMNS.items()
        }
        below = [name for name, (after, before) in pairs.items() if after <= before and after < 100]
        minutes = max(run["summary"]["seconds"] for run in each) / 60
        print(
            f"{method}:"
            f" {'not above untrained: ' + '; '.join(below) if below else 'above untrained everywhere, or at 100 %'}",
            end="; ",
        )
        print(f"at most {minutes:.1f} of {MINUTES} minutes")
    best = max(runs, key=lambda method: means["pretrained"][method][FIRST])
    above = means["pretrained"][best][FIRST] - means["raw"][best][FIRST]
    print(f"{COLUMNS[FIRST]}: the best, {best}, is {above:+.1f} over raw: {'met' if above > 0 else 'not met'}")


def main() -> None:
    known = sorted(path.parent.name for path in CONFIGS.glob(f"*/{DATA}"))
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("methods", nargs="*", default=known, help=f"of {', '.join(known)}")
    parser.add_argument("--seeds", type=int, nargs="+", default=[0, 1, 2])
    parser.add_argument(
        "--root", default=os.environ.get("SSL_LIGHTNING_DATA", "data") + "/fsdd/recordings", help="the recordings"
    )
    parser.add_argument(
        "--folder", type=Path, default=Path("runs/sound_learning"), help="of the file that each run leaves"
    )
    args = parser.parse_args()
    if strange := [method for method in args.methods if method not in known]:
        parser.error(f"no configs/{strange[0]}/{DATA}; there are {', '.join(known)}")
    print(f"{machine()}\n\naccuracy in % on the test split\n")
    line("run", *COLUMNS.values(), "training, s (processor, s)")
    line(*["---"] * (len(COLUMNS) + 2))
    runs: dict[str, list[Run]] = {}
    for method in args.methods:
        runs[method] = []
        for seed in args.seeds:
            run = done(method, seed, args)
            runs[method].append(run)
            seconds = f"{run['summary']['seconds']:.0f} ({run['processor']:.0f})"
            for row in ROWS:
                cells = [f"{accuracy(run, row, column):.1f}" for column in COLUMNS]
                line(f"{method}, seed {seed}, {row}", *cells, seconds if row == "pretrained" else "")
        shown(method, runs[method])
    verdicts(runs)


if __name__ == "__main__":
    main()
