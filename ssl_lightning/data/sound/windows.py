"""The windows that cover recordings longer than a view, for all that judges an encoder."""

from __future__ import annotations

import torch
from torch import Tensor

from ..windows import Windows, starts_of, windows_of
from .lengths import lengths_of
from .recording import Sound
from .source import Recordings, SoundSource


def windows_over(whole: SoundSource, samples: int) -> Windows | None:
    """Returns the windows that cover the recordings of a source; None where no recording is longer
    than one.

    Args:
        whole: the recordings.
        samples: of a window, at the source's rate.

    Raises:
        UnreadableSound: the header of a file cannot be read, and the source does not skip it.
    """
    lengths = lengths_of(whole)
    if not bool((lengths > samples).any()):
        return None
    counts = windows_of(lengths, samples)
    return Windows(SoundWindows(whole, lengths, counts, samples), counts)


class SoundWindows(SoundSource):
    """Windows of recordings, each as a sample.

    Args:
        whole: N recordings.
        lengths: [N] of each, in samples.
        counts: [N] windows of each.
        samples: of a window.
    """

    def __init__(self, whole: SoundSource, lengths: Tensor, counts: Tensor, samples: int) -> None:
        super().__init__(int(counts.sum()), whole.sample_rate)
        self.whole, self.in_memory, self.fingerprint = whole, whole.in_memory, whole.fingerprint
        self.labels = None if whole.labels is None else whole.labels.repeat_interleave(counts)
        self.recording = torch.arange(len(counts)).repeat_interleave(counts)
        which = torch.arange(len(self)) - (counts.cumsum(0) - counts)[self.recording]
        self.starts = starts_of(lengths[self.recording], samples, which, counts[self.recording])
        self.lengths = lengths[self.recording].clamp(max=samples)

    def open(self, number: int) -> Sound:
        return self.whole.open(int(self.recording[number]))

    def name(self, number: int) -> str:
        return self.whole.name(int(self.recording[number]))

    def fetch(self, index: Tensor) -> Recordings:
        return Recordings(self.whole, self.recording[index].tolist(), self.starts[index].tolist())
