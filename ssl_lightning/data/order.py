"""An endless order of samples, in which a position is one integer."""

from __future__ import annotations

from collections.abc import Iterator

import torch
from torch import Tensor

from ..augment.random import permutation, shuffled

NEWEST = 3
"""The version of the order that new runs have. In version 1, whose checkpoints state none, every
pass was sorted, whatever its size; in version 2, passes in batches of similar lengths were."""
SORTED = 1 << 16
"""A pass over up to this many samples is sorted by a hash, which takes memory for all of them; the
order of a longer pass is computed position by position."""
AT_ONCE = 1 << 14
"""Positions of the order whose draws are computed at a time."""


def check_version(version: int) -> int:
    """Returns the version of an order.

    Raises:
        ValueError: it is unknown here.
    """
    if version not in range(1, NEWEST + 1):
        raise ValueError(
            f"The checkpoint's samples come in an order of version {version}, and this version of ssl_lightning knows"
            f" orders up to {NEWEST}: resume with the version that wrote it."
        )
    return version


class Order:
    """An endless order of n samples, pass after pass, each in a random order of its own: a pure
    function of (seed, position).

    Args:
        n: number of samples.
        seed: of the order.
        version: of the order, from 1 to `NEWEST`.
    """

    def __init__(self, n: int, seed: int, version: int = NEWEST) -> None:
        self.n, self.seed, self.sorts = n, seed, version == 1 or n <= SORTED
        self._pass, self._permutation = -1, torch.empty(0, dtype=torch.int64)

    def draws(self, position: Tensor) -> Tensor:
        """The draws `pass * n + sample` [M] at positions [M], where pass = position // n."""
        pass_ = position.div(self.n, rounding_mode="floor")
        within = position - pass_ * self.n
        if not self.sorts:
            return pass_ * self.n + shuffled(self.seed, pass_, self.n, within)
        sample = torch.empty_like(within)
        for number in pass_.unique().tolist():
            chosen = pass_ == number
            sample[chosen] = self._sorted(number)[within[chosen]]
        return pass_ * self.n + sample

    def _sorted(self, pass_: int) -> Tensor:
        if pass_ != self._pass:
            self._pass, self._permutation = pass_, permutation(self.seed, pass_, self.n)
        return self._permutation


class Draws:
    """An endless sequence of batches of draws, from a position on. Each process takes its part of
    each batch, so that the number of processes does not change the order.

    Args:
        n, seed, version: of the `Order`.
        position: where the first batch begins.
        batch_size: samples in a batch, over all processes.
        rank, world_size: of this process, and the number of processes.
    """

    def __init__(
        self,
        n: int,
        seed: int,
        position: int,
        batch_size: int,
        rank: int,
        world_size: int,
        version: int = NEWEST,
    ) -> None:
        self.order, self.position, self.batch_size = Order(n, seed, version), position, batch_size
        share = batch_size // world_size
        # That are computed at a time: no more than of a pass, which may be sorted.
        self.batches = max(1, min(AT_ONCE // max(1, share), n // batch_size))
        self.part = torch.arange(rank * share, (rank + 1) * share)

    def __iter__(self) -> Iterator[list[int]]:
        position, starts = self.position, torch.arange(self.batches) * self.batch_size
        while True:
            positions = position + starts[:, None] + self.part  # [batches, share]
            yield from self.order.draws(positions.flatten()).view_as(positions).tolist()
            position += self.batches * self.batch_size
