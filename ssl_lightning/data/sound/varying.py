"""Recordings of varying length: which methods and encoders take them, and batches by seconds."""

from __future__ import annotations

import math
from typing import Any

from torch import Tensor

from ...augment.log_mel import LogMel
from ...augment.window import row_lengths
from ..buckets import Buckets
from ..datamodule import SSLDataModule
from ..sources import Source, Subset
from .lengths import lengths_of
from .settings import samples_of
from .source import recordings_of


def check_varying(method: Any, features: str, batch_seconds: float | None) -> None:
    """Refuses methods and encoders that need recordings of one length.

    Args:
        method: has `views`, `encoder` and `reads_padding`.
        features: `log_mel` or `wave`.
        batch_seconds: that of the data; None: batches count samples.

    Raises:
        ValueError: the method's views need windows of one length, or the method or its encoder
            would take padding for sound.
    """
    remedy = "--data.seconds 1.0" + (" without --data.batch_seconds" if batch_seconds is not None else "")
    name = type(method).__name__
    if features == "log_mel" and any(strength.startswith("strong") for strength in method.views.strengths):
        raise ValueError(
            f"{name} asks for strong views, and log-mels are shifted, cropped and mixed in windows of one length"
            f" alone: set {remedy}."
        )
    if not getattr(method, "reads_padding", True):
        raise ValueError(f"{name} would take the padding of recordings of varying length for sound: set {remedy}.")
    encoder = getattr(method, "encoder", None)
    if encoder is not None and not encoder.reads_padding:
        raise ValueError(
            f"{type(encoder).__name__} would take the padding of recordings of varying length for sound: set"
            f" {remedy}, or choose an encoder that masks padding, --model.encoder"
            f" {'frames' if features == 'log_mel' else 'wav'}."
        )


def plan_batches(train: Source, rows: Tensor, sample_rate: int, seconds: float, seed: int, processes: int) -> Buckets:
    """Plans batches of about so many seconds, of recordings of similar length.

    Args:
        train: N recordings.
        rows: [N] samples in the row that each recording needs.
        sample_rate: in Hz.
        seconds: of a batch, over all processes, padding included.
        seed: of the order.
        processes: the number that share a batch.

    Raises:
        ValueError: the longest recording does not fit into each process's share.
    """
    budget = samples_of(sample_rate, seconds)
    if int(rows.max()) * processes > budget:
        lengths = lengths_of(train)
        longest = lengths.argmax()
        number = train.indices[longest] if isinstance(train, Subset) else longest
        least = math.ceil(10 * int(rows.max()) * processes / sample_rate) / 10
        raise ValueError(
            f"batch_seconds={seconds:g} has no room for the longest recording,"
            f" {recordings_of(train).name(int(number))}, of {float(lengths[longest]) / sample_rate:.3g} s, in"
            f" each of {processes} processes: set --data.batch_seconds {least:g} or more, or shorten"
            " recordings by --data.seconds."
        )
    return Buckets(rows, budget, seed, processes)


def split_by_length(index: Tensor, rows: list[int], budget: float, most: int) -> list[Tensor]:
    """Splits `index` [M], in order, into parts whose longest row times their size is within the
    budget.

    Args:
        index: the indices to split.
        rows: M lengths, of the row that each index needs.
        budget: the limit; a part of a single row may exceed it.
        most: the limit of a part's size.
    """
    starts, longest = [0], 0
    for position, row in enumerate(rows):
        longest, count = max(longest, row), position - starts[-1] + 1
        if count > most or (longest * count > budget and count > 1):
            starts.append(position)
            longest = row
    return [index[start:end] for start, end in zip(starts, [*starts[1:], len(index)], strict=True)]


class VaryingLengths(SSLDataModule):
    """A datamodule whose recordings may be used whole, in batches that count seconds."""

    sample_rate: int
    samples: int | None
    """Samples in a window; None: recordings are used whole."""
    batch_seconds: float | None
    mel: LogMel
    _planned: tuple[Source, int, Buckets] | None = None

    @property
    def varies(self) -> bool:
        """Whether rows are only as long as the longest recording of a batch needs."""
        return self.samples is None or self.batch_seconds is not None

    @property
    def _step(self) -> int:
        return self.mel.hop if self.varies else 0

    @property
    def buckets(self) -> Buckets | None:
        if self.batch_seconds is None:
            return None
        train, processes = self.training_split, self.world_size
        if self._planned is None or self._planned[0] is not train or self._planned[1] != processes:
            rows = self._rows(lengths_of(train))
            plan = plan_batches(train, rows, self.sample_rate, self.batch_seconds, self.seed, processes)
            self._planned = train, processes, plan
        return self._planned[2]

    def check_share(self, processes: int) -> None:
        if self.batch_seconds is None:
            super().check_share(processes)

    def parts(self, source: Source, index: Tensor, most: int) -> list[Tensor]:
        """Splits as the base class does; where recordings vary in length, no batch exceeds the
        seconds of a training batch."""
        if not self.varies or not len(index):
            return super().parts(source, index, most)
        if self.batch_seconds is None:
            return list(index.split(min(most, self.batch_size)))
        budget = samples_of(self.sample_rate, self.batch_seconds) / self.world_size
        return split_by_length(index, self._rows(lengths_of(source)[index]).tolist(), budget, most)

    def _rows(self, lengths: Tensor) -> Tensor:
        """Returns the number of samples in the rows that recordings of these lengths need."""
        taken = lengths if self.samples is None else lengths.clamp(max=self.samples)
        return row_lengths(taken, self._step, self.samples)
