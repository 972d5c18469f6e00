"""The pictures of a run: curves, a map of the features, bars, and samples as they are seen."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path
from typing import Any

import torch
from torch import Tensor

from ..data.datamodule import SSLDataModule
from ..data.figure import plot_views
from ..data.files.unwritable import explained
from ..data.peek import sample
from ..data.sources import labels_of
from ..run.loggers.show import show
from ..types import View
from .closing import Closing
from .label_free import nearest
from .overview import FILE, Overview, shown_samples, write_names
from .plots.closing import plot_closing
from .plots.confusion import plot_confusion
from .plots.curves import Curves, Lines, plot_curves, plot_health
from .plots.embedding import plot_embedding
from .plots.neighbours import plot_neighbours
from .plots.points import write_points
from .stages import Stages
from .table import ROWS

QUERIES, MOST_PAIRS, MOST_OUTLIERS = 6, 8, 16
"""On the contact sheet: samples with neighbours, pairs of near-duplicates, outliers."""
LONGEST = 60
"""Letters of the data's folder in a picture."""
CURVES: tuple[Curves, ...] = ("loss", "probes", "validation", "collapse", "spectrum")


def show_pictures(trainer: Any, data: Any, captions: dict[str, View], path: Path, compare: bool = False) -> None:
    """Draws views in the way of their datamodule, and passes the pictures to the loggers."""
    with explained(path):
        path.parent.mkdir(exist_ok=True)
    if isinstance(data, SSLDataModule):
        pictures = data.show(captions, path, compare)
    else:
        pictures = plot_views(captions, path, Tensor.float)
    if pictures:
        show(trainer, {f"plots/{name}": picture for name, picture in pictures.items()})


def caption_of(trainer: Any, pl_module: Any) -> tuple[str, ...]:
    """What all pictures of a run say they are of: method, data with its folder, and step."""
    data = trainer.datamodule
    place = str(getattr(data, "place", "") or getattr(data, "root", None) or getattr(data, "path", None) or "")
    place = place if len(place) <= LONGEST else f"...{place[-LONGEST:]}"
    count = f"{len(data.training_split):,} samples" if isinstance(data, SSLDataModule) else ""
    name = f"{type(pl_module).__name__} on {type(data).__name__}" if data is not None else type(pl_module).__name__
    return name, place, count, f"step {trainer.global_step:,}"


def lines_of(trainer: Any, pl_module: Any) -> Lines:
    """What the curves of a run are drawn beside."""
    data = trainer.datamodule
    if not isinstance(data, SSLDataModule):
        return Lines()
    splits = data.probe_splits()
    alarms = [alarm for callback in trainer.callbacks for alarm in getattr(callback, "alarms", ())]
    ranks = [callback.most_rank for callback in trainer.callbacks if getattr(callback, "most_rank", None)]
    chance = None if splits is None else 1 / len(labels_of(splits[1]).unique())
    return Lines(chance, pl_module.loss_of_chance(data.batch_size), alarms, max(ranks, default=None))


def draw_plots(
    plots: Path, rows: list[dict[str, float]], trainer: Any, pl_module: Any, closing: dict[str, Closing], stages: Stages
) -> dict[str, Path]:
    """Draws the curves of the run, and for each labelled set a map of its features and the closing
    table. A picture that fails is missing alone.

    Returns:
        The files of the labelled sets' pictures, by the name under which they are logged.
    """
    data = trainer.datamodule
    for kind in CURVES:
        with stages.attempt(f"picture of {kind}"):
            plot_curves(rows, plots / f"{kind}.png", kind, lines_of(trainer, pl_module))
    with stages.attempt("picture of health"):
        plot_health(rows, pl_module.alarms, plots / "health.png")
    pictures: dict[str, Path] = {}
    for prefix, each in closing.items():
        name = prefix.replace("/", "-")
        if len(each.features):
            with stages.attempt(f"{prefix}map of the features"):
                path = plots / f"{name}embedding.png"
                draw_map(each, data.probed()[prefix], path)
                pictures[f"plots/{name}embedding"] = path
        if len(each.features) and pl_module.supervised:
            with stages.attempt("confusion matrix"):
                path, names = plots / "confusion.png", data.class_names
                plot_confusion(pl_module.predicted(each.features).argmax(1).cpu(), each.labels, path, names, each.split)
                pictures["plots/confusion"] = path
        if each.table and not pl_module.supervised:
            with stages.attempt(f"{prefix}picture of the table"):
                plot_closing(each.table, plots / f"{name}closing.png", each.split, each.labels)
                pictures[f"plots/{name}closing"] = plots / f"{name}closing.png"
    return pictures


def draw_map(closing: Closing, data: SSLDataModule, path: Path) -> None:
    """Draws the map of a labelled set: untrained beside pretrained, and thumbnails where the data
    has any."""
    maps: dict[str, Tensor] = {ROWS[row]: closing.maps[row] for row in ROWS if row in closing.maps}
    shown = None
    if closing.samples is not None:
        source, index = closing.samples
        shown = tiles(lambda numbers: shown_samples(data, source, index[numbers]))
    drawn = plot_embedding(maps or closing.features, closing.labels, path, data.class_names, shown)
    names: list[str] = []
    some: list[Any] = []
    if closing.samples is not None:
        places = index[torch.from_numpy(drawn.kept)]
        names, some = [source.name(int(place)) for place in places], list(shown_samples(data, source, places))
    write_points(path.with_suffix(".json"), drawn, names, some, closing.labels, data.class_names)


def tiles(shown: Callable[[Tensor], list[Any]]) -> Callable[[Tensor], list[Any]] | None:
    """What shows samples, by their numbers, if it shows them by pictures; None where by words."""
    return shown if isinstance(shown(torch.zeros(1, dtype=torch.int64))[0], Tensor) else None


def draw_overview(folder: Path, seen: Overview) -> tuple[dict[str, Path], str]:
    """Draws the map and the contact sheet of a run without labels, and writes the names of
    near-duplicates and outliers.

    Returns:
        The pictures by the name under which they are logged, and a line on what was written.
    """
    plots = folder / "plots"
    pairs, far, line = write_names(seen, folder / FILE)
    pictures = {f"plots/{name}": plots / f"{name}.png" for name in ("map", "neighbours")}
    maps = {ROWS[row]: seen.features[row] for row in ROWS if row != "raw" and row in seen.features}
    drawn = plot_embedding(maps, None, pictures["plots/map"], thumbnails=tiles(seen.shown))
    names = [seen.name(number) for number in drawn.kept.tolist()]
    write_points(plots / "map.json", drawn, names, seen.shown(torch.from_numpy(drawn.kept)))
    queries = sample(len(seen.places), QUERIES)
    neighbours = {
        ROWS[row]: [seen.shown(index) for index in nearest(features, queries)[0]]
        for row, features in seen.features.items()
    }
    others = {
        "Near-duplicates by the pretrained encoder": [seen.shown(pair) for pair in pairs[:MOST_PAIRS]],
        "Farthest from their neighbours": [seen.shown(far[:MOST_OUTLIERS])],
    }
    plot_neighbours(seen.shown(queries), neighbours, others, pictures["plots/neighbours"])
    return pictures, line
