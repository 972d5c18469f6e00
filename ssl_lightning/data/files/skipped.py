"""Samples that were skipped because they cannot be read, counted over all processes of a run."""

from __future__ import annotations

from collections.abc import Iterable, Mapping, Sequence
from itertools import chain
from pathlib import Path
from typing import NamedTuple

import torch
from torch import Tensor

from ...distributed import gather_objects, rank
from ..sources import Source, Subset
from .atomic import write_text
from .source import FileSource
from .unwritable import Unwritable


class Skipped(NamedTuple):
    """What one process skipped of one source.

    Args:
        key: of the source, the same in every process.
        samples: what messages call its samples.
        names: of those that were skipped, by number.
    """

    key: str
    samples: str
    names: dict[int, str]


def count_skipped(sources: Mapping[str, Source | None]) -> None:
    """Adds what other processes skipped to what this one did, so that `max_unreadable` holds for
    all of them together. Every process must call it.

    Args:
        sources: by a key that is the same in every process.

    Raises:
        Unreadable: together they skipped too many.
    """
    _add(sources, _gathered(sources))


def report_skipped(sources: Mapping[str, Source | None], folder: Path | None) -> None:
    """Says which samples were skipped by any process, the first of them by name, and lists all in
    a file of the run folder; nothing where none was. Every process must call it.

    Raises:
        Unreadable: together they skipped too many.
    """
    everything = _gathered(sources)
    if rank() == 0:
        _tell(everything, folder)
    _add(sources, everything)


def _tell(everything: Sequence[Skipped], folder: Path | None) -> None:
    names = {
        samples: sorted({name for part in everything if part.samples == samples for name in part.names.values()})
        for samples in sorted({part.samples for part in everything if part.names})
    }
    where = ""
    if folder is not None and names:
        path = folder / "unreadable.txt"
        before = path.read_text("utf-8").splitlines() if path.exists() else []  # of a run that this one goes on with
        try:
            write_text(path, "\n".join(sorted({*before, *chain.from_iterable(names.values())})) + "\n")
            where = f" All are listed in {path}."
        except Unwritable as error:  # the run has ended: nothing is lost but the list
            where = f" {error}"
    for samples, part in names.items():
        print(
            f"Unreadable {samples}, in whose place others were taken: {len(part)}"
            f" ({', '.join(part[:3])}{', ...' * (len(part) > 3)}).{where}"
        )


def _gathered(sources: Mapping[str, Source | None]) -> list[Skipped]:
    mine = [Skipped(key, source.samples, source.skipped_names) for key, source in _files(sources).items()]
    return [part for process in gather_objects(mine) for part in process]


def _add(sources: Mapping[str, Source | None], everything: Iterable[Skipped]) -> None:
    files = _files(sources)
    for part in everything:
        if part.key in files:
            files[part.key].add_skipped(list(part.names))


def _files(sources: Mapping[str, Source | None]) -> dict[str, FileSource]:
    files = {key: file_source(source) for key, source in sources.items()}
    return {key: source for key, source in files.items() if source is not None}


def skipped_among(source: Source, index: Tensor) -> Tensor:
    """Returns which of the samples `index` [S] of a source were skipped, bool [S]."""
    while isinstance(source, Subset):
        index = source.indices[index]
        source = source.source
    return source.skipped[index] if isinstance(source, FileSource) else torch.zeros(len(index), dtype=torch.bool)


def file_source(source: Source | None) -> FileSource | None:
    """The source itself, or the one that it is a part of, where samples are in files."""
    while isinstance(source, Subset):
        source = source.source
    return source if isinstance(source, FileSource) else None
