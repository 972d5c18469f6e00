"""Batches of samples of similar length, planned for a whole pass: each of about the same total
length, not of the same number of samples."""

from __future__ import annotations

import hashlib
from collections.abc import Iterator
from dataclasses import dataclass
from functools import cached_property

import torch
from torch import Tensor

from ..augment.random import mix, permutation, shuffled
from .order import NEWEST, SORTED

SIMILAR = 0.85
"""The shortest sample of a bucket is at least about this fraction of its longest."""
FEWEST = 2
"""Batches of a bucket at least, so that no batch is the same in every pass."""
WORTH = 0.05
"""The fraction of all samples that is worth a batch of less than half the size."""
BATCHES = 0x62617463
"""Makes the permutation of the batches differ from that of the samples."""
LEFT_OVER = 0x6C656674
"""Makes the draw of those left over differ from both."""
SORTS = 2
"""Up to this version of the order, each pass was sorted by length anew."""


@dataclass(frozen=True)
class Bucket:
    """A group of batches of one size among which samples are permuted.

    Args:
        start: index of its first sample among all that are used, the longest first.
        first: number of its first batch, before the batches are permuted.
        size: samples in each batch, over all processes.
        batches: how many of them there are.
    """

    start: int
    first: int
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

    The samples are sorted once; a pass takes no memory that grows with their number.

    Args:
        lengths: [N] int64, the length of the rows of a batch whose longest sample this is.
        budget: upper limit of the longest sample of a batch times its number of samples, over all
            processes.
        seed: of the order.
        processes: among which each batch is shared out equally.

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
        falling, by_length = lengths.sort(descending=True, stable=True)
        self.layout = list(_layout(falling, budget, processes))
        self.by_length = by_length.to(torch.int32 if len(lengths) < 2**31 else torch.int64)
        """[N] the samples, the longest first."""
        self.firsts = torch.tensor([bucket.first for bucket in self.layout])
        last = self.layout[-1]
        self.places, self.batches = last.start + last.size * last.batches, last.first + last.batches

    def __len__(self) -> int:
        """Batches in a pass."""
        return self.batches

    @property
    def mean_size(self) -> int:
        """Samples in a batch, on average."""
        return round(self.places / len(self))

    @cached_property
    def fingerprint(self) -> str:
        """A hash of the lengths."""
        return hashlib.sha256(self.lengths.numpy().tobytes()).hexdigest()[:32]

    def plan(self, pass_: int, version: int = NEWEST) -> Pass | list[Tensor]:
        """Returns the samples of each batch of a pass, in order; no sample comes twice.

        Args:
            pass_: number of earlier passes.
            version: of the order, as in `Order`.
        """
        return _sorted_plan(self, pass_) if version <= SORTS else Pass(self, pass_)


class Pass:
    """The batches of one pass, each computed from its number alone."""

    def __init__(self, buckets: Buckets, pass_: int) -> None:
        self.buckets, self.pass_, self.permutations = buckets, pass_, dict[int, Tensor]()
        count = len(buckets.lengths)
        left = torch.arange(count - buckets.places)
        # A sample at a position comes behind as many of those left over as are longer.
        self.left_over = self._permuted(LEFT_OVER, count, left).sort().values - left

    def __len__(self) -> int:
        return len(self.buckets)

    def __iter__(self) -> Iterator[Tensor]:
        return map(self.__getitem__, range(len(self)))

    def __getitem__(self, number: int) -> Tensor:
        """The samples [size] of a batch."""
        planned = self._permuted(BATCHES, len(self), torch.tensor([number]))
        index = int(torch.searchsorted(self.buckets.firsts, planned, right=True)) - 1
        bucket = self.buckets.layout[index]
        within = (int(planned) - bucket.first) * bucket.size + torch.arange(bucket.size)
        position = bucket.start + self._permuted(index, bucket.size * bucket.batches, within)
        rank = position + torch.searchsorted(self.left_over, position, right=True)
        return self.buckets.by_length[rank].long()

    def _permuted(self, what: int, count: int, position: Tensor) -> Tensor:
        """What stands at positions [M] of 0 ... count - 1 in random order, which is kept while it
        is short."""
        seed = mix(self.buckets.seed, what)
        if count > SORTED:
            return shuffled(seed, self.pass_, count, position)
        if what not in self.permutations:
            self.permutations[what] = permutation(seed, self.pass_, count)
        return self.permutations[what][position]


def _sorted_plan(buckets: Buckets, pass_: int) -> list[Tensor]:
    """The batches of a pass in the order of checkpoints of versions 1 and 2."""
    lengths, layout, seed = buckets.lengths, buckets.layout, buckets.seed
    sizes = [bucket.size for bucket in layout for _ in range(bucket.batches)]
    numbers = torch.arange(len(layout)).repeat_interleave(torch.tensor([each.size * each.batches for each in layout]))
    drawn = permutation(seed, pass_, len(lengths))[len(lengths) - buckets.places :]
    order = lengths[drawn].argsort(descending=True, stable=True)  # order[i]: index in `drawn` of the i-th longest
    within = (numbers * len(drawn) + order).argsort()  # by bucket, then as they were drawn
    batches = drawn[order[within]].split(sizes)
    return [batches[number] for number in permutation(seed ^ BATCHES, pass_, len(batches)).tolist()]


def _layout(falling: Tensor, budget: int, processes: int) -> Iterator[Bucket]:
    """Yields the buckets, from the longest samples to the shortest; lengths [N] are sorted."""
    rising = -falling
    start = first = 0
    while (left := len(falling) - start) >= processes:
        longest = int(falling[start])
        size = budget // max(1, longest) // processes * processes
        similar = int(torch.searchsorted(rising, -int(SIMILAR * longest), right=True)) - start
        batches = max(similar // size, min(FEWEST, left // size))
        if left < size:  # the shortest: one more batch, if they are worth one
            if 2 * left < size and left < WORTH * len(falling):
                return
            size, batches = left // processes * processes, 1
        yield Bucket(start, first, size, batches)
        start += size * batches
        first += batches


class PlannedDraws:
    """An endless sequence of planned batches of draws, from a position on, counted in batches. The
    draw of sample i in a pass is `pass * n + i`, as in `Draws`; each process takes its part of each
    batch."""

    def __init__(self, buckets: Buckets, position: int, rank: int, version: int = NEWEST) -> None:
        self.buckets, self.position, self.rank, self.version = buckets, position, rank, version

    def __iter__(self) -> Iterator[list[int]]:
        position, pass_ = self.position, -1
        plan: Pass | list[Tensor] = []
        while True:
            if position // len(self.buckets) != pass_:
                pass_ = position // len(self.buckets)
                plan = self.buckets.plan(pass_, self.version)
            batch = plan[position % len(self.buckets)]
            yield (batch[self.rank :: self.buckets.processes] + pass_ * len(self.buckets.lengths)).tolist()
            position += 1
