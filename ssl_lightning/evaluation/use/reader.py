"""From files, arrays or texts to vectors, as the run saw its data."""

from __future__ import annotations

from collections.abc import Iterable
from pathlib import Path
from typing import Any

import torch
from torch import Tensor

from ...data.peek import BATCH, features_here, peek
from ...run.pretrained import load_encoder
from ...run.reading import arguments_for, data_class_of
from ...types import View


class Reader:
    """Turns items into the features of a run's encoder: `Reader(run)(["a.png", "b.png"])` gives
    [2, dim].

    Items are prepared as by the run's test transform: size, crop, mean and deviation of images;
    rate, window and statistics of sound; tokenizer and row length of texts. Where an item is longer
    than a view, its features are the mean over windows that cover it.

    Of images an item is a path, the bytes of a file, an image of Pillow, an array [H, W] or [H, W,
    C], or a tensor [C, H, W], whose floating-point values are in [0, 1]; of sound a path, or
    samples [T] in [-1, 1] with their rate in Hz; of text a `str`, or the `pathlib.Path` of a file
    that is one text.

    Args:
        run: a run folder, a checkpoint, an encoder's file, or published weights by name
            (`load_encoder`).
        device: where the encoder computes, such as "cuda".
        batch_size: items that are embedded at a time.
        trust: further packages that the file may name; see `load_encoder`.

    Raises:
        FileNotFoundError, ValueError: there is no such run, it is damaged, or its data cannot be
            read item by item.
    """

    def __init__(
        self, run: str | Path, *, device: str | torch.device = "cpu", batch_size: int = BATCH, trust: Iterable[str] = ()
    ) -> None:
        if batch_size < 1:
            raise ValueError(f"batch_size={batch_size} is too small; give 1 or more.")
        trust = tuple(trust)
        cls = data_class_of(run, trust)
        if cls.reads_items() is None:
            raise ValueError(
                f"{str(run)!r} was trained on {cls.__name__}, which does not say how single items are read; its author"
                " defines of_items. load_encoder gives the encoder alone."
            )
        given = cls.of_items()
        self.data = given(**arguments_for(given, run))
        self.encoder = load_encoder(run, trust).float().to(device)
        self.device, self.batch_size = torch.device(device), batch_size

    @property
    def dim(self) -> int:
        """The length of a feature vector."""
        return self.encoder.dim

    def __call__(self, items: Iterable[Any]) -> Tensor:
        """Computes the features of S items, [S, dim] float32 on the CPU; `.numpy()` makes them an
        array.

        Raises:
            TypeError, ValueError: an item is of another kind, or cannot be read; it is named.
        """
        source = self.data.take(_several(items))
        if not len(source):
            return torch.zeros(0, self.dim)
        index = torch.arange(len(source))
        return features_here(self.encoder, self.data, source, index, self.device, batch_size=self.batch_size)

    @torch.no_grad()
    def view(self, items: Iterable[Any]) -> View:
        """The view of S items, all in one batch, on the reader's device: what the encoder is called
        with. Of an item that is longer than a view it holds the part that the test transform
        takes."""
        source = self.data.take(_several(items))
        return peek(self.data, source, torch.arange(len(source)), self.device)["views"][0]


def _several(items: Iterable[Any]) -> list[Any]:
    if isinstance(items, (str, bytes, Path)) or not isinstance(items, Iterable):
        raise TypeError(f"This is one {type(items).__name__}, not a list of items; give [item].")
    return list(items)
