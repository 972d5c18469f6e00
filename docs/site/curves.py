"""Draws the healthy curve on the page of each method: `python docs/site/curves.py [NAME ...]`.

It runs the first block of commands of docs/methods/NAME.md, and writes docs/methods/NAME.png.
`--runs FOLDER` keeps the runs, and draws from those that are there.
"""

from __future__ import annotations

import argparse
import csv
import io
import re
import subprocess
import tempfile
from pathlib import Path

import numpy as np
import yaml
from matplotlib.axes import Axes
from matplotlib.figure import Figure
from PIL import Image

from ssl_lightning import SSLMethod, load
from ssl_lightning.data.figure import dress
from ssl_lightning.evaluation.plots.style import CHANCE, COLOURS, Row, series

PAGES = Path(__file__).parents[1] / "methods"
FIRST = "simclr"
"""The method whose run the fine-tuning goes on from."""
SIZE, INCH = (8.0, 3.2), 90
COLOURS_KEPT = 64
ACCURACIES = {
    "probe/linear/top1": "linear probe",
    "probe/knn/top1": "kNN",
    "val/balanced": "validation part",
    "held_out/accuracy": "hidden tokens of held-out text",
}


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("names", nargs="*", metavar="NAME")
    parser.add_argument("--runs", type=Path)
    options = parser.parse_args()
    with tempfile.TemporaryDirectory() as temporary:
        for name in options.names or sorted(blocks(), key=lambda each: each != FIRST):
            draw(run_of(name, (options.runs or Path(temporary)).absolute()), PAGES / f"{name}.png")


def blocks() -> dict[str, str]:
    """The commands of each page that shows a curve, by the method's name."""
    texts = {page.stem: page.read_text() for page in PAGES.glob("*.md")}
    return {
        name: re.findall(r"^```bash\n(.*?)^```", text, re.MULTILINE | re.DOTALL)[0]
        for name, text in texts.items()
        if f"({name}.png)" in text
    }


def run_of(name: str, folder: Path) -> Path:
    """The folder of a method's run; it is run where there is none yet."""
    runs = sorted((folder / name).glob("*/*/metrics.csv"))
    if not runs:
        if name == "finetune":
            run_of(FIRST, folder)
        commands = re.sub(r"runs/", f"{folder / FIRST}/", blocks()[name])
        where = f" --report.enabled false --trainer.default_root_dir '{folder / name}'"
        script = re.sub(r"^(ssl-lightning fit .*)$", rf"\1{where}", commands, flags=re.MULTILINE)
        subprocess.run(["bash", "-ec", script], cwd=folder, check=True)
        runs = sorted((folder / name).glob("*/*/metrics.csv"))
    return runs[-1].parent


def draw(run: Path, path: Path) -> None:
    """Draws loss and accuracies of a run side by side, as a small PNG with a palette."""
    rows = read(run / "metrics.csv")
    method = load(run)
    figure = Figure(figsize=SIZE, dpi=INCH, layout="constrained")
    left, right = figure.subplots(1, 2)
    data = run.parent.name.partition("-")[2].split("-")[0]
    figure.suptitle(f"{type(method).__name__} on {data}, {max(row['step'] for row in rows):,.0f} steps",
                    x=0.01, ha="left", fontsize=11)  # fmt: skip
    draw_loss(left, rows, method, run)
    draw_accuracies(right, rows)
    for axes in (left, right):
        axes.set_xlim(0, 1.02 * max(row["step"] for row in rows))
    content = io.BytesIO()
    figure.savefig(content, format="png")
    picture = Image.open(content).convert("RGB").quantize(COLOURS_KEPT, dither=Image.Dither.NONE)
    picture.save(path, optimize=True)
    print(f"{path}: {path.stat().st_size / 1e3:.0f} kB")


def read(path: Path) -> list[Row]:
    """The rows of a run's metrics, without empty values."""
    with path.open(newline="") as file:
        return [{name: float(value) for name, value in row.items() if value} for row in csv.DictReader(file)]


def draw_loss(axes: Axes, rows: list[Row], method: SSLMethod, run: Path) -> None:
    dress(axes, "training loss", "step")
    axes.plot(*series(rows, "train/loss"), color=COLOURS[0], linewidth=1.8)
    settings = yaml.safe_load((run / "config.yaml").read_text())
    chance = method.loss_of_chance(settings["data"]["init_args"]["batch_size"])
    judged = [row for row in rows if "train/skill" in row and row["train/skill"] < 1]
    if chance is not None:
        axes.axhline(chance, color=CHANCE, linestyle=(0, (4, 2)), label=f"nothing learned: {chance:.3g}")
    elif judged:
        guess = np.array([row["train/loss"] / (1 - row["train/skill"]) for row in judged])
        steps = [row["step"] for row in judged]
        axes.plot(steps, guess, color=CHANCE, linestyle=(0, (4, 2)), label="a guess without learning")
    if axes.get_legend_handles_labels()[0]:
        axes.legend(frameon=False, fontsize=9)


def draw_accuracies(axes: Axes, rows: list[Row]) -> None:
    dress(axes, "accuracy in %", "step")
    for number, (metric, label) in enumerate(ACCURACIES.items()):
        steps, values = series(rows, metric)
        if len(steps):
            marker = "o" if len(steps) < 12 else ""
            axes.plot(steps, 100 * values, color=COLOURS[number], marker=marker, markersize=4, label=label)
    axes.set_ylim(0, 102)
    axes.legend(frameon=False, fontsize=9, loc="lower right")


if __name__ == "__main__":
    main()
