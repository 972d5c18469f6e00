"""Loaders over an endless order of samples, whose place is one number."""

from __future__ import annotations

import time
from collections.abc import Callable, Iterable, Iterator, Sequence
from typing import Any

import torch
from torch.utils.data import DataLoader, Dataset

from ..augment.random import permutation
from .sources import Source


class Stream:
    """The training loader: one lazy endless iterator that outlives epochs, so that a resumed run
    meets the same batches.

    No `DataLoader`, so that Lightning injects no sampler and restarts nothing between epochs.
    """

    def __init__(self, make: Callable[[], Iterable[Any]], steps: int) -> None:
        self.make, self.steps = make, steps
        self.iterator: Iterator[Any] | None = None
        self.asked = 0.0
        """When the newest batch was asked for, by `time.perf_counter`: the training waits from here
        on."""

    def __len__(self) -> int:
        return self.steps

    def __iter__(self) -> Stream:
        return self

    def state_dict(self) -> dict[str, Any]:
        """Nothing: the position is in the datamodule's state. It tells Lightning that this loader
        can go on in mid-epoch."""
        return {}

    def load_state_dict(self, state_dict: dict[str, Any]) -> None:
        """Nothing to restore."""

    def __next__(self) -> Any:
        self.asked = time.perf_counter()
        if self.iterator is None:  # first use: by now everything is restored
            self.iterator = iter(self.make())
        return next(self.iterator)


class Share:
    """An evaluation loader: this process's batches of a split, each once. No `DataLoader`, into
    which Lightning would put a sampler of its own."""

    def __init__(self, loader: DataLoader[Any]) -> None:
        self.loader = loader

    def __len__(self) -> int:
        return len(self.loader)

    def __iter__(self) -> Iterator[Any]:
        return iter(self.loader)


class Draws:
    """Batches of draws, endlessly, from a position on. Place p holds the draw `pass * n +
    permutation(seed, pass)[p % n]` with pass = p // n. Each process takes its part of each batch,
    so that their number does not change the order."""

    def __init__(self, n: int, seed: int, position: int, batch_size: int, rank: int, world_size: int) -> None:
        self.n, self.seed, self.position, self.batch_size = n, seed, position, batch_size
        share = batch_size // world_size
        self.part = slice(rank * share, (rank + 1) * share)

    def __iter__(self) -> Iterator[list[int]]:
        position, pass_, order = self.position, -1, torch.empty(0)
        while True:
            draws: list[int] = []
            while len(draws) < self.batch_size:
                if position // self.n != pass_:
                    pass_ = position // self.n
                    order = permutation(self.seed, pass_, self.n)
                start = position % self.n
                take = order[start : start + self.batch_size - len(draws)].tolist()
                draws += [pass_ * self.n + index for index in take]
                position += len(take)
            yield draws[self.part]


class Fetch(Dataset[dict[str, Any]]):
    """Fetches a whole batch of draws at once, and prepares it: cuts it, and augments it where that
    happens in the workers."""

    def __init__(self, source: Source, prepare: Callable[[dict[str, Any]], Any]) -> None:
        self.source, self.prepare = source, prepare

    def __getitems__(self, draws: Sequence[int]) -> Any:
        draw = torch.as_tensor(draws)
        index = draw % len(self.source)
        batch = {"raw": self.source.fetch(index), "index": index, "pass": draw // len(self.source)}
        if self.source.labels is not None:
            batch["label"] = self.source.labels[index]
        return self.prepare(batch)

    def __getitem__(self, draw: int) -> Any:
        return self.__getitems__([draw])


def as_is(batch: Any) -> Any:
    """The collate function of loaders that fetch whole batches."""
    return batch


def batches_done(trainer: Any) -> int:
    """Batches that a training has consumed, over all epochs and resumptions; right within
    `on_train_batch_end` too."""
    return int(trainer.fit_loop.epoch_loop.batch_progress.total.processed) if trainer is not None else 0
