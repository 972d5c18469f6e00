"""Batches of samples of similar length, planned for a whole pass: each of about the same total
length, not of the same number of samples."""

from __future__ import annotations

import hashlib
from collections.abc import Iterator
from dataclasses import dataclass
from functools import cached_property

import torch
from torch import Tensor

from ..augment.random import permutation

SIMILAR = 0.85
"""The shortest sample of a bucket is at least about this fraction of its longest."""
FEWEST = 2
"""Batches of a bucket at least, so that no batch is the same in every pass."""
WORTH = 0.05
"""The fraction of all samples that is worth a batch of less than half the size."""
BATCHES = 0x62617463
"""Makes the permutation of the batches differ from that of the samples."""


@dataclass(frozen=True)
class Bucket:
    """A group of batches of one size among which samples are permuted.

    Args:
        size: samples in each batch, over all processes.
        batches: how many of them there are.
    """

    size: int
    batches: int


class Buckets:
    """The batches of every pass, a pure function of (seed, pass, lengths, processes): there is no
    buffer whose state would be needed to resume.

    Sorted by length, longest first, the samples fill buckets of similar length; the samples at the
    end that do not fill a batch are left over. Each pass leaves out different samples, drawn at
    random among all. The rest, again sorted by length, fill the same positions: none is longer than
    the sample that the position was planned for, so every batch stays within the budget, and every
    pass has the same number of batches. Within a bucket the samples are permuted, and so are the
    batches of a pass.

    Args:
        lengths: [N] int64, the length of the rows of a batch whose longest sample this is.
        budget: upper limit of the longest sample of a batch times its number of samples, over all
            processes.
        seed: of the order.
        processes: among which each batch is shared out equally.

    Attributes:
        sizes: [batches] int64, samples in each batch of a pass, before the batches are permuted.

    Raises:
        ValueError: the budget has no room for the longest sample in each process, or there are
            fewer samples than processes.
    """

    def __init__(self, lengths: Tensor, budget: int, seed: int, processes: int = 1) -> None:
        if len(lengths) < processes:
            raise ValueError(f"{len(lengths)} samples cannot be shared out among {processes} processes.")
        if int(lengths.max()) * processes > budget:
            raise ValueError(
                f"A budget of {budget:,} has no room for a sample of {int(lengths.max()):,} in each of {processes}"
                " processes."
            )
        self.lengths, self.budget, self.seed, self.processes = lengths, budget, seed, processes
        self.layout = list(_layout(lengths, budget, processes))
        self.sizes = torch.cat([torch.full((bucket.batches,), bucket.size) for bucket in self.layout])
        self.places = int(self.sizes.sum())

    def __len__(self) -> int:
        """Batches in a pass."""
        return len(self.sizes)

    @property
    def mean_size(self) -> int:
        """Samples in a batch, on average."""
        return round(self.places / len(self))

    @cached_property
    def fingerprint(self) -> str:
        """A hash of the lengths."""
        return hashlib.sha256(self.lengths.numpy().tobytes()).hexdigest()[:32]

    @cached_property
    def _bucket(self) -> Tensor:
        """The bucket of each position, [places]."""
        counts = torch.tensor([bucket.size * bucket.batches for bucket in self.layout])
        return torch.arange(len(self.layout)).repeat_interleave(counts)

    def plan(self, pass_: int) -> list[Tensor]:
        """Returns the samples of each batch of a pass, in order; no sample comes twice."""
        drawn = permutation(self.seed, pass_, len(self.lengths))[len(self.lengths) - self.places :]
        order = self.lengths[drawn].argsort(
            descending=True, stable=True
        )  # order[i]: index in `drawn` of the i-th longest
        within = (self._bucket * len(drawn) + order).argsort()  # by bucket, then as they were drawn
        batches = drawn[order[within]].split(self.sizes.tolist())
        return [batches[number] for number in permutation(self.seed ^ BATCHES, pass_, len(batches)).tolist()]


def _layout(lengths: Tensor, budget: int, processes: int) -> Iterator[Bucket]:
    """Yields the buckets, from the longest samples to the shortest."""
    falling = lengths.sort(descending=True).values
    rising = -falling
    start = 0
    while (left := len(falling) - start) >= processes:
        longest = int(falling[start])
        size = budget // max(1, longest) // processes * processes
        similar = int(torch.searchsorted(rising, -int(SIMILAR * longest), right=True)) - start
        batches = max(similar // size, min(FEWEST, left // size))
        if left < size:  # the shortest: one more batch, if they are worth one
            if 2 * left < size and left < WORTH * len(falling):
                return
            size, batches = left // processes * processes, 1
        yield Bucket(size, batches)
        start += size * batches


class PlannedDraws:
    """An endless sequence of planned batches of draws, from a position on, counted in batches. The
    draw of sample i in a pass is `pass * n + i`, as in `Draws`; each process takes its part of each
    batch."""

    def __init__(self, buckets: Buckets, position: int, rank: int) -> None:
        self.buckets, self.position, self.rank = buckets, position, rank

    def __iter__(self) -> Iterator[list[int]]:
        position, pass_, plan = self.position, -1, [torch.empty(0)]
        while True:
            if position // len(self.buckets) != pass_:
                pass_ = position // len(self.buckets)
                plan = self.buckets.plan(pass_)
            batch = plan[position % len(self.buckets)]
            yield (batch[self.rank :: self.buckets.processes] + pass_ * len(self.buckets.lengths)).tolist()
            position += 1
