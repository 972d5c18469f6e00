"""What a method has to show of a few samples when a run ends."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import torch
from torch import Tensor

from ..data.datamodule import SSLDataModule
from ..data.peek import evaluating, sample
from ..data.views import Views
from .plots.pictures import plot_pictures
from .plots.texts import plot_texts
from .sounds import save_sounds

PICTURES = 8
SOUNDS = 4
"""Samples in a WAV file."""


def pictures_of(pl_module: Any, trainer: Any) -> dict[str, Tensor]:
    """What the method has to show of 8 samples, held out where there are such, by caption, on the
    CPU. Every process calls it, since a method may gather; nothing of the run changes."""
    data = trainer.datamodule
    if not isinstance(data, SSLDataModule) or data.views is None:
        return {}
    source = data.split("test") or data.split("val") or data.training_split
    index = sample(len(source), PICTURES)
    views = Views([data.transform("none")] * max(1, data.views.full), data.seed)
    device = trainer.strategy.root_device
    fetched = views.cut({"raw": source.fetch(index), "index": index, "pass": torch.zeros_like(index)})
    batch = views.batch(data.transfer_batch_to_device(fetched, device, 0))
    generators = torch.random.fork_rng(devices=[device] if device.type == "cuda" else [])
    with evaluating(pl_module), generators, torch.no_grad(), trainer.precision_plugin.forward_context():
        shown = pl_module.pictures(batch)
    return {caption: x.detach().cpu() for caption, x in shown.items()}


def draw(data: Any, shown: dict[str, Tensor], plots: Path) -> dict[str, Path]:
    """Draws `pictures.png` of what a method has to show, texts or images, and gives the pictures by
    name; of sounds it writes `<caption>.wav` besides, 4 samples each."""
    picture = {"plots/pictures": plots / "pictures.png"}
    if hasattr(data, "as_words"):
        plot_texts({caption: data.as_words(ids) for caption, ids in shown.items()}, plots / "pictures.png")
        return picture
    as_pictures = getattr(data, "as_pictures", torch.Tensor.float)
    images = {caption: as_pictures(x.float()) for caption, x in shown.items() if x.ndim == 4}
    if images:
        plot_pictures(images, plots / "pictures.png")
    if hasattr(data, "as_sounds"):
        sounds = {caption: data.as_sounds(x[:SOUNDS].float()) for caption, x in shown.items()}
        save_sounds({caption: waves for caption, (waves, _) in sounds.items()}, next(iter(sounds.values()))[1], plots)
    return picture if images else {}
