"""Samples that one view does not hold whole: the windows that cover each, and the mean over them.

A source that has such samples returns `Windows` from `Source.windows`. All that judges an encoder
(probes, closing table, `validate`, `test`, `predict`) then embeds every window, and a sample's
features are the mean over its windows.
"""

from __future__ import annotations

from collections.abc import Callable
from typing import Any, NamedTuple

import torch
from torch import Tensor

from .loaders import Fetch
from .sources import Source, Subset

MOST_WINDOWS = 32
"""Windows of a sample that is longer than so many; they are then spread over it evenly."""


class Windows(NamedTuple):
    """The windows that cover the samples of a source.

    Args:
        source: every window as a sample, those of the first sample first.
        counts: [N] the number of windows of each sample, at least 1.
    """

    source: Source
    counts: Tensor

    def of(self, index: Tensor) -> tuple[Tensor, Tensor]:
        """Returns where in `source` the windows of the samples `index` [M] are, sample by sample,
        [W], and the number of windows of each [M]."""
        counts = self.counts[index]
        first = (self.counts.cumsum(0) - self.counts)[index] - (counts.cumsum(0) - counts)
        return torch.arange(int(counts.sum())) + first.repeat_interleave(counts), counts

    def only(self, index: Tensor) -> Windows | None:
        """Returns the windows of the samples `index` [M] alone; None where one view holds each."""
        positions, counts = self.of(index)
        return Windows(Subset(self.source, positions), counts) if bool((counts > 1).any()) else None

    def sentence(self) -> str:
        """Says how many samples are longer than a view, and what becomes of them."""
        long = self.counts[self.counts > 1]
        return f"{len(long):,} longer than a view, judged by the mean over {int(long.sum()):,} windows"


def windows_of(lengths: Tensor, room: int, most: int = MOST_WINDOWS) -> Tensor:
    """Returns the number of windows [N] that cover samples of these lengths [N]: as few as do, at
    most `most`.

    Args:
        lengths: of the samples, in the unit of `room`.
        room: the length of a window.
        most: the most windows of a sample.
    """
    return (-(-lengths // room)).clamp(1, most)


def starts_of(lengths: Tensor, room: int, which: Tensor, counts: Tensor) -> Tensor:
    """Returns where windows begin [W]: the first at the beginning of its sample, the last so that
    it ends with it, the others evenly between; all are full.

    Args:
        lengths: [W] of each window's sample.
        room: the length of a window.
        which: [W] the window's number within its sample.
        counts: [W] the number of windows of its sample.
    """
    return which * (lengths - room).clamp(min=0) // (counts - 1).clamp(min=1)


def averaged(features: Tensor, counts: Tensor) -> Tensor:
    """Returns the mean [M, ...] over the windows of each sample.

    Args:
        features: [W, ...] of the windows, sample by sample.
        counts: [M] the number of windows of each sample.
    """
    return torch.stack([part.mean(dim=0) for part in features.split(counts.tolist())])


def of_whole_samples(
    source: Source, index: Tensor, split: Callable[[Source, Tensor], list[Tensor]], compute: Callable[..., Tensor]
) -> Tensor:
    """Computes features [S, ...] of whole samples: each the mean over its windows, where it has
    several.

    Args:
        source: the samples.
        index: [S] which of them.
        split: cuts an index into a source into batches.
        compute: (source, index [B]) -> features [B, ...].
    """
    windows = source.windows()
    if windows is None:
        return compute(source, index)
    positions, counts = windows.of(index)
    parts = split(windows.source, positions)
    return averaged(torch.cat([compute(windows.source, part) for part in parts]), counts)


class FetchWindows(Fetch):
    """Fetches windows for evaluation: `sample` [S] of a batch is the index of each one's sample."""

    def __init__(self, windows: Windows, prepare: Callable[[dict[str, Any]], Any]) -> None:
        super().__init__(windows.source, lambda batch: batch)
        self.finish = prepare
        self.sample = torch.arange(len(windows.counts)).repeat_interleave(windows.counts)

    def __getitems__(self, draws: Any) -> Any:
        batch = super().__getitems__(draws)
        return {**self.finish(batch), "sample": self.sample[batch["index"]]}


def merged(outputs: dict[str, Tensor]) -> dict[str, Tensor]:
    """Returns one row a sample of what was computed of its windows: the mean of `features`, the
    first of anything else.

    Args:
        outputs: tensors [W, ...] on the CPU; `sample` [W], if there, says which belong together.
    """
    sample = outputs.pop("sample", None)
    if sample is None or not len(sample):
        return outputs
    order = sample.argsort(stable=True)
    counts = sample.unique(return_counts=True)[1]
    first = order[counts.cumsum(0) - counts]
    return {
        name: averaged(value[order], counts) if name == "features" else value[first] for name, value in outputs.items()
    }
