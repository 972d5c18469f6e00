"""What a run leaves behind: the closing table, plots, `summary.json`, and the encoder with its
card."""

from __future__ import annotations

import json
import shutil
import sys
from pathlib import Path
from typing import Any, Literal

import torch
from pytorch_lightning import Callback
from torch import Tensor, nn

from ..data.datamodule import SSLDataModule
from ..data.peek import sample
from ..data.sources import Source, Subset, labels_of
from ..encoders.base import Encoder
from ..nn.packing import unpacked
from ..run.encoder_file import load_encoder, save_encoder, write_card
from ..run.folder import folder_of, resolved, run_name
from ..run.loggers import show
from ..run.progress import duration, rows_of, run_totals, speed_of
from .closing import UNTRAINED, Closing, Table, closing_splits, features_of
from .labels_only import fits_of, labels_only_row, left_out, spared_line
from .layers import Layers, has_layers, layered_row
from .plots.closing import plot_closing
from .plots.curves import Curves, plot_curves, plot_health
from .plots.embedding import plot_embedding
from .plots.pictures import plot_views
from .plots.texts import plot_texts
from .protocol import closing_row
from .shown import draw, pictures_of
from .table import Cell
from .verdict import verdict

CURVES: tuple[Curves, ...] = ("loss", "probes", "collapse")


