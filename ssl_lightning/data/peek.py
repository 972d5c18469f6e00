"""Views of samples for all that look at them without training: probes, the closing table, pictures.

Everything here leaves the run unchanged: no order advances, no generator draws, and every module
returns to the mode it had.
"""

from __future__ import annotations

from collections.abc import Callable, Iterable, Iterator, Sequence
from contextlib import contextmanager, nullcontext
from functools import partial
from typing import Any

import torch
from torch import Tensor, nn

from ..augment.random import permutation
from ..distributed import all_or_none, collect, gather, rank, world_size
from ..nn.precision import cast
from ..types import Batch, View
from .datamodule import SSLDataModule
from .loaders import Fetch
from .sources import Source
from .views import Fetched, Views, full_precision
from .windows import of_whole_samples

BATCH, RAW_BATCH = 256, 1024
"""Samples that are embedded, or whose raw features are computed, at a time."""


def peek(data: SSLDataModule, source: Source, index: Tensor, device: Any, views: Views | None = None) -> Batch:
    """Makes the views of one batch of samples, without labels, where training makes its own: on the
    device, or where the samples are fetched.

    Args:
        data: the datamodule whose test transform is used, and which says where views are made.
        source: the samples.
        index: [S] which of them.
        device: where the batch shall be.
        views: the transforms; None: the test transform alone.
    """
    views = views or data.clean_views()
    with full_precision(torch.device(device)):
        fetched: Fetched = {"raw": source.fetch(index), "index": index, "pass": torch.zeros_like(index)}
        return _finished(data, views, _prepared(data, views)(fetched), torch.device(device))


def peek_each(
    data: SSLDataModule, source: Source, draws: Iterable[Sequence[int] | Tensor], device: Any, views: Views
) -> Iterator[Batch]:
    """Does the same as `peek` for many batches, with labels, fetched by the data's workers.

    Args:
        data, source, device, views: as in `peek`.
        draws: for each batch, pass * len(source) + index of each sample.
    """
    for fetched in data.loader(Fetch(source, _prepared(data, views)), draws):
        yield _finished(data, views, fetched, torch.device(device))


def _prepared(data: SSLDataModule, views: Views) -> Any:
    return views.batch if data.in_workers else views.cut


def _finished(data: SSLDataModule, views: Views, prepared: Fetched, device: torch.device) -> Batch:
    moved = data.transfer_batch_to_device(prepared, device, 0)
    return moved if data.in_workers else views.batch(moved)


@contextmanager
def evaluating(module: nn.Module) -> Iterator[None]:
    """Puts every submodule into eval mode, and afterwards each back into the mode it had."""
    modes = [(child, child.training) for child in module.modules()]
    module.eval()
    try:
        yield
    finally:
        for child, training in modes:
            child.training = training


def sample(n: int, most: int | None) -> Tensor:
    """Returns the first `most` indices of a fixed permutation of n, sorted; all n where `most` is
    None or not smaller."""
    return torch.arange(n) if most is None or n <= most else permutation(0, 0, n)[:most].sort().values


