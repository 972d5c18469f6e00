"""A modality that the core has never heard of: series of several channels."""

from __future__ import annotations

import json
from collections.abc import Mapping
from pathlib import Path
from typing import Any, ClassVar

import torch
from matplotlib.figure import Figure
from torch import Tensor, nn

from ssl_lightning import Encoder, InMemory, Source, SSLDataModule, View, load_encoder, normal

SETTINGS = "series.json"


class GRUEncoder(Encoder):
    """Reads a series step by step."""

    reads = "series of several channels"
    follows_data = ("channels",)

    def __init__(self, channels: int = 1, dim: int = 12) -> None:
        super().__init__()
        self.gru, self.dim = nn.GRU(channels, dim, batch_first=True), dim

    def forward(self, view: View) -> Tensor:
        last: Tensor = self.gru(view.x.transpose(1, 2))[1][0]
        return last


class Jitter(nn.Module):
    """The last `window` steps of raw series [S, C, T], with noise of a size."""

    def __init__(self, window: int, size: float) -> None:
        super().__init__()
        self.window, self.size = window, size

    def forward(self, raw: Tensor, key: Tensor) -> Tensor:
        x = raw[:, :, -self.window :]
        return x + self.size * normal(key, x[0].numel()).view_as(x) if self.size else x


class Series(SSLDataModule):
    """Sines of four frequencies on three channels."""

    default_encoders: ClassVar = {"Encoder": {"class_path": "acme_gru", "init_args": {"channels": 3}}}
    default_epochs = 1

    def __init__(self, *, window: int = 24, batch_size: int = 16, **kwargs: Any) -> None:
        super().__init__(batch_size=batch_size, **kwargs)
        self.window = window

    def source(self, split: str) -> Source | None:
        if split == "val":
            return None
        labels = torch.arange(64) % 4
        time = torch.arange(32.0)[None, None] * (1 + labels[:, None, None]) / 5
        return InMemory(torch.sin(time + torch.arange(3.0)[None, :, None]), labels)

    def transform(self, strength: str, local_size: int | None = None) -> nn.Module:
        return Jitter(self.window, 0.0 if strength == "none" else 0.1)

    def raw_features(self, raw: Tensor) -> Tensor:
        """Nothing: four classes are then told apart as by chance."""
        return torch.zeros(len(raw), 2)

    def show(self, captions: Mapping[str, View], path: Path, compare: bool = False) -> dict[str, Path]:
        figure = Figure()
        plots = figure.subplots(len(captions), 1, squeeze=False)[:, 0]
        for axes, (caption, view) in zip(plots, captions.items(), strict=True):
            axes.plot(view.x[0].T)
            axes.set_title(caption)
        figure.savefig(path)
        return {path.stem: path}

    def how_to_load(self, folder: Path, dim: int) -> str:
        return f"import acme_series\nfeatures = acme_series.embed({str(folder)!r}, series)  # [S, {dim}]"

    def artifacts(self) -> dict[str, str]:
        return {SETTINGS: json.dumps({"window": self.window})}

    @classmethod
    def arguments_of(cls, artifacts: Mapping[str, str], path: str) -> dict[str, Any]:
        return json.loads(artifacts[SETTINGS]) if SETTINGS in artifacts else {}


def embed(folder: str, series: Tensor) -> Tensor:
    """Features [S, dim] of series [S, C, T], cut as the run cut them."""
    window = json.loads((Path(folder) / SETTINGS).read_text())["window"]
    return load_encoder(folder)(View(series[:, :, -window:]))