class Report(Callback):
    """Compares raw features, the untrained encoder, the same encoder trained on labels alone, and
    the pretrained one when a run ends, and writes it all down.

    Args:
        enabled: whether to run.
        train_samples: at most this many labelled training samples are embedded for the closing
            table.
        test_samples: at most this many test samples.
        labels_per_class: of the columns with few labels.
        draws: how often those labels are drawn.
        labels_only: whether to train the untrained encoder on labels alone, for a row of the table
            of the data pretrained on (not of further probe sets). `auto` makes each of its two
            cells where that costs less than two thirds of the pretraining.
        layers: whether to judge a learned weighted sum of the layers besides (SUPERB's protocol),
            of encoders that give them one by one.
    """

    def __init__(
        self,
        enabled: bool = True,
        train_samples: int = 60_000,
        test_samples: int = 20_000,
        labels_per_class: int = 10,
        draws: int = 5,
        labels_only: bool | Literal["auto"] = "auto",
        layers: bool = True,
    ) -> None:
        for name, value in (
            ("train_samples", train_samples),
            ("test_samples", test_samples),
            ("labels_per_class", labels_per_class),
        ):
            if value < 1:
                raise ValueError(f"Report({name}={value}) must be at least 1.")
        if draws < 1:
            raise ValueError(f"Report(draws={draws}) must be at least 1.")
        self.enabled = enabled
        self.train_samples, self.test_samples = train_samples, test_samples
        if labels_only not in (True, False, "auto"):
            raise ValueError(f"Report(labels_only={labels_only!r}) must be true, false or auto.")
        self.labels_per_class, self.draws, self.labels_only = labels_per_class, draws, labels_only
        self.layers = layers
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
            shutil.copyfile(origin / UNTRAINED, folder / UNTRAINED)  # branched off from an older checkpoint

    def on_train_batch_start(self, trainer: Any, pl_module: Any, batch: Any, batch_idx: int) -> None:
        if (
            batch_idx
            or not self.enabled
            or not trainer.is_global_zero
            or not trainer.run_folder
            or not isinstance(batch, dict)
        ):
            return
        path = trainer.run_folder / "plots" / "views.png"
        data, views = trainer.datamodule, batch.get("views", [])
        if not views or path.exists():
            return
        path.parent.mkdir(exist_ok=True)
        if hasattr(data, "as_words"):
            plot_texts(
                {f"view {number}": data.as_words(unpacked(view)[:8]) for number, view in enumerate(views, 1)},
                path,
                compare=False,
            )
        elif views[0].x.ndim == 4:
            shown = getattr(data, "as_pictures", torch.Tensor.float)
            plot_views([shown(view.x[:8].cpu()) for view in views], path, pl_module.views.clean)
        if path.exists():
            show(trainer, {"plots/views": path})

    def on_train_end(self, trainer: Any, pl_module: Any) -> None:
        self.close(trainer, pl_module)

    def on_fit_end(self, trainer: Any, pl_module: Any) -> None:
        if not self.closed:  # resumed from the checkpoint of the last step: there was nothing left to train
            self.close(trainer, pl_module)

    def close(self, trainer: Any, pl_module: Any) -> None:
        """Writes the report; every process takes its share of the embedding, rank 0 the rest."""
        self.closed = True
        folder = trainer.run_folder
        if not self.enabled or folder is None:
            return
        closing: dict[str, Closing] = {}
        data = trainer.datamodule
        if isinstance(data, SSLDataModule) and pl_module.supervised:
            closing = {"": Closing(*verdict(trainer, pl_module, data, self.test_samples))}
        elif isinstance(data, SSLDataModule):
            closing = {
                prefix: self.compare(trainer, pl_module, labelled, folder) for prefix, labelled in data.probed().items()
            }
        shown = pictures_of(pl_module, trainer)
        if trainer.is_global_zero:
            self.write(trainer, pl_module, folder, closing, shown)
        trainer.strategy.barrier("report")

    def compare(self, trainer: Any, pl_module: Any, data: SSLDataModule, folder: Path) -> Closing:
        """The closing table of one labelled set; it is filled in on rank 0 alone."""
        networks: dict[str, nn.Module | None] = {"raw": None}
        if (folder / UNTRAINED).is_file():
            networks["untrained"] = load_encoder(
                folder / UNTRAINED, trust=[type(pl_module.backbone).__module__.partition(".")[0]]
            )
        networks["pretrained"] = pl_module
        train, judged, split = closing_splits(data)
        index = sample(len(train), self.train_samples), sample(len(judged), self.test_samples)
        labels = labels_of(train)[index[0]], labels_of(judged)[index[1]]
        table: Table = {}

        def features(network: nn.Module | None) -> tuple[Tensor, Tensor]:
            sources = zip((train, judged), index, strict=True)
            learned, asked = (
                features_of(network, data, source, chosen, trainer, pl_module) for source, chosen in sources
            )
            return learned, asked

        for row, network in networks.items():
            learned, asked = features(network)
            if trainer.is_global_zero:
                table[row] = closing_row(
                    learned, labels[0], asked, labels[1], labels_per_class=self.labels_per_class, draws=self.draws
                )
            encoder = getattr(network, "backbone", network)
            if self.layers and has_layers(encoder):
                layers = features(Layers(encoder))
                if trainer.is_global_zero:
                    table[f"{row}_layers"] = layered_row(
                        layers[0],
                        labels[0],
                        layers[1],
                        labels[1],
                        labels_per_class=self.labels_per_class,
                        draws=self.draws,
                    )
        untrained, note = networks.get("untrained"), ""
        if isinstance(untrained, Encoder) and data is trainer.datamodule:
            cells, note = self.labels_only_row(trainer, untrained, Subset(train, index[0]), Subset(judged, index[1]))
            table.update({"labels_only": cells} if cells else {})
        return Closing(table, split, asked, labels[1], note)

    def labels_only_row(
        self, trainer: Any, untrained: Encoder, learned: Source, judged: Source
    ) -> tuple[dict[str, Cell], str]:
        """The row "labels only" with the cells that are to be made, and a line on those that are
        spared."""
        if not self.labels_only:
            return {}, ""
        data = trainer.datamodule
        fits = fits_of(labels_of(learned), self.labels_per_class, self.draws)
        spared = (
            left_out(fits, len(judged), data.samples_done * max(1, data.views.full))
            if self.labels_only == "auto"
            else {}
        )
        made = {column: each for column, each in fits.items() if column not in spared}
        row = labels_only_row(untrained, data, learned, judged, trainer, made, data.seed)
        return row, spared_line(spared)

    def write(
        self, trainer: Any, pl_module: Any, folder: Path, closing: dict[str, Closing], shown: dict[str, Tensor]
    ) -> None:
        """Files, pictures, and the last lines on the terminal."""
        plots = folder / "plots"
        plots.mkdir(exist_ok=True)
        rows = rows_of(trainer)
        for kind in CURVES:
            plot_curves(rows, plots / f"{kind}.png", kind)
        plot_health(rows, pl_module.alarms, plots / "health.png")
        pictures: dict[str, Path] = {}
        for prefix, each in closing.items():
            of_set = {kind: f"{prefix.replace('/', '-')}{kind}" for kind in ("embedding", "closing")}
            pictures.update({f"plots/{name}": plots / f"{name}.png" for name in of_set.values()})
            class_names = trainer.datamodule.probed()[prefix].class_names
            plot_embedding(each.features, each.labels, plots / f"{of_set['embedding']}.png", class_names)
            if pl_module.supervised:
                del pictures[f"plots/{of_set['closing']}"]
                continue
            plot_closing(each.table, plots / f"{of_set['closing']}.png", each.split)
        if shown:
            pictures.update(draw(trainer.datamodule, shown, plots))
        cells = {
            f"final/{prefix}{row}/{column}": cell
            for prefix, each in closing.items()
            for row, columns in each.table.items()
            for column, cell in columns.items()
        }
        deviations = {f"{name}/std": cell["std"] for name, cell in cells.items() if cell["n"] > 1}
        show(trainer, pictures, {**{name: cell["mean"] for name, cell in cells.items()}, **deviations})
        summary = {**self.summary(trainer, rows), **cells}
        temporary = folder / ".summary.json.tmp"
        temporary.write_text(json.dumps(summary, indent=1))
        temporary.replace(folder / "summary.json")
        save_encoder(pl_module.backbone, folder / "encoder.safetensors", run=str(folder.name))
        printed = "\n\n".join(
            (f"{prefix.rstrip('/')}: " if prefix else "") + each.printed for prefix, each in closing.items()
        )
        lines = loading_lines(folder, pl_module.backbone.dim, trainer.datamodule)
        pooling = getattr(pl_module.backbone, "pooling", None)
        facts = {
            "method": type(pl_module).__name__,
            "data": type(trainer.datamodule).__name__,
            "encoder": type(pl_module.backbone).__name__,
            "features": f"{pl_module.backbone.dim} numbers a sample: `forward` of the method, in eval mode",
            **({"pooling": pooling} if isinstance(pooling, str) else {}),
            **{name: summary[name] for name in ("steps", "seconds", "precision", "hardware/device", "versions/torch")},
        }
        write_card(folder / "encoder.md", f"{run_name(pl_module, trainer.datamodule)}: encoder", facts, printed, lines)
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
            **resolved(trainer),
        }


def loading_lines(folder: Path, dim: int, data: Any) -> str:
    """How the encoder of a run is loaded and called."""
    if getattr(data, "vocabulary", None) is not None:
        return (
            "from ssl_lightning import Reader, load_encoder\n"
            f'encoder, read = load_encoder("{folder}"), Reader("{folder}")\n'
            f'features = encoder(read(["a text", "another"]))  # [2, {dim}]'
        )
    if hasattr(data, "as_sounds"):
        return (
            "from ssl_lightning import SoundReader, load_encoder\n"
            f'encoder, read = load_encoder("{folder}"), SoundReader("{folder}")\n'
            f'features = encoder(read(["a.wav", "b.flac"]))  # [2, {dim}]'
        )
    return (
        f'from ssl_lightning import View, load_encoder\nencoder = load_encoder("{folder}")\nfeatures ='
        f" encoder(View(images))  # [S, {dim}]"
    )
