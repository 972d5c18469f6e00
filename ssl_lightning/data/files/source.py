"""Samples that are read from files when they are asked for: by threads, and what happens where one
cannot be read."""

from __future__ import annotations

import math
import re
from abc import abstractmethod
from collections.abc import Callable, Iterator, Sequence
from concurrent.futures import ThreadPoolExecutor
from typing import ClassVar, Literal, TypeVar

import torch
from torch import Tensor
from torch.utils.data import get_worker_info

from ..cores import own_cores
from ..sources import Source

Read = TypeVar("Read")
AT_ONCE = 1 << 14
"""Samples that are looked through, or waited for, at a time: of millions, few are objects of Python
at once."""


class Unreadable(ValueError):
    """A file gives no sample; the message names it and says why. The command line shows this
    message alone, wherever a datamodule raises it: while it trains too, and in a worker.

    Args:
        message: what is wrong with which file. Where a worker raises the error, PyTorch builds it
            anew from a text that holds the traceback, of which the message remains; so a subclass
            takes a message alone.
    """

    def __init__(self, message: str) -> None:
        name = re.escape(type(self).__name__)
        if re.match(rf"Caught {name} in ", message):
            message = re.split(rf"^(?:[\w.<>]+\.)?{name}: ", message, flags=re.MULTILINE)[-1]
        super().__init__(message.strip())


class FileSource(Source):
    """Samples in files, of which some may be unreadable.

    Args:
        count: how many there are.
        labels: [N], or None.
        unreadable: `raise` stops at a sample that cannot be read; `skip` takes the next one of the
            same label in its place.
        max_unreadable: the part of the samples that may be skipped, rounded up; more stop the run.
    """

    unit = "files"
    samples: ClassVar[str] = "files"
    """What messages call the samples."""
    error: ClassVar[type[Unreadable]] = Unreadable
    """What a sample that cannot be read raises."""

    def __init__(
        self,
        count: int,
        labels: Tensor | None = None,
        unreadable: Literal["raise", "skip"] = "raise",
        max_unreadable: float = 0.01,
    ) -> None:
        self.count, self.labels = count, labels
        self.unreadable, self.allowed = unreadable, math.ceil(max_unreadable * count)
        with torch.inference_mode(False):  # Lightning opens a split to evaluate in it, and counts outside
            self.skipped = torch.zeros(count, dtype=torch.bool).share_memory_()  # what any worker could not read

    def __len__(self) -> int:
        return self.count

    @abstractmethod
    def name(self, number: int) -> str:
        """What an error calls a sample."""

    def substitutes(self, number: int) -> Iterator[int]:
        """The samples that may stand for one that cannot be read: those after it, of its label
        where there are labels."""
        for part in range(1, self.count, AT_ONCE):
            after = (torch.arange(part, min(part + AT_ONCE, self.count)) + number) % self.count
            if self.labels is not None:
                after = after[self.labels[after] == self.labels[number]]
            yield from after.tolist()

    def skip(self, number: int, error: Unreadable) -> None:
        """Notes that a sample cannot be read.

        Raises:
            Unreadable: none may be skipped, or too many were.
        """
        if self.unreadable == "raise":
            raise self.error(
                f"{error} Remove it, or leave such {self.samples} out with --data.unreadable skip."
            ) from error
        self.skipped[number] = True
        if too_many := self._too_many(f"The last: {error}"):
            raise too_many from error

    @property
    def skipped_names(self) -> dict[int, str]:
        """The names of the samples that were skipped, by number."""
        return {number: self.name(number) for number in self.skipped.nonzero()[:, 0].tolist()}

    def add_skipped(self, numbers: Sequence[int]) -> None:
        """Notes samples that other processes could not read.

        Raises:
            Unreadable: too many were skipped.
        """
        self.skipped[list(numbers)] = True
        if numbers and (too_many := self._too_many(f"One of them: {self.name(numbers[-1])}")):
            raise too_many

    def _too_many(self, example: str) -> Unreadable | None:
        count = int(self.skipped.sum())
        if count <= self.allowed:
            return None
        return self.error(
            f"{count} of {self.count:,} {self.samples} cannot be read, more than --data.max_unreadable allows"
            f" ({self.allowed:,}). {example}"
        )

    def substitute(self, number: int, read: Callable[[int], Read]) -> Read:
        """What `read` gives for the first sample that can stand for one that was skipped.

        Raises:
            Unreadable: there is none, or too many were skipped.
        """
        for other in self.substitutes(number):
            try:
                return read(other)
            except Unreadable as error:
                self.skip(other, error)
        one = self.samples.removesuffix("s")
        raise self.error(
            f"No {one} can stand for {self.name(number)}, which cannot be read: there is no other of its label."
        )


def check_unreadable(unreadable: str, max_unreadable: float, samples: str) -> None:
    """Raises ValueError where the two are no arguments of a `FileSource`."""
    if unreadable not in ("raise", "skip"):
        raise ValueError(f"unreadable={unreadable!r} is unknown; choose raise or skip.")
    if not 0 <= max_unreadable <= 1:
        raise ValueError(f"max_unreadable={max_unreadable} is a part of the {samples}; give a number from 0 to 1.")


def in_threads(function: Callable[[int], Read], items: Sequence[int]) -> list[Read]:
    """The function of each item; outside of workers by as many threads as this process has cores,
    since decoding needs no interpreter."""
    if get_worker_info() is not None:
        return [function(item) for item in items]
    results: list[Read] = []
    with ThreadPoolExecutor(own_cores()) as threads:
        for start in range(0, len(items), AT_ONCE):
            results += threads.map(function, items[start : start + AT_ONCE])
    return results
