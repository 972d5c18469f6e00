"""The targets of single tokens: masks, tags and intervals of time."""

from __future__ import annotations

from pathlib import Path
from typing import NamedTuple

import torch

from ...data.datamodule import SSLDataModule
from ...data.peek import sample
from ...encoders.base import SequenceEncoder, TokenEncoder
from ...plugins.messages import printable
from ..rows import positions, whole
from .base import Target
from .intervals import Intervals, read_intervals
from .parts import Part, Places, Task, digest_of_parts, splits_of
from .targets import LISTED


class TokenFiles(NamedTuple):
    """The files of targets, by the options that name them; None: they are not given."""

    masks: Path | None = None
    tags: Path | None = None
    tags_test: Path | None = None
    frames: Path | None = None


def token_task(data: SSLDataModule, kind: Target, files: TokenFiles, most: tuple[int, int]) -> Task:
    """The samples of a data set, or of a file, whose tokens have targets.

    Args:
        data: the datamodule.
        kind: `masks`, `tags` or `frames`.
        files: of the targets.
        most: samples to learn from, and to judge on; of more, some are drawn.

    Raises:
        OSError, ValueError: the files are not as they should be, or do not fit the data.
    """
    if kind == "masks" and files.masks is not None:
        return _of_masks(data, files.masks, most)
    if kind == "tags" and files.tags is not None and files.tags_test is not None:
        parts = data.tagged(files.tags, files.tags_test, most)
        train, judged = (Part(part.source, torch.arange(len(part.source)), part) for part in parts)
        hashed = [Part(part.source, part.index, [*part.target.places, *part.target.tags]) for part in (train, judged)]
        remarks = tuple(dict.fromkeys(line for part in parts for line in part.remarks))
        return Task(train, judged, "tags-test", parts[0].names, digest_of_parts(data, hashed, parts[0].names), remarks)
    if kind == "frames" and files.frames is not None:
        return _of_intervals(data, read_intervals(files.frames), most)
    raise ValueError(f"There are no targets of the kind {kind!r}; give them with --{kind}.")


def check_tokens(kind: Target | None, encoder: TokenEncoder) -> None:
    """Raises ValueError where the tokens of an encoder are not such as a kind of target needs."""
    if kind == "masks" and type(encoder).grid is TokenEncoder.grid:
        raise ValueError(f"The tokens of {type(encoder).__name__} have no rows and columns, which --masks needs.")
    if kind == "frames" and (not isinstance(encoder, SequenceEncoder) or encoder.step is None):
        raise ValueError(
            f"The tokens of {type(encoder).__name__} have no time, which --frames needs; give an encoder whose tokens"
            " follow time."
        )


def _of_masks(data: SSLDataModule, folder: Path, most: tuple[int, int]) -> Task:
    parts = []
    splits = splits_of(data)
    for (_, source), limit in zip(splits, most, strict=True):
        index = positions(source, sample(len(source), limit))
        parts.append(Part(whole(source), index, data.masks_of(whole(source), index, folder)))
    train, judged = parts
    return Task(train, judged, splits[1][0], (), digest_of_parts(data, parts))


def _of_intervals(data: SSLDataModule, given: Intervals, most: tuple[int, int]) -> Task:
    place, known = Places(given), set()
    parts, remarks = [], []
    splits = splits_of(data)
    for (name, source), limit in zip(splits, most, strict=True):
        lines = place.lines_of(data, name, source)
        there = [number for number, line in enumerate(lines) if line is not None]
        known |= {line for line in lines if line is not None}
        if not there:
            raise ValueError(
                f"--frames {printable(given.path)} names none of the {len(source):,} {name} samples, which are called"
                f" {printable(source.name(0))!r}, ...; name them by that path or its end."
            )
        if absent := len(source) - len(there):
            remarks.append(f"{absent:,} of {len(source):,} {name} samples have no intervals and are left out.")
        kept = torch.tensor(there)[sample(len(there), limit)]
        spans = [given.spans[lines[number] or 0] for number in kept.tolist()]
        parts.append(Part(whole(source), positions(source, kept), spans))
    if unknown := [key for number, key in enumerate(given.keys) if number not in known]:
        shown = ", ".join(map(printable, unknown[:LISTED])) + ", ..." * (len(unknown) > LISTED)
        remarks.append(f"{len(unknown):,} of {len(given.keys):,} paths name no sample of these splits: {shown}.")
    train, judged = parts
    return Task(train, judged, splits[1][0], given.names, digest_of_parts(data, parts, given.names), tuple(remarks))
