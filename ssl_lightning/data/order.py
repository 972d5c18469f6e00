"""An endless order of samples, in which a position is one integer."""

from __future__ import annotations

from collections.abc import Iterator

import torch

from ..augment.random import permutation


class Draws:
    """An endless sequence of batches of draws, from a position on. Position p holds the draw
    `pass * n + permutation(seed, pass)[p % n]` with pass = p // n. Each process takes its part of
    each batch, so that the number of processes does not change the order."""

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
