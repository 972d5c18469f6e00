"""The files that a run is judged on are read once before it, so that a broken one is not met when
the training has ended."""

from __future__ import annotations

import copy
import time
from collections.abc import Sequence
from typing import Any

from ..augment.random import permutation
from ..distributed import gather_objects, rank, world_size
from .files.skipped import file_source
from .files.source import FileSource, Unreadable, in_threads
from .loaders import Fetch
from .sources import Source

SECONDS = 60.0
"""Files that were not read in this time are met where they are needed."""
AT_ONCE = 64
MOST_NAMED = 50


def check_readable(data: Any, seconds: float = SECONDS) -> None:
    """Reads the files of each split of a datamodule, and of its probe sets, that the run does not
    train on, as the closing table will. Every process must call it, and reads its share.

    Where samples are skipped, those that cannot be read are skipped from now on.

    Args:
        data: a datamodule whose `serve` was called.
        seconds: how long this may take; the files that are read come from all over a split.

    Raises:
        Unreadable: files cannot be read, and none or not so many may be skipped; the message names
            all of them.
    """
    deadline = time.monotonic() + seconds
    judged = _judged(data)
    broken: dict[str, dict[int, str]] = {}
    checked = 0
    for title, (each, files) in judged.items():
        broken[title], count = _broken(each, files, deadline)
        checked += count
    parts = gather_objects((broken, checked))
    for title, (_, files) in judged.items():
        reasons = {number: reason for part, _ in parts for number, reason in part[title].items()}
        _refuse(title, files, dict(sorted(reasons.items())))
    checked, count = sum(part for _, part in parts), sum(len(files) for _, files in judged.values())
    if checked < count and rank() == 0:
        print(
            f"{checked:,} of the {count:,} files of {', '.join(judged)} were read before the run, in"
            f" {seconds:g} s; the others are when they are needed."
        )


def _judged(data: Any) -> dict[str, tuple[Any, FileSource]]:
    """The files that are judged on and not trained on, by the name of their split, with their
    datamodule."""
    trained = file_source(data.training_split)
    judged: dict[str, tuple[Any, FileSource]] = {}
    for name, each in {"": data, **data.probe_sets}.items():
        for split in ("test", "val", "train"):
            files = file_source(each.split(split))
            others = [trained, *(known for _, known in judged.values())]
            if files is not None and not files.in_memory and not any(files is other for other in others):
                judged[f"probe_sets.{name} {split}" if name else split] = each, files
    return judged


def reasons_of(data: Any, source: Source, numbers: Sequence[int]) -> list[str]:
    """The reasons why samples of a source cannot be read, empty for those that can.

    Args:
        data: the datamodule whose test transform takes them.
        source: the samples.
        numbers: which of them.
    """
    strict = copy.copy(source)
    if isinstance(strict, FileSource):
        strict.unreadable = "raise"
    fetch = Fetch(strict, data.clean_views().cut)

    def reason(number: int) -> str:
        try:
            fetch.__getitems__([number])
        except Unreadable as error:
            return str(error.__cause__ or error).rstrip(".")
        return ""

    return in_threads(reason, numbers)


def _broken(data: Any, files: FileSource, deadline: float) -> tuple[dict[int, str], int]:
    """The reasons why samples of this process's share cannot be read, by number, and how many were
    tried."""
    share, reasons = permutation(0, 0, len(files))[rank() :: world_size()], dict[int, str]()
    tried = 0
    for part in share.split(AT_ONCE):
        if time.monotonic() > deadline:
            break
        numbers = part.tolist()
        tried += len(numbers)
        found = zip(numbers, reasons_of(data, files, numbers), strict=True)
        reasons.update({number: why for number, why in found if why})
    return reasons, tried


def _refuse(title: str, files: FileSource, reasons: dict[int, str]) -> None:
    if files.unreadable == "skip" and len(reasons) <= files.allowed:
        files.add_skipped(list(reasons))
    elif reasons:
        named = list(reasons.values())[:MOST_NAMED]
        more = f"; and {len(reasons) - len(named):,} more" if len(reasons) > len(named) else ""
        limit = f", more than --data.max_unreadable allows ({files.allowed:,})" if files.unreadable == "skip" else ""
        remedy = "Remove them" + ("" if limit else f", or leave such {files.samples} out with --data.unreadable skip")
        raise files.error(
            f"{len(reasons):,} of the {len(files):,} {files.samples} of {title} cannot be read{limit}:"
            f" {'; '.join(named)}{more}. {remedy}."
        )
