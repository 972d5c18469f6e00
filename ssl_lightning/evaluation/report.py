"""The report at the end of a run: the closing table, plots, `summary.json`, and the encoder with
its card."""

from __future__ import annotations

import json
import shutil
import sys
from pathlib import Path
from tempfile import TemporaryDirectory
from typing import Any, Literal

from torch import Tensor

from ..data.datamodule import SSLDataModule
from ..data.figure import plot_views
from ..data.files.atomic import write_bytes, write_text
from ..data.modality import loading_lines
from ..distributed import gather_objects, on_first, rank
from ..encoders.base import Encoder
from ..plugins.arguments import require
from ..run.encoder_file import load_encoder, save_encoder, write_card
from ..run.failures import failures_of, tolerated
from ..run.folder import folder_of, resolved, run_name
from ..run.loggers import show
from ..run.meter import run_totals
from ..run.metrics import rows_of, speed_of
from ..run.progress import duration
from ..run.standing import Standing
from ..types import View
from .closing import UNTRAINED, Closing, ClosingSettings, compare
from .plots.closing import plot_closing
from .plots.curves import Curves, plot_curves, plot_health
from .plots.embedding import plot_embedding
from .shown import first_views, pictures_of
from .verdict import verdict

CURVES: tuple[Curves, ...] = ("loss", "probes", "collapse")


class Report(Standing):
    """Compares raw features, the untrained encoder, the same encoder trained on labels alone, and
    the pretrained encoder when a run ends, and writes the results to the run folder.

    Args:
        enabled: whether the report is written.
        train_samples: at most this many labelled training samples are embedded for the closing
            table.
        test_samples: at most this many test samples are embedded.
        labels_per_class: number of labels per class in the columns with few labels.
        draws: how often those labels are drawn.
        labels_only: whether to train the untrained encoder on labels alone, for a row of the table
            of the pretraining data (not of further probe sets). `auto` computes each of its two
            cells if that costs less than two thirds of the pretraining.
        layers: whether to evaluate a learned weighted sum of the layers too (SUPERB's protocol),
            for encoders that return the features of each layer.
        minutes: at most about this many minutes are spent on a table's kNN and regressions, which
            rank 0 computes while the other processes wait; cells that would take longer are
            skipped, and named under the table. 0: no limit.
    """

    key = "report"

    def __init__(
        self,
        enabled: bool = True,
        train_samples: int = 60_000,
        test_samples: int = 20_000,
        labels_per_class: int = 10,
        draws: int = 5,
        labels_only: bool | Literal["auto"] = "auto",
        layers: bool = True,
        minutes: float = 60.0,
    ) -> None:
        require(
            self,
            at_least=1,
            train_samples=train_samples,
            test_samples=test_samples,
            labels_per_class=labels_per_class,
            draws=draws,
        )
        require(self, at_least=0, minutes=minutes)
        if labels_only not in (True, False, "auto"):
            raise ValueError(f"Report(labels_only={labels_only!r}) must be true, false or auto.")
        self.enabled = enabled
        self.settings = ClosingSettings(
            train_samples, test_samples, labels_per_class, draws, labels_only, layers, minutes
        )
        self.closed = False

    def on_fit_start(self, trainer: Any, pl_module: Any) -> None:
        self.closed = False
        folder = trainer.run_folder if self.enabled else None
        if folder is None or not trainer.is_global_zero:
            return
        if pl_module.supervised:
            return
        if not trainer.ckpt_path:
            save_encoder(pl_module.backbone, folder / UNTRAINED)
        elif (
            not (folder / UNTRAINED).is_file()
            and (origin := folder_of(trainer.ckpt_path))
            and (origin / UNTRAINED).is_file()
        ):
            shutil.copyfile(origin / UNTRAINED, folder / UNTRAINED)  # a new run that resumes another run's checkpoint

    def on_train_batch_start(self, trainer: Any, pl_module: Any, batch: Any, batch_idx: int) -> None:
        folder = trainer.run_folder
        draws_views = not batch_idx and self.enabled and trainer.is_global_zero and folder and isinstance(batch, dict)
        if not draws_views or not batch.get("views") or (folder / "plots" / "views.png").exists():
            return
        captions = first_views(batch, pl_module.views.clean)
        with tolerated(trainer):
            show_pictures(trainer, trainer.datamodule, captions, folder / "plots" / "views.png")

    def on_train_end(self, trainer: Any, pl_module: Any) -> None:
        self.close(trainer, pl_module)

    def on_fit_end(self, trainer: Any, pl_module: Any) -> None:
        if not self.closed:  # resumed from the checkpoint of the last step: no step was left to train
            pl_module.to(trainer.strategy.root_device)  # from where Lightning has taken it
            self.close(trainer, pl_module)
            pl_module.cpu()

    def close(self, trainer: Any, pl_module: Any) -> None:
        """Writes the report: every process embeds a share of the samples, rank 0 does the rest."""
        self.closed = True
        folder = trainer.run_folder
        if not self.enabled or folder is None:
            return
        closing: dict[str, Closing] = {}
        data = trainer.datamodule
        if isinstance(data, SSLDataModule) and pl_module.supervised:
            closing = {"": Closing(*verdict(trainer, pl_module, data, self.settings.test_samples))}
        elif isinstance(data, SSLDataModule):
            closing = {
                prefix: compare(trainer, pl_module, labelled, untrained_of(folder, pl_module), self.settings)
                for prefix, labelled in data.probed().items()
            }
        shown = pictures_of(pl_module, trainer)
        with tolerated(trainer):
            on_first(lambda: self.write(trainer, pl_module, folder, closing, shown))

    def write(
        self, trainer: Any, pl_module: Any, folder: Path, closing: dict[str, Closing], shown: dict[str, View]
    ) -> None:
        """Writes files and pictures, and prints the last lines on the terminal."""
        plots, rows, data = folder / "plots", rows_of(trainer), trainer.datamodule
        pictures = draw_plots(plots, rows, pl_module, data, closing)
        if shown:
            show_pictures(trainer, data, shown, plots / "pictures.png", compare=True)
        cells = {
            f"final/{prefix}{row}/{column}": cell
            for prefix, each in closing.items()
            for row, columns in each.table.items()
            for column, cell in columns.items()
        }
        stds = {f"{name}/std": cell["std"] for name, cell in cells.items() if cell["n"] > 1}
        show(trainer, pictures, {**{name: cell["mean"] for name, cell in cells.items()}, **stds})
        summary = {**self.summary(trainer, rows), **cells}
        write_text(folder / "summary.json", json.dumps(summary, indent=1))
        is_ours = isinstance(data, SSLDataModule)
        artifacts = data.artifacts() if is_ours else ()
        save_encoder(pl_module.backbone, folder / "encoder.safetensors", artifacts, run=str(folder.name))
        printed = "\n\n".join(
            (f"{prefix.rstrip('/')}: " if prefix else "") + each.printed for prefix, each in closing.items()
        )
        encoder = pl_module.backbone
        lines = data.how_to_load(folder, encoder.dim) if is_ours else loading_lines(folder, encoder.dim)
        facts = card_facts(pl_module, data, summary)
        write_card(folder / "encoder.md", f"{run_name(pl_module, data)}: encoder", facts, printed, lines)
        print(f"\n{printed or 'No labelled set: no closing table.'}\n")
        print(f"{summary['steps']:,} steps in {duration(summary['seconds'])}. Run folder: {folder}\n\n{lines}")
        sys.stdout.flush()

    def summary(self, trainer: Any, rows: list[dict[str, float]]) -> dict[str, Any]:
        """The run in one flat dictionary: final values, size, speed, versions, hardware."""
        last: dict[str, Any] = {}
        for row in (*rows, *speed_of(trainer)):
            last.update({name: value for name, value in row.items() if name != "step"})
        seconds, samples = run_totals(trainer)
        return {
            **last,
            "steps": trainer.global_step,
            "seconds": round(seconds, 3),
            "samples_per_s": round(samples / max(seconds, 1e-9), 1),
            "failed_writes": failures_of(trainer).count,
            **resolved(trainer),
        }


