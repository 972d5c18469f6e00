"""What is computed from a data set before training: mean and standard deviation of its log-mels,
and some log-mels to mix into others."""

from __future__ import annotations

from typing import NamedTuple

import torch
from torch import Tensor

from ...augment.log_mel import LogMel
from ...augment.random import permutation
from ...augment.window import Waves, Window, within
from ..files.kept import kept, key_of
from ..sources import Source, Subset
from .source import recordings_of

RECORDINGS = 512
"""Recordings that the statistics are computed from, drawn by a fixed permutation."""
BANK_BYTES = 16 << 20
"""Size limit of the log-mels kept to mix into others: all of them, or as many as fit."""
BATCH = 64


class Statistics(NamedTuple):
    """The statistics of a data set's log-mels.

    Args:
        mean: over the bands and frames of recordings, without padding; rounded to 3 decimals, so
            that every machine computes the same.
        deviation: the standard deviation, likewise.
        bank: [N, M, F] float16, the log-mels of some recordings.
    """

    mean: float
    deviation: float
    bank: Tensor


class _Clean(NamedTuple):
    window: Window


def statistics_of(source: Source, mel: LogMel, samples: int) -> Statistics:
    """Computes the statistics of the middle `samples` of each recording of a source; done once and
    kept in the cache folder.

    Raises:
        Unreadable: a recording cannot be read, and the source does not skip it.
        OSError: the cache folder cannot be written.
    """
    index = permutation(0, 0, len(source))[:RECORDINGS]
    settings = [
        mel.mels,
        mel.window,
        mel.hop,
        mel.floor,
        mel.edges,
        mel.pre_emphasis,
        mel.centre,
        mel.taper.tolist(),
        mel.bank.sum(0).tolist(),
    ]
    name = f"sound-{key_of('soxr', settings, samples, *_identity(source, index))}"
    return Statistics(**kept(name, lambda: _compute(source, index, mel, samples)._asdict()))


def _identity(source: Source, index: Tensor) -> tuple[int, list[str]]:
    """Returns the sampling rate, and the stamps, which change when a recording does."""
    recordings = recordings_of(source)
    while isinstance(source, Subset):
        index, source = source.indices[index], source.source
    return recordings.sample_rate, [recordings.stamp(number) for number in index.tolist()]


def _compute(source: Source, index: Tensor, mel: LogMel, samples: int) -> Statistics:
    log_mels, real = [], []
    for part in index.split(BATCH):
        (waves,) = source.fetch(part).cut(
            [_Clean(Window(samples, random=False))], [torch.zeros(len(part), dtype=torch.int64)]
        )
        computed = mel(waves.x)  # [S, M, F]
        lengths = torch.full((len(part),), samples) if waves.lengths is None else waves.lengths
        real.append(computed.mT[within((lengths // mel.hop).clamp(min=1), computed.shape[2])])  # [frames, M]
        log_mels.append(computed)
    values = torch.cat(real).double()
    bank = torch.cat(log_mels)
    fit = max(1, BANK_BYTES // (2 * bank[0].numel()))
    return Statistics(round(float(values.mean()), 3), max(round(float(values.std()), 3), 0.001), bank[:fit].half())


def pooled(mel: LogMel, raw: Waves) -> Tensor:
    """Computes the mean and standard deviation over time of each band's log-mels, without padding.

    Returns:
        [S, 2 M], with M bands.
    """
    log_mels = mel(raw.x)  # [S, M, F]
    if raw.lengths is None:
        return torch.cat([log_mels.mean(2), log_mels.std(2, correction=0)], 1)
    real = within((raw.lengths // mel.hop).clamp(min=1), log_mels.shape[2])[:, None].to(log_mels.dtype)  # [S, 1, F]
    mean = (log_mels * real).sum(2) / real.sum(2)
    variance = ((log_mels - mean[:, :, None]).square() * real).sum(2) / real.sum(2)
    return torch.cat([mean, variance.sqrt()], 1)
