"""A map of the features: t-SNE, or principal components."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path
from typing import Any

import numpy as np
import torch
from matplotlib.figure import Figure
from numpy.typing import NDArray
from torch import Tensor

from ...data.figure import dress, save_figure
from .style import COLOURS, MARKERS, Points

MAP_SAMPLES = 2_000


def plot_embedding(
    features: Tensor | Points,
    labels: Tensor | NDArray[np.int64] | None,
    path: str | Path,
    class_names: Sequence[str] | None = None,
) -> None:
    """Draws a 2-D map of the normalised features by t-SNE, coloured by class: near means similar.

    Van der Maaten and Hinton 2008, "Visualizing Data using t-SNE"; initialized by the principal
    components, with a fixed seed, for at most 2,000 samples drawn once. Fewer than 10 samples, or
    features that are all equal or have a single dimension, are drawn by their principal components.
    Distances between far groups mean little.

    Args:
        features: [N, D]; a sample with a value that is not finite is left out.
        labels: [N] classes; None: the points share one colour.
        path: the PNG to write.
        class_names: name of each class, for the legend.

    Raises:
        ValueError: no sample is finite, or the labels do not match.
    """
    x = torch.as_tensor(features).detach().cpu().double().flatten(1)
    y = None if labels is None else torch.as_tensor(labels).detach().cpu().numpy()
    if y is not None and len(y) != len(x):
        raise ValueError(f"plot_embedding got {len(x)} features and {len(y)} labels.")
    kept = np.flatnonzero(x.isfinite().all(dim=1).numpy())
    if len(kept) == 0:
        raise ValueError(f"plot_embedding got {len(x)} features, none of them finite; has the encoder diverged?")
    kept = np.sort(np.random.default_rng(0).permutation(kept)[:MAP_SAMPLES])
    points, how = _map(torch.nn.functional.normalize(x[kept], dim=1).numpy())
    figure = Figure(figsize=(7.5, 6), dpi=120, layout="constrained")
    axes = figure.subplots()
    dress(axes, f"{len(kept):,} features on a plane: {how}")
    axes.set(xticks=[], yticks=[], aspect="equal", adjustable="datalim")
    axes.grid(False)
    style: dict[str, Any] = {"s": 14, "alpha": 0.85, "linewidths": 0}
    if y is None:
        axes.scatter(*points.T, color=COLOURS[0], **style)
    else:
        classes = np.unique(y[kept])
        for number, label in enumerate(classes):
            colour = COLOURS[number % len(COLOURS)]
            marker = MARKERS[number // 5 % len(MARKERS)]  # classes of the same colour get different markers
            name = class_names[label] if class_names is not None and 0 <= label < len(class_names) else str(label)
            axes.scatter(*points[y[kept] == label].T, color=colour, marker=marker, label=name, **style)
        if len(classes) <= len(COLOURS) * 3:
            columns = 1 + (len(classes) - 1) // 15
            axes.legend(
                title="class",
                loc="center left",
                bbox_to_anchor=(1, 0.5),
                frameon=False,
                fontsize=9,
                markerscale=1.8,
                ncols=columns,
            )
    save_figure(figure, path)


def _map(x: Points) -> tuple[Points, str]:
    """Normalised features [N, D] -> points [N, 2], and a description of how they were computed."""
    from sklearn.manifold import TSNE  # imported here: it takes a second

    centred = x - x.mean(axis=0)
    axes = np.linalg.svd(centred, full_matrices=False)[2][:50]  # [<= 50, D]
    components = centred @ axes.T  # [N, <= 50]
    equal = np.abs(centred).max() < 1e-6
    if equal or len(x) < 10 or components.shape[1] < 2:
        flat = np.zeros((len(x), 2))
        flat[:, : components.shape[1]] = components[:, :2]
        return flat, "all are equal (collapsed)" if equal else "principal components"
    components /= components[:, 0].std()
    perplexity = min(30, (len(x) - 1) // 3)
    points = TSNE(perplexity=perplexity, init=1e-4 * components[:, :2], random_state=0).fit_transform(components)
    return points, f"t-SNE (cosine, perplexity {perplexity})"
