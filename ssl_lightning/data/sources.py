"""Sources of raw samples: whole batches by index, with labels where there are any."""

from __future__ import annotations

from abc import ABC, abstractmethod
from collections.abc import Sequence
from typing import TYPE_CHECKING, Any

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor, nn

from .groups import withhold_groups
from .ledger import LeftOut

if TYPE_CHECKING:
    from .windows import Windows

Integers = NDArray[np.int64]


class Source(ABC):
    """A source of samples, fetched by index.

    Attributes:
        labels: [N] int64, -1 for a sample without a class; or None.
        in_memory: whether fetching costs next to nothing, so that workers would only add cost.
        groups: [N] int64, equal for samples that are held out together; None: each is a group of
            its own.
        fingerprint: identifies the samples, where known: a run is not resumed on others.
        unit: what the data's ledger calls the samples and what was found with them.
        left_out: what was found with the samples and is none, by reason.
        remark: why there are no labels, where that may surprise.
    """

    labels: Tensor | None = None
    groups: Tensor | None = None
    in_memory: bool = False
    fingerprint: str | None = None
    unit: str = "samples"
    left_out: Sequence[LeftOut] = ()
    remark: str = ""

    @abstractmethod
    def __len__(self) -> int: ...

    @abstractmethod
    def fetch(self, index: Tensor) -> Any:
        """Fetches the raw samples `index` [S], in the form that the datamodule's transform takes
        (uint8 images [S, C, H, W], ...), or as `Uncut`."""

    def name(self, number: int) -> str:
        """Returns what a sample is called in messages and lists, such as its path."""
        return f"{self.unit.removesuffix('s')} {number}"

    def windows(self) -> Windows | None:
        """Returns the windows that cover each sample, where a view does not hold all of one; None:
        it does."""
        return None

    def to(self, device: torch.device) -> Source:
        """Returns the same samples on a device, where they are fetched by index; labels stay.

        Raises:
            ValueError: the samples are not in memory.
        """
        raise ValueError(
            f"{type(self).__name__} reads samples when they are needed: only data in memory can be kept on the device."
        )


class Uncut(ABC):
    """Fetched samples of varying size, opened and not yet read. The parts that the views take are
    cut to equal sizes where the samples were fetched, for all views at once, so that each sample is
    read once."""

    @abstractmethod
    def cut(self, transforms: Sequence[nn.Module], keys: Sequence[Tensor]) -> list[Any]:
        """Returns the input of each view's transform.

        Args:
            transforms: one for each view; a transform says in its own way what it takes.
            keys: [S] for each view, the keys that its transform will be called with.
        """


def labels_of(source: Source) -> Tensor:
    """Returns the labels [N] of a source.

    Raises:
        ValueError: the source has no labels.
    """
    if source.labels is None:
        raise ValueError(f"These {len(source):,} samples have no labels.")
    return source.labels


class InMemory(Source):
    """A source whose samples are one tensor [N, ...], with labels [N] or None.

    Raises:
        ValueError: the two differ in length.
    """

    in_memory = True

    def __init__(self, samples: Tensor, labels: Tensor | None = None) -> None:
        if labels is not None and len(labels) != len(samples):
            raise ValueError(f"There are {len(samples)} samples and {len(labels)} labels.")
        self.samples = samples
        self.labels = None if labels is None else labels.long()

    def __len__(self) -> int:
        return len(self.samples)

    def fetch(self, index: Tensor) -> Tensor:
        return self.samples[index]

    def to(self, device: torch.device) -> Source:
        return InMemory(self.samples.to(device), self.labels)


class Subset(Source):
    """A source of the samples `indices` [M] of another source."""

    def __init__(self, source: Source, indices: Tensor) -> None:
        self.source, self.indices = source, indices
        self.labels = None if source.labels is None else source.labels[indices.cpu()]
        self.groups = None if source.groups is None else source.groups[indices.cpu()]
        self.in_memory = source.in_memory
        self.fingerprint = source.fingerprint

    def __len__(self) -> int:
        return len(self.indices)

    def name(self, number: int) -> str:
        return self.source.name(int(self.indices[number]))

    def fetch(self, index: Tensor) -> Any:
        return self.source.fetch(self.indices[index])

    def windows(self) -> Windows | None:
        windows = self.source.windows()
        return None if windows is None else windows.only(self.indices.cpu())

    def to(self, device: torch.device) -> Source:
        return Subset(self.source.to(device), self.indices.to(device))


