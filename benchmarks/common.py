"""What the benchmarks share: data that needs no download, and the machine in words."""

from __future__ import annotations

import inspect
import io
import os
import platform
import warnings
from collections.abc import Iterator
from contextlib import contextmanager, redirect_stdout
from functools import cache
from itertools import repeat
from typing import Any

import torch
from ssl_lightning.datamodules.fashion_mnist import FashionMNIST
from torch import nn

from ssl_lightning import SSLMethod
from ssl_lightning.data.datamodule import Split
from ssl_lightning.data.loaders import Stream
from ssl_lightning.data.sources import InMemory, Source
from ssl_lightning.run.folder.folder import device_name


@cache
def noise(n: int) -> torch.Tensor:
    """Random images [n, 1, 28, 28], uint8."""
    return torch.randint(0, 256, (n, 1, 28, 28), dtype=torch.uint8, generator=torch.Generator().manual_seed(0))


class NoiseImages(FashionMNIST):
    """Fashion-MNIST's sizes, splits and augmentation on random pixels: what a step costs does not
    depend on the picture.

    Args:
        train_samples: images to pretrain on.
        ready: hand out one augmented batch again and again, instead of fetching and augmenting.
    """

    def __init__(self, *, train_samples: int = 60_000, ready: bool = False, **kwargs: Any) -> None:
        super().__init__(download=False, **kwargs)
        self.train_samples, self.ready = train_samples, ready
        self.before_batch: Any = None
        """Called before each training batch is handed out."""

    def source(self, split: Split) -> Source | None:
        if split == "val":
            return None
        n = self.train_samples if split == "train" else 1_000
        return InMemory(noise(n), torch.arange(n) % 10)

    def _train_loader(self) -> Any:
        loader = super()._train_loader()
        return repeat(self.on_after_batch_transfer(next(iter(loader)), 0)) if self.ready else loader

    def train_dataloader(self) -> Any:
        stream = super().train_dataloader()
        return stream if self.before_batch is None else Preceded(stream, self.before_batch)


class Preceded:
    """A training loader that calls a function before it hands out each batch."""

    def __init__(self, stream: Stream, function: Any) -> None:
        self.stream, self.function = stream, function

    def __len__(self) -> int:
        return len(self.stream)

    def __iter__(self) -> Preceded:
        return self

    def __next__(self) -> Any:
        self.function()
        return next(self.stream)


def settings_of(method: SSLMethod, given: dict[str, Any]) -> dict[str, Any]:
    """The arguments of a method's own, and their values: those given, else the defaults; the hidden
    width as it was built."""
    own = inspect.signature(type(method).__init__).parameters.values()
    settings = {each.name: given.get(each.name, each.default) for each in own if each.default is not each.empty}
    if settings.get("hidden_dim", 0) is None:
        projector = method.get_submodule("projector")
        settings["hidden_dim"] = next(
            layer.out_features for layer in projector.modules() if isinstance(layer, nn.Linear)
        )
    return settings


@contextmanager
def quiet() -> Iterator[None]:
    """Without the lines that a run prints, and without Lightning's remarks."""
    with redirect_stdout(io.StringIO()), warnings.catch_warnings():
        warnings.simplefilter("ignore")
        yield


def machine() -> str:
    """The hardware and what it is busy with."""
    cpu = device_name(torch.device("cpu"))
    load = f"load {os.getloadavg()[0]:.1f}" if hasattr(os, "getloadavg") else ""
    return (
        f"{cpu}, {os.cpu_count()} cores, {torch.get_num_threads()} threads, torch {torch.__version__}, Python"
        f" {platform.python_version()}, {load}"
    )
