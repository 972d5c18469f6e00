"""What the closing table looks at: the splits that it uses, and the features that it compares."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager
from typing import Any

import torch
from torch import Tensor, nn

from ..data.datamodule import SSLDataModule
from ..data.peek import embed_to_host, features_here
from ..data.sources import Source
from ..distributed import on_each
from ..encoders.base import Encoder
from ..nn.precision import HALF
from ..types import View
from .budget import seconds_a_sample


def closing_splits(data: SSLDataModule) -> tuple[Source, Source, str]:
    """The labelled training samples of the closing table, the samples it is evaluated on, and the
    latter's name: `test`, or `val` where the test split is missing or has no labels (the training
    samples then exclude `val`).

    Raises:
        ValueError: the data has no labelled splits.
    """
    train, test = data.labelled_split, data.labelled_samples("test")
    if train is not None and test is not None:
        return train, test, "test"
    splits = data.probe_splits()
    if splits is None:
        raise ValueError(f"{type(data).__name__} {data.why_unlabelled} to train and to evaluate the probes on.")
    return *splits, "val"


def features_of(network: nn.Module | None, data: SSLDataModule, source: Source, index: Tensor, trainer: Any) -> Tensor:
    """Features [M, D] on the CPU of the first process. Every process must call it, and embeds its
    share of the samples; the others get [0, D].

    Args:
        network: the network that embeds the samples; None: the data's raw features.
        data: the datamodule that makes the views.
        source: the samples.
        index: [M] positions in the source.
        trainer: gives the device. Features are computed in float32 whatever the precision of the
            run, as by the encoder that it exports.
    """
    with in_float32(network):
        return embed_to_host(network, data, source, index, trainer.strategy.root_device)


@contextmanager
def in_float32(network: nn.Module | None) -> Iterator[None]:
    """Gives a network's weights float32, and afterwards each its own precision again."""
    tensors = [] if network is None else [*network.parameters(), *network.buffers()]
    halves = [(tensor, tensor.data) for tensor in tensors if tensor.dtype in HALF]
    for tensor, half in halves:
        tensor.data = half.float()
    try:
        yield
    finally:
        for tensor, half in halves:
            tensor.data = half


def seconds_of_features(
    network: nn.Module | None, data: SSLDataModule, source: Source, index: Tensor, trainer: Any
) -> float:
    """Seconds that the features of one sample take, where the processes share the work; equal on
    every process, which must all call it. Arguments as of `features_of`."""
    device = trainer.strategy.root_device
    with in_float32(network):
        times = on_each(
            lambda: seconds_a_sample(lambda part: features_here(network, data, source, part, device), index)
        )
    return max(times) / len(times)


class WithLayers(nn.Module):
    """A network that returns, besides its features, those of each of its encoder's layers: View ->
    [S, 1 + L, D].

    Most encoders' last layer is what they return; where the first batch shows that, one pass gives
    both.

    Args:
        network: View -> [S, D].
        backbone: the encoder inside.
    """

    def __init__(self, network: nn.Module, backbone: Encoder) -> None:
        super().__init__()
        self.network, self.backbone = network, backbone
        self.last_is_output: bool | None = None

    def forward(self, view: View) -> Tensor:
        layers = self.backbone.layer_features(view)
        features: Tensor = layers[:, -1] if self.last_is_output else self.network(view)
        if self.last_is_output is None:
            self.last_is_output = torch.equal(layers[:, -1], features)
        return torch.cat([features[:, None], layers], dim=1)
