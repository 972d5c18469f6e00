"""Stateless randomness: each random number is a hash of its purpose, so that no generator has a
state to save.

The hash is splitmix64 (Steele, Lea and Flood 2014, "Fast splittable pseudorandom number
generators", Figure 17). A sample's key is the hash of (seed, pass, index); folding in a view and an
operation gives a further key; a key gives a stream of random numbers. A sample's draws depend
neither on its batch nor on device, worker or process.

Notation for shapes: S samples in a batch. Keys are int64 whose 64 bits are read as unsigned;
products wrap.
"""

from __future__ import annotations

import math

import torch
from torch import Tensor

_MASK = (1 << 64) - 1
_GAMMA = 0x9E3779B97F4A7C15
_FIRST = 0xBF58476D1CE4E5B9
_SECOND = 0x94D049BB133111EB
_ROUNDS = 8


def mix(*values: int) -> int:
    """Hashes integers in [0, 2^64), whose order matters, in a few microseconds: a seed for
    generators."""
    key = 0
    for value in values:
        key = ((key ^ value) + _GAMMA) & _MASK
        key = ((key ^ (key >> 30)) * _FIRST) & _MASK
        key = ((key ^ (key >> 27)) * _SECOND) & _MASK
        key ^= key >> 31
    return key


def sample_keys(seed: int, pass_: Tensor | int, index: Tensor) -> Tensor:
    """The random key of each sample: [S] int64, equal to `mix(seed, pass, index)`.

    Args:
        seed: the run's seed.
        pass_: number of earlier passes over the data set, an integer or int64 [S].
        index: [S] int64, the sample's index in its data set.
    """
    if isinstance(pass_, Tensor):
        return _scramble((_scramble((pass_ ^ _signed(mix(seed))) + _signed(_GAMMA)) ^ index) + _signed(_GAMMA))
    return _scramble((index ^ _signed(mix(seed, pass_))) + _signed(_GAMMA))


def fold(key: Tensor, *values: int | Tensor) -> Tensor:
    """Makes a new key [S] from a key [S] and integers, such as those of a view and an operation; an
    int64 tensor gives each key another integer."""
    for value in values:
        key = _scramble((key ^ (value if isinstance(value, Tensor) else _signed(value))) + _signed(_GAMMA))
    return key


def uniform(key: Tensor, n: int, low: float = 0.0, high: float = 1.0) -> Tensor:
    """Uniform random numbers from [low, high): [S, n] float32. A longer draw begins with the
    shorter one."""
    return (_stream(key, n) >> 40 & 0xFFFFFF).float().mul_(2.0**-24 * (high - low)).add_(low)


def normal(key: Tensor, n: int) -> Tensor:
    """Standard normal random numbers [S, n] float32, by the inverse of the distribution function;
    none exceeds 5.3 in size."""
    return torch.special.ndtri((_stream(key, n) >> 41 & 0x7FFFFF).float().add_(0.5).mul_(2.0**-23))


def permutation(seed: int, pass_: int, n: int) -> Tensor:
    """The order of a pass over n samples: [n] int64, the samples sorted by a hash of (seed, pass,
    index)."""
    # Folding -1 separates the order from the samples' keys.
    return torch.argsort(fold(sample_keys(seed, pass_, torch.arange(n)), -1), stable=True)


def shuffled(seed: int, pass_: Tensor | int, n: int, position: Tensor) -> Tensor:
    """The sample at each position of a pass over n samples in random order: [M] int64, computed
    from the position alone, so that no order is held in memory.

    The order is a keyed permutation: a Feistel network over a rectangle of rows and columns (Black
    and Rogaway 2002, Ciphers with arbitrary finite domains, Section 5), which has fewer than
    sqrt(n) + 1 cells more than there are samples; a position that leads to one of those is
    permuted again until it leads to a sample (their "cycle walking"). From some hundred samples on,
    no position and no pair of neighbours prefers any sample measurably; of fewer samples, some
    orders come more often than others.

    Args:
        seed: the run's seed.
        pass_: number of earlier passes over the data set, an integer or int64 [M].
        n: number of samples, at most 2^62.
        position: [M] int64, in 0 ... n - 1.
    """
    if n < 2:
        return torch.zeros_like(position)
    # An index of -1 separates the order from the samples' keys.
    key = sample_keys(seed, pass_, torch.full_like(position, -1))
    columns = math.isqrt(n - 1) + 1
    rows = -(-n // columns)
    index = _permuted(position, key, rows, columns)
    while len(outside := (index >= n).nonzero()[:, 0]):
        index[outside] = _permuted(index[outside], key[outside], rows, columns)
    return index


def _permuted(cell: Tensor, key: Tensor, rows: int, columns: int) -> Tensor:
    """Cells [M] of a rectangle, counted by rows -> other cells [M]: in turn, each row is rotated,
    and each column, by a hash of its number."""
    column, row = cell % columns, cell.div(columns, rounding_mode="floor")
    for number in range(_ROUNDS // 2):
        column = _rotated(column, columns, row, key, mix(2 * number))
        row = _rotated(row, rows, column, key, mix(2 * number + 1))
    return row * columns + column


def _rotated(place: Tensor, places: int, line: Tensor, key: Tensor, round_: int) -> Tensor:
    """Places [M] in lines of so many places, after each line [M] was rotated."""
    by = (_scramble((line ^ key) + _signed(round_)) >> 33 & 0x7FFFFFFF) * places >> 31
    moved = place + by
    return torch.where(moved < places, moved, moved - places)


def _stream(key: Tensor, n: int) -> Tensor:
    # Downwards, whereas `fold` adds: no number of a stream is a folded key.
    step = torch.arange(-1, -n - 1, -1, device=key.device) * _signed(_GAMMA)
    return _scramble(key[:, None] + step)


def _scramble(key: Tensor) -> Tensor:
    """splitmix64's output function on int64; masks make the arithmetic shift a logical one."""
    key = (key ^ (key >> 30 & 0x3FFFFFFFF)) * _signed(_FIRST)
    key = (key ^ (key >> 27 & 0x1FFFFFFFFF)) * _signed(_SECOND)
    return key ^ (key >> 31 & 0x1FFFFFFFF)


def _signed(value: int) -> int:
    value &= _MASK
    return value - (1 << 64) if value >> 63 else value
