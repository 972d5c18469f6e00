"""Data loaders: batches fetched whole, by as many workers as the machine has room for."""

from __future__ import annotations

import time
from collections.abc import Callable, Iterable, Iterator, Sequence
from typing import Any

import torch
from torch.utils.data import DataLoader, Dataset

from .cores import own_cores
from .files.reading import TakePage, new_pages, note
from .sources import Source
from .waiting import PatientLoader

FEW_CORES = 4
"""CPU cores that training keeps busy by itself: on 2 of them, workers reduced the rate of a
ResNet-18 on JPEGs at 224 pixels by 8 to 16 %, and gained at most 6 % with a small encoder at 96
(`benchmarks/placement.py`)."""


class Stream:
    """The training loader: one lazy endless iterator that outlives epochs, so that a resumed run
    sees the same batches.

    No `DataLoader`, so that Lightning injects no sampler and restarts nothing between epochs.

    Args:
        make: makes the loader.
        steps: batches in an epoch.
        after_epoch: called when the batches of an epoch have been taken, before the next one is: by
            every process at the same step.
    """

    def __init__(self, make: Callable[[], Iterable[Any]], steps: int, after_epoch: Callable[[], None]) -> None:
        self.make, self.steps, self.after_epoch = make, steps, after_epoch
        self.taken = 0
        self.iterator: Iterator[Any] | None = None
        self.requested_at = 0.0
        """When the newest batch was requested, by `time.perf_counter`: training waits from then
        on."""

    def __len__(self) -> int:
        return self.steps

    def __iter__(self) -> Stream:
        return self

    def state_dict(self) -> dict[str, Any]:
        """Returns nothing: the position is in the datamodule's state. That this method exists tells
        Lightning that the loader can resume in mid-epoch."""
        return {}

    def load_state_dict(self, state_dict: dict[str, Any]) -> None:
        """Restores nothing."""

    def __next__(self) -> Any:
        self.requested_at = time.perf_counter()
        if self.iterator is None:  # first use: by now everything is restored
            self.iterator = iter(self.make())
        if self.taken and self.taken % self.steps == 0:
            self.after_epoch()
        self.taken += 1
        return next(self.iterator)

    def close(self) -> None:
        """Ends the workers. Left to the garbage collector, each would stall it for 5 seconds, and
        stay: it is not ended by SIGTERM."""
        self.iterator = None


class Share:
    """An evaluation loader: this process's batches of a split, each once. It is not a `DataLoader`,
    into which Lightning would put a sampler of its own."""

    def __init__(self, loader: DataLoader[Any]) -> None:
        self.loader = loader

    def __len__(self) -> int:
        return len(self.loader)

    def __iter__(self) -> Iterator[Any]:
        return iter(self.loader)


class Fetch(Dataset[dict[str, Any]]):
    """A data set that fetches a whole batch of draws at once and prepares it: cuts it, and augments
    it where that happens in the workers.

    Args:
        source: N samples.
        prepare: called with each fetched batch.
    """

    def __init__(self, source: Source, prepare: Callable[[dict[str, Any]], Any]) -> None:
        self.source, self.prepare = source, prepare

    def __getitems__(self, draws: Sequence[int]) -> Any:
        """The batch of `draws`, each pass * N + index."""
        draw = torch.as_tensor(draws, dtype=torch.int64)
        index = draw % len(self.source)
        note(f"sample {int(index[0])} and {len(index) - 1} others" if len(index) else "no sample")
        batch = {"raw": self.source.fetch(index), "index": index, "pass": draw // len(self.source)}
        if self.source.labels is not None:
            batch["label"] = self.source.labels[index]
        return self.prepare(batch)

    def __getitem__(self, draw: int) -> Any:
        return self.__getitems__([draw])


def batch_loader(
    dataset: Fetch, draws: Iterable[Any], *, workers: int | None, timeout: float, seed: int, on_cpu: bool, pin: bool
) -> DataLoader[Any]:
    """Returns a loader of whole batches.

    Args:
        dataset: fetches a batch of draws.
        draws: the draws of each batch.
        workers: the number of workers. None: no workers for data in memory, nor where training
            keeps few CPU cores busy; else one per core of this process, at most 8.
        timeout: seconds without a sign of work after which a worker is given up; 0: never.
        seed: of the workers' generators; a loader would draw it from the global one.
        on_cpu: whether the model trains on the CPU.
        pin: whether batches lie in pinned memory.
    """
    if workers is None:
        cores = own_cores()
        workers = 0 if dataset.source.in_memory or (on_cpu and cores <= FEW_CORES) else min(8, cores)
    pages = new_pages(workers)
    return PatientLoader(
        dataset,
        pages=pages,
        limit=timeout,
        worker_init_fn=TakePage(pages),
        batch_sampler=draws,
        collate_fn=_as_is,
        num_workers=workers,
        pin_memory=pin,
        generator=torch.Generator().manual_seed(seed),
    )


def _as_is(batch: Any) -> Any:
    return batch