class Numbers(Source):
    """Stands for a source whose samples are kept on the device: it fetches their indices
    instead."""

    in_memory = True

    def __init__(self, source: Source) -> None:
        self.count, self.labels = len(source), source.labels

    def __len__(self) -> int:
        return self.count

    def fetch(self, index: Tensor) -> Tensor:
        return index


def labelled_part(source: Source | None) -> Source | None:
    """Returns the samples of a source that have a class, the source itself where all have one; None
    where none has."""
    if source is None or source.labels is None:
        return None
    labelled = source.labels >= 0
    if labelled.all():
        return source
    return Subset(source, labelled.nonzero()[:, 0]) if labelled.any() else None


def stratified_split(labels: Tensor, second: int, seed: int = 0) -> tuple[Tensor, Tensor]:
    """Splits samples into two parts, with each class in proportion, and returns their indices; the
    second part has `second` samples.

    Classes are filled by largest remainder, so that the counts are exact; the draw is fixed by
    `seed`.
    """
    generator = torch.Generator().manual_seed(seed)
    order = labels.argsort(stable=True)
    counts = labels.unique(return_counts=True)[1]
    shares = counts.double() * second / len(labels)
    take = shares.floor().long()
    take[(shares - take).argsort(descending=True, stable=True)[: second - int(take.sum())]] += 1
    chosen = torch.zeros(len(labels), dtype=torch.bool)
    for members, number in zip(order.split(counts.tolist()), take.tolist(), strict=True):
        chosen[members[torch.randperm(len(members), generator=generator)[:number]]] = True
    return (~chosen).nonzero()[:, 0], chosen.nonzero()[:, 0]


def stratified_sample(labels: Tensor, most: int | None) -> Tensor:
    """Returns the indices, sorted, of at most so many samples with each class in proportion, at
    least one of each; all where `most` is None or not smaller."""
    if most is None or len(labels) <= most:
        return torch.arange(len(labels))
    order = torch.randperm(len(labels), generator=torch.Generator().manual_seed(0))
    first = order[torch.from_numpy(np.unique(labels[order].numpy(), return_index=True)[1])]
    rest = torch.ones(len(labels), dtype=torch.bool).index_fill(0, first, False).nonzero()[:, 0]
    more = stratified_split(labels[rest], max(0, most - len(first)))[1]
    return torch.cat([first[:most], rest[more]]).sort().values


def holdout(labels: Tensor, groups: Tensor | None = None) -> tuple[Tensor, Tensor]:
    """Splits the labelled training samples of a data set without a validation split: returns the
    indices of those that live probes learn from, and of those held out to judge them (a seventh, at
    most 5,000). Samples of one group [N] are in one part."""
    second = min(5000, max(1, len(labels) // 7))
    if groups is not None:
        return withhold_groups(labels, groups, labels.bincount() * (second / len(labels)), seed=0)
    return stratified_split(labels, second)


def withhold_fifth(labels: Tensor, seed: int, groups: Tensor | None = None) -> tuple[Tensor, Tensor]:
    """Splits few labelled samples: returns the indices of those to learn from, and of those held
    out to judge: a fifth of each class, at least one of each that has two; the draw is fixed by
    `seed`. Samples of one group [N] are in one part."""
    if groups is not None:
        counts = labels.bincount()
        wanted = torch.where(counts > 1, (counts // 5).clamp(min=1), 0)
        return withhold_groups(labels, groups, wanted, seed)
    generator = torch.Generator().manual_seed(seed)
    withheld = torch.zeros(len(labels), dtype=torch.bool)
    for label in labels.unique():
        members = (labels == label).nonzero()[:, 0]
        number = max(1, len(members) // 5) if len(members) > 1 else 0
        withheld[members[torch.randperm(len(members), generator=generator)[:number]]] = True
    return (~withheld).nonzero()[:, 0], withheld.nonzero()[:, 0]


def labelled_draw(labels: Integers, per_class: int, seed: int, draw: int) -> Integers:
    """Draws the indices of `per_class` samples of each class (all of a smaller class), a function
    of the labels, seed and draw alone.

    So every row of a table, whatever its features, uses the same labels.
    """
    random = np.random.default_rng([seed, draw])
    return np.concatenate(
        [random.permutation(np.flatnonzero(labels == label))[:per_class] for label in np.unique(labels)]
    )
