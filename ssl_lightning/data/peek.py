"""Features of labelled samples, computed beside a training without leaving a trace in it."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager, nullcontext
from typing import Any

import torch
from lightning_fabric.utilities import move_data_to_device
from torch import Tensor, nn

from ..augment.random import permutation
from ..distributed import gather, rank, world_size
from .datamodule import SSLDataModule
from .sources import Source
from .views import as_view

BATCH = 256


@contextmanager
def evaluating(module: nn.Module) -> Iterator[None]:
    """Every submodule in eval mode, then each back in the mode it had."""
    modes = [(child, child.training) for child in module.modules()]
    module.eval()
    try:
        yield
    finally:
        for child, training in modes:
            child.training = training


def sample(n: int, most: int | None) -> Tensor:
    """The first `most` places of a fixed permutation of n; all n in order where there are no
    more."""
    return torch.arange(n) if most is None or n <= most else permutation(0, 0, n)[:most].sort().values


@torch.no_grad()
def embed(
    network: nn.Module,
    data: SSLDataModule,
    source: Source,
    index: Tensor | None = None,
    device: Any = "cpu",
    context: Any = None,
) -> Tensor:
    """Features [M, D], float32, of a source's samples under the test transform, in eval mode;
    shared out among processes.

    Args:
        network: called with a `View`.
        data: whose test transform is used.
        source: the samples.
        index: [M] which of them; None for all.
        device: where the network is.
        context: a context manager for the forward pass, such as the precision plugin's.
    """
    index = torch.arange(len(source)) if index is None else index
    places = [
        torch.arange(len(index))[first :: world_size()] for first in range(world_size())
    ]  # process r: r, r + W, ...
    mine = index[places[rank()]]
    transform = data.transform("none").to(device)
    features = []
    with evaluating(network):
        for part in data.parts(
            source, mine if len(mine) else index[:1], BATCH
        ):  # a process without samples still needs a row's shape
            raw = data.fetch_clean(source, part)
            view = as_view(
                transform(move_data_to_device(raw, device), torch.zeros(len(part), dtype=torch.int64, device=device))
            )
            with context() if context is not None else nullcontext():
                features.append(network(view).float())
    gathered = gather(torch.cat(features)[: len(mine)])
    features_in_order = torch.empty_like(gathered)
    features_in_order[torch.cat(places).to(gathered.device)] = gathered
    return features_in_order
