"""What a supervised run takes for what."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path

from matplotlib.figure import Figure
from torch import Tensor
from torchmetrics.functional.classification import multiclass_confusion_matrix

from ...data.figure import INK, save_figure

NUMBERED, NAMED = 20, 40
"""Up to so many classes the cells bear their numbers, and the axes the names."""
LETTERS = 20
"""Letters of a name."""


def plot_confusion(
    predicted: Tensor, labels: Tensor, path: str | Path, names: Sequence[str] | None = None, split: str = "test"
) -> None:
    """Draws the share of each class's samples that were taken for each class.

    Args:
        predicted: [N] classes.
        labels: [N] the true ones.
        path: the PNG to write.
        names: of the classes; None: their numbers.
        split: that the samples are of.
    """
    classes = max(len(names or ()), int(max(predicted.max(), labels.max())) + 1, 2)
    counts = multiclass_confusion_matrix(predicted, labels, classes)  # [K true, K predicted]
    share = counts / counts.sum(dim=1, keepdim=True).clamp(min=1)
    side = min(14.0, max(5.0, 2.2 + 0.42 * min(classes, NAMED)))
    figure = Figure(figsize=(side + 0.8, side), dpi=120, layout="constrained")
    axes = figure.subplots()
    image = axes.imshow(100 * share, cmap="Blues", vmin=0, vmax=100)
    figure.colorbar(image, ax=axes, label="% of the class", shrink=0.8)
    right = float(counts.diag().sum() / counts.sum())
    axes.set_title(f"{len(labels):,} samples of the {split} split, {100 * right:.1f} % right", color=INK, fontsize=11)
    axes.set_xlabel("predicted")
    axes.set_ylabel("true class")
    if classes <= NAMED:
        titles = [
            name if len(name) <= LETTERS else f"{name[:LETTERS]}..." for name in map(str, names or range(classes))
        ]
        axes.set_xticks(range(classes), titles, rotation=90 if max(map(len, titles)) > 2 else 0, fontsize=8)
        axes.set_yticks(range(classes), titles, fontsize=8)
    if classes <= NUMBERED:
        for true in range(classes):
            for taken, count in enumerate(counts[true].tolist()):
                if count:
                    colour = "white" if share[true, taken] > 0.5 else INK
                    axes.text(taken, true, f"{count:,}", ha="center", va="center", fontsize=7, color=colour)
    save_figure(figure, path)
