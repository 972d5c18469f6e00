"""The closing table of a run: which splits, which features."""

from __future__ import annotations

from typing import Any, NamedTuple

import torch
from torch import Tensor, nn

from ..data.datamodule import SSLDataModule
from ..data.peek import embed
from ..data.sources import Source
from .table import Cell, format_table

UNTRAINED = "untrained.safetensors"
Table = dict[str, dict[str, Cell]]


class Closing(NamedTuple):
    """The closing table of a labelled set, the split it was judged on, that split's features [N, D]
    with labels [N], and a line on what is left out of the table."""

    table: Table
    split: str
    features: Tensor
    labels: Tensor
    note: str = ""

    @property
    def printed(self) -> str:
        """The table as text; that of a supervised run is one number, and the note says it."""
        return (
            self.note
            if self.split in self.table
            else "\n".join(filter(None, (format_table(self.table, self.split), self.note)))
        )


def closing_splits(data: SSLDataModule) -> tuple[Source, Source, str]:
    """The labelled samples that the closing table learns from, those it is judged on, and the
    latter's name: `test`, or, where there is none with labels, `val`, from which nothing is learned
    then.

    Raises:
        ValueError: there are no labels to learn from or to judge by.
    """
    train, test = data.labelled_split, data.split("test")
    if train is not None and test is not None and test.labels is not None:
        return train, test, "test"
    splits = data.probe_splits()
    if splits is None:
        raise ValueError(f"{type(data).__name__} has no labelled splits to learn from and to judge by.")
    return *splits, "val"


def features_of(
    network: nn.Module | None, data: SSLDataModule, source: Any, index: Tensor, trainer: Any, pl_module: Any
) -> Tensor:
    """Features [M, D] on the CPU: by a network, or without learning where it is None."""
    if network is None:
        return torch.cat(
            [data.raw_features(data.fetch_clean(source, part)).float() for part in data.parts(source, index, 1024)]
        )
    device = trainer.strategy.root_device
    return embed(network.to(device), data, source, index, device, trainer.precision_plugin.forward_context).cpu()