@torch.no_grad()
def embed(
    network: nn.Module,
    data: SSLDataModule,
    source: Source,
    index: Tensor | None = None,
    device: Any = "cpu",
    context: Any = None,
    views: Views | None = None,
) -> Tensor:
    """Computes features [M, D], float32, of a source's samples under the test transform, in eval
    mode; the processes share the work.

    Args:
        network: called with a `View`.
        data: the datamodule whose test transform is used.
        source: the samples.
        index: [M] which of them; None: all.
        device: where the network is.
        context: a context manager for the forward pass, such as the precision plugin's.
        views: V transforms, whose views are embedded one by one, [M, V, D]; None: the test
            transform.
    """
    index = torch.arange(len(source)) if index is None else index
    share = _share(index)
    if views is None:
        parts = _features(network, data, source, share, device, context)
    else:
        at_once = max(1, BATCH // len(views.transforms))
        parts = _features_of_views(network, data, source, share, device, context, views, at_once)
    features = torch.cat(list(parts))
    return _in_order(gather(features[: _count(index)]), index)


def embed_to_host(
    network: nn.Module | None,
    data: SSLDataModule,
    source: Source,
    index: Tensor,
    device: Any = "cpu",
    context: Any = None,
    views: Views | None = None,
) -> Tensor:
    """Does the same as `embed` for as many samples as the host has memory for: features leave the
    device batch by batch, and only the first process gets those of all. Where one process fails,
    all do.

    Args:
        network: called with a `View`, after it was moved to the device; None: raw features.
        data, source, index, device, context: as in `embed`.
        views: V transforms, whose views are embedded one by one; None: the test transform.

    Returns:
        [M, D] float32 on the CPU, with `views` [M, V, D]; [0, ...] in the other processes.
    """
    features = all_or_none(lambda: features_here(network, data, source, _share(index), device, context, views))
    collected = collect(features[: _count(index)], device)
    return _in_order(collected, index) if rank() == 0 else collected


@torch.no_grad()
def features_here(
    network: nn.Module | None,
    data: SSLDataModule,
    source: Source,
    index: Tensor,
    device: Any = "cpu",
    context: Any = None,
    views: Views | None = None,
    batch_size: int = BATCH,
) -> Tensor:
    """The features [M, D] of samples, at least one, that this process computes alone, on the CPU;
    arguments, and the shape with `views`, as in `embed_to_host`.

    Args:
        batch_size: samples that a network embeds at a time, without `views`.
    """
    if network is not None:
        network.to(device)
    if views is not None:
        parts = _features_of_views(network, data, source, index, device, context, views)
    elif network is None:
        parts = _raw_features(data, source, index)
    else:
        parts = _features(network, data, source, index, device, context, batch_size)
    return torch.cat([part.cpu() for part in parts])


def _share(index: Tensor) -> Tensor:
    """This process's part of an index [M]; a process without samples gets one, since it still needs
    the shape of a row."""
    mine = index[rank() :: world_size()]
    return mine if len(mine) else index[:1]


def _count(index: Tensor) -> int:
    """How many samples of an index are this process's."""
    return len(index[rank() :: world_size()])


def _in_order(features: Tensor, index: Tensor) -> Tensor:
    """Features [M, D] in the order of ranks -> in that of the index."""
    if world_size() == 1:
        return features
    positions = torch.arange(len(index), device=features.device)
    in_order = torch.empty_like(features)
    in_order[torch.cat([positions[first :: world_size()] for first in range(world_size())])] = features
    return in_order


def _features(
    network: nn.Module,
    data: SSLDataModule,
    source: Source,
    share: Tensor,
    device: Any,
    context: Any,
    batch_size: int = BATCH,
) -> Iterator[Tensor]:
    """Yields the features [S, D] of each batch of a share, on the device."""
    views = data.clean_views()

    def embedded(source: Source, part: Tensor) -> Tensor:
        return _features_of(network, peek(data, source, part, device, views)["views"][0], context)

    with evaluating(network):
        for part in data.parts(source, share, batch_size):
            yield of_whole_samples(source, part, lambda source, index: data.parts(source, index, batch_size), embedded)


def _features_of(network: nn.Module, view: View, context: Any) -> Tensor:
    """The features [S, D] of a view."""
    view = cast(view, getattr(network, "backbone", network))
    with context() if context is not None else nullcontext():
        features: Tensor = network(view).float()
    return features


def _features_of_views(
    network: nn.Module | None,
    data: SSLDataModule,
    source: Source,
    share: Tensor,
    device: Any,
    context: Any,
    views: Views,
    batch_size: int = BATCH,
) -> Iterator[Tensor]:
    """Yields the features [S, V, D] of each batch's views."""
    with evaluating(network) if network is not None else nullcontext():
        for part in data.parts(source, share, batch_size):
            each = peek(data, source, part, device, views)["views"]
            features: Callable[[View], Tensor] = data.raw_of_view
            if network is not None:
                features = partial(_features_of, network, context=context)
            yield torch.stack([features(view) for view in each], dim=1)


def _raw_features(data: SSLDataModule, source: Source, index: Tensor) -> Iterator[Tensor]:
    """Yields the raw features [S, D] of each batch of samples."""

    def computed(source: Source, part: Tensor) -> Tensor:
        return data.raw_features(data.fetch_clean(source, part)).float()

    for part in data.parts(source, index, RAW_BATCH):
        yield of_whole_samples(source, part, lambda source, index: data.parts(source, index, RAW_BATCH), computed)


@torch.no_grad()
def try_encoder(encoder: nn.Module, data: SSLDataModule, local: bool) -> None:
    """Shows the encoder two samples before a run starts, so that what it raises for views that it
    does not accept is raised here.

    It is tried where it is: a method's `device` is by now that of the run, to which Lightning moves
    the weights later.

    Args:
        encoder: called with a `View`.
        data: a datamodule whose `serve` was called, so that it has the views of the run.
        local: whether local crops are shown too.
    """
    source, index = data.training_split, torch.arange(2)
    device = next((tensor.device for tensor in (*encoder.parameters(), *encoder.buffers())), torch.device("cpu"))
    with evaluating(encoder):
        encoder(cast(peek(data, source, index, device)["views"][0], encoder))
        if local and data.views is not None:
            encoder(cast(peek(data, source, index, device, data.maker)["views"][data.views.full], encoder))
