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

import torch
from torch import Tensor

_MASK = (1 << 64) - 1
_GAMMA = 0x9E3779B97F4A7C15
_FIRST = 0xBF58476D1CE4E5B9
_SECOND = 0x94D049BB133111EB


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
