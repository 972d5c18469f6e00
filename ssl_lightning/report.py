"""What a run leaves behind: the closing table, plots, `summary.json`, and the encoder with its card."""

from __future__ import annotations

import json
import platform
import shutil
import sys
from importlib.metadata import PackageNotFoundError, version
from pathlib import Path
from typing import Any

import torch
from pytorch_lightning import Callback
from torch import Tensor, nn

from .datamodule import SSLDataModule
from .distributed import world_size
from .evaluate import closing_row, format_table
from .export import load_encoder, save_encoder, write_card
from .plots import Curves, plot_closing, plot_curves, plot_embedding, plot_views
from .probes.features import embed, sample
from .progress import duration, rows_of, run_totals, speed_of
from .run import folder_of, run_name

UNTRAINED = "untrained.safetensors"
PACKAGES = ("ssl-lightning", "torch", "torchvision", "pytorch-lightning", "timm", "scikit-learn")
CURVES: tuple[Curves, ...] = ("loss", "probes", "collapse")
Table = dict[str, dict[str, dict[str, float]]]


class Report(Callback):
    """Compares raw features, the untrained and the pretrained encoder when a run ends, and writes it all down.

    Args:
        enabled: whether to run.
        train_samples: at most this many labelled training samples are embedded for the closing table.
        test_samples: at most this many test samples.
        labels_per_class: of the columns with few labels.
        draws: how often those labels are drawn.
    """

    def __init__(
        self, enabled: bool = True, train_samples: int = 60_000, test_samples: int = 20_000, labels_per_class: int = 10, draws: int = 5
    ) -> None:
        for name, value in (("train_samples", train_samples), ("test_samples", test_samples), ("labels_per_class", labels_per_class)):
            if value < 1:
                raise ValueError(f"Report({name}={value}) must be at least 1.")
        if draws < 1:
            raise ValueError(f"Report(draws={draws}) must be at least 1.")
        self.enabled = enabled
        self.train_samples, self.test_samples = train_samples, test_samples
        self.labels_per_class, self.draws = labels_per_class, draws
        self.closed = False

    def on_fit_start(self, trainer: Any, pl_module: Any) -> None:
        self.closed = False
        folder = trainer.run_folder if self.enabled else None
        if folder is None or not trainer.is_global_zero:
            return
        if not trainer.ckpt_path:
            save_encoder(pl_module.backbone, folder / UNTRAINED)
        elif not (folder / UNTRAINED).is_file() and (origin := folder_of(trainer.ckpt_path)) and (origin / UNTRAINED).is_file():
            shutil.copyfile(origin / UNTRAINED, folder / UNTRAINED)  # branched off from an older checkpoint

    def on_train_batch_start(self, trainer: Any, pl_module: Any, batch: Any, batch_idx: int) -> None:
        if batch_idx or not self.enabled or not trainer.is_global_zero or not trainer.run_folder or not isinstance(batch, dict):
            return
        path = trainer.run_folder / "plots" / "views.png"
        images = [view.x[:8].float().cpu() for view in batch.get("views", []) if view.x.ndim == 4]
        if images and not path.exists():
            path.parent.mkdir(exist_ok=True)
            plot_views(images, path, pl_module.views.clean)

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
        tables: dict[str, Table] = {}
        data = trainer.datamodule
        test: tuple[Tensor, Tensor] | None = None
        if isinstance(data, SSLDataModule):
            for prefix, labelled in data.probed().items():
                tables[prefix], features = self.table(trainer, pl_module, labelled, folder)
                test = features if prefix == "" else test
        if trainer.is_global_zero:
            self.write(trainer, pl_module, folder, tables, test)
        trainer.strategy.barrier("report")

    def table(self, trainer: Any, pl_module: Any, data: SSLDataModule, folder: Path) -> tuple[Table, tuple[Tensor, Tensor]]:
        """The closing table of one labelled set, and the test part's features with labels."""
        networks: dict[str, nn.Module | None] = {"raw": None}
        if (folder / UNTRAINED).is_file():
            networks["untrained"] = load_encoder(folder / UNTRAINED, trust=[type(pl_module.backbone).__module__.partition(".")[0]])
        networks["pretrained"] = pl_module
        table: Table = {}
        for row, network in networks.items():
            parts = []
            for source, most in ((data.training_split, self.train_samples), (data.split("test") or data.split("val"), self.test_samples)):
                if source is None or source.labels is None:
                    raise ValueError(f"{type(data).__name__} has no labelled test split.")
                index = sample(len(source), most)
                parts += [features_of(network, data, source, index, trainer, pl_module), source.labels[index]]
            if trainer.is_global_zero:
                table[row] = closing_row(*parts, labels_per_class=self.labels_per_class, draws=self.draws)
        return table, (parts[2], parts[3])

    def write(self, trainer: Any, pl_module: Any, folder: Path, tables: dict[str, Table], test: tuple[Tensor, Tensor] | None) -> None:
        """Files, pictures, and the last lines on the terminal."""
        plots = folder / "plots"
        plots.mkdir(exist_ok=True)
        rows = rows_of(trainer)
        for kind in CURVES:
            plot_curves(rows, plots / f"{kind}.png", kind)
        if test is not None:
            plot_embedding(*test, plots / "embedding.png", trainer.datamodule.class_names)
        if "" in tables:
            plot_closing(tables[""], plots / "closing.png")
        summary = self.summary(trainer, rows, tables)
        temporary = folder / ".summary.json.tmp"
        temporary.write_text(json.dumps(summary, indent=1))
        temporary.replace(folder / "summary.json")
        save_encoder(pl_module.backbone, folder / "encoder.safetensors", run=str(folder.name))
        printed = "\n\n".join((f"{prefix.rstrip('/')}: " if prefix else "") + format_table(table) for prefix, table in tables.items())
        lines = (
            "from ssl_lightning import View, load_encoder\n"
            f'encoder = load_encoder("{folder}")\n'
            f"features = encoder(View(images))  # [S, {pl_module.backbone.dim}]"
        )
        facts = {
            "method": type(pl_module).__name__,
            "data": type(trainer.datamodule).__name__,
            "encoder": type(pl_module.backbone).__name__,
            "features": f"{pl_module.backbone.dim} numbers a sample: `forward` of the method, in eval mode",
            **{name: summary[name] for name in ("steps", "seconds", "precision", "hardware/device", "versions/torch")},
        }
        write_card(folder / "encoder.md", f"{run_name(pl_module, trainer.datamodule)}: encoder", facts, printed, lines)
        print(f"\n{printed or 'No labelled set: no closing table.'}\n")
        print(f"{summary['steps']:,} steps in {duration(summary['seconds'])}. Run folder: {folder}\n\n{lines}")
        sys.stdout.flush()

    def summary(self, trainer: Any, rows: list[dict[str, float]], tables: dict[str, Table]) -> dict[str, Any]:
        """The run in one flat dictionary: final values, size, speed, versions, hardware."""
        last: dict[str, Any] = {}
        for row in (*rows, *speed_of(trainer)):
            last.update({name: value for name, value in row.items() if name != "step"})
        seconds, samples = run_totals(trainer)
        summary = {
            **last,
            "steps": trainer.global_step,
            "seconds": round(seconds, 3),
            "samples_per_s": round(samples / max(seconds, 1e-9), 1),
            "precision": str(trainer.precision),
            "processes": world_size(),
            **{f"versions/{name}": _version(name) for name in PACKAGES},
            "versions/python": platform.python_version(),
            "hardware/device": device_name(trainer.strategy.root_device),
            "hardware/threads": torch.get_num_threads(),
        }
        for prefix, table in tables.items():
            summary.update({f"final/{prefix}{row}/{column}": cell for row, cells in table.items() for column, cell in cells.items()})
        return summary


def features_of(network: nn.Module | None, data: SSLDataModule, source: Any, index: Tensor, trainer: Any, pl_module: Any) -> Tensor:
    """Features [M, D] on the CPU: by a network, or without learning where it is None."""
    if network is None:
        return torch.cat([data.raw_features(data.fetch_clean(source, part)).float() for part in index.split(1024)])
    device = trainer.strategy.root_device
    return embed(network.to(device), data, source, index, device, trainer.precision_plugin.forward_context).cpu()


def device_name(device: torch.device) -> str:
    """What computes, in words: the accelerator's name, or the CPU's."""
    if device.type == "cuda":
        return torch.cuda.get_device_name(device)
    path = Path("/proc/cpuinfo")
    lines = path.read_text().splitlines() if path.is_file() else []
    return next((line.partition(":")[2].strip() for line in lines if line.startswith("model name")), platform.processor() or "cpu")


def _version(package: str) -> str:
    try:
        return version(package)
    except PackageNotFoundError:
        return "not installed"
