"""The lengths of a source's recordings: read from the headers of the files once, and kept."""

from __future__ import annotations

import hashlib

import torch
from torch import Tensor

from ..files.kept import kept
from ..files.source import in_threads
from ..sources import Source, Subset
from .recording import UnreadableSound
from .resampling import length_at
from .source import SoundSource, recordings_of


def lengths_of(source: Source) -> Tensor:
    """Returns the number of samples of each recording of a source, at the source's rate: [N] int64.
    The lengths are kept until a file changes.

    Raises:
        UnreadableSound: the header of a file cannot be read, and the source does not skip it.
        OSError: the cache folder cannot be written.
    """
    if isinstance(source, Subset):
        return lengths_of(source.source)[source.indices]
    recordings = recordings_of(source)
    if recordings.lengths is None and recordings.in_memory:
        lengths = [_length(recordings, number) for number in range(len(recordings))]
        recordings.lengths = torch.tensor(lengths, dtype=torch.int64)
    if recordings.lengths is None:
        recordings.lengths = kept(f"true-lengths-{_identity(recordings)}", lambda: _read(recordings))
    return recordings.lengths


def _identity(source: SoundSource) -> str:
    """Returns a hash that changes when any of the recordings does."""
    digest = hashlib.sha256(f"{source.fingerprint} {source.sample_rate} {source.unreadable}".encode())
    for number in range(len(source)):
        digest.update(f"\n{source.stamp(number)}".encode(errors="surrogateescape"))
    return digest.hexdigest()[:32]


def _read(source: SoundSource) -> Tensor:
    def length(number: int) -> int:
        try:
            return _length(source, number)
        except UnreadableSound as error:
            source.skip(number, error)
        return source.substitute(number, lambda other: _length(source, other))

    return torch.tensor(in_threads(length, range(len(source))), dtype=torch.int64)


def _length(source: SoundSource, number: int) -> int:
    return length_at(source.open(number), source.sample_rate)