def untrained_of(folder: Path, pl_module: Any) -> Encoder | None:
    """The encoder with the weights that a run started from; None: it was not saved.

    Every process must call it. Rank 0 looks for the file, and sends it to nodes that do not see the
    disk.
    """
    path, trusted = folder / UNTRAINED, [type(pl_module.backbone).__module__.partition(".")[0]]
    seen = gather_objects(path.is_file())
    if not seen[0]:
        return None
    content = b"" if all(seen) else on_first(path.read_bytes)
    if seen[rank()]:
        return load_encoder(path, trusted)
    with TemporaryDirectory() as elsewhere:
        copied = Path(elsewhere) / UNTRAINED
        write_bytes(copied, content)
        return load_encoder(copied, trusted)


def show_pictures(trainer: Any, data: Any, captions: dict[str, View], path: Path, compare: bool = False) -> None:
    """Draws views in the way of their datamodule, and passes the pictures to the loggers."""
    if isinstance(data, SSLDataModule):
        pictures = data.show(captions, path, compare)
    else:
        pictures = plot_views(captions, path, Tensor.float)
    if pictures:
        show(trainer, {f"plots/{name}": picture for name, picture in pictures.items()})


def draw_plots(
    plots: Path, rows: list[dict[str, float]], pl_module: Any, data: Any, closing: dict[str, Closing]
) -> dict[str, Path]:
    """Draws the curves of the run, and for each labelled set a map of its features and the closing
    table.

    Returns:
        The files of the labelled sets' pictures, by the name under which they are logged.
    """
    for kind in CURVES:
        plot_curves(rows, plots / f"{kind}.png", kind)
    plot_health(rows, pl_module.alarms, plots / "health.png")
    pictures: dict[str, Path] = {}
    for prefix, each in closing.items():
        name = prefix.replace("/", "-")
        embedding = pictures[f"plots/{name}embedding"] = plots / f"{name}embedding.png"
        plot_embedding(each.features, each.labels, embedding, data.probed()[prefix].class_names)
        if not pl_module.supervised:
            table = pictures[f"plots/{name}closing"] = plots / f"{name}closing.png"
            plot_closing(each.table, table, each.split)
    return pictures


def card_facts(pl_module: Any, data: Any, summary: dict[str, Any]) -> dict[str, Any]:
    """The facts in the first table of the encoder's card."""
    encoder = pl_module.backbone
    pooling = getattr(encoder, "pooling", None)
    return {
        "method": type(pl_module).__name__,
        "data": type(data).__name__,
        "encoder": type(encoder).__name__,
        "features": f"{encoder.dim} values per sample: `forward` of the method, in eval mode",
        **({"pooling": pooling} if isinstance(pooling, str) else {}),
        **{name: summary[name] for name in ("steps", "seconds", "precision", "hardware/device", "versions/torch")},
    }
