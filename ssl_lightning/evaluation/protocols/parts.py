"""The samples that a protocol learns from and those that it is judged on, with their targets."""

from __future__ import annotations

import hashlib
from collections.abc import Iterable, Sequence
from contextlib import suppress
from dataclasses import dataclass
from pathlib import Path
from typing import Any, NamedTuple

import torch
from torch import Tensor, nn

from ...data.datamodule import SSLDataModule
from ...data.peek import sample
from ...data.sources import Source, Subset, labels_of, stratified_sample, withhold_fifth
from ...plugins.messages import printable
from ...plugins.record import class_path
from ..features import closing_splits
from ..protocol import check_labels
from ..rows import positions, whole
from .base import Target
from .intervals import Intervals
from .stamp import DIGITS
from .targets import LISTED, Key, Targets

HASHED = 16
"""Samples in memory of which a hash is taken, where nothing else identifies them."""
LONGEST = 16
"""Values of a buffer that a stamp shows; of a larger one it has the hash."""


@dataclass(frozen=True, eq=False)
class Part:
    """Samples by their positions [M] in a source, and their targets [M, ...]."""

    source: Source
    index: Tensor
    target: Any


class Task(NamedTuple):
    """Samples to learn from and to judge on, the name of the latter's split, the names of the
    classes, labels or columns, a hash of all of it, and lines on what was left out."""

    train: Part
    judged: Part
    split: str
    names: tuple[str, ...]
    digest: str
    remarks: tuple[str, ...] = ()


def task_of(data: SSLDataModule, kind: Target | None, targets: Targets | None, most: tuple[int, int]) -> Task:
    """The samples of a data set that have a kind of target.

    Args:
        data: the datamodule.
        kind: of target; of classes, the data's own labels serve, of others those of a file. None:
            all samples.
        targets: of a file.
        most: samples to learn from, and to judge on; of more, a part is taken, with each class in
            proportion.

    Raises:
        ValueError: there are no such samples.
    """
    if kind == "classes":
        return _of_classes(data, most)
    if kind not in ("values", "multilabel") or targets is None:
        raise ValueError(f"There are no targets of the kind {kind!r}.")
    return _of_file(data, kind, targets, most)


def _of_classes(data: SSLDataModule, most: tuple[int, int]) -> Task:
    *sources, split = closing_splits(data)
    parts = []
    for source, limit in zip(sources, most, strict=True):
        index = stratified_sample(labels_of(source), limit)
        parts.append(Part(whole(source), positions(source, index), labels_of(source)[index]))
    train, judged = parts
    check_labels(train.target, judged.target, split)
    return Task(train, judged, split, tuple(data.class_names or ()), digest_of_parts(data, parts))


def _of_file(data: SSLDataModule, kind: Target, targets: Targets, most: tuple[int, int]) -> Task:
    splits = splits_of(data)
    rows: list[Any] = targets.values if kind == "values" else targets.given
    names = targets.columns if kind == "values" else targets.labels
    place, known = Places(targets), set()
    parts, remarks = [], []
    for (name, source), limit in zip(splits, most, strict=True):
        line = place.lines_of(data, name, source)
        known |= {each for each in line if each is not None}
        there = [number for number, each in enumerate(line) if each is not None and rows[each] is not None]
        if absent := len(source) - len(there):
            lacking = [source.name(number) for number in sorted(set(range(len(source))) - set(there))[:LISTED]]
            remarks.append(
                f"{absent:,} of {len(source):,} {name} samples have no target and are left out:"
                f" {', '.join(map(printable, lacking))}{', ...' * (absent > LISTED)}."
            )
        if not there:
            raise ValueError(
                f"--targets {printable(targets.path)} names none of the {len(source):,} {name} samples, which are"
                f" called {printable(source.name(0))!r}, ...; name them by that path or its end, or by split and index."
            )
        kept = torch.tensor(there)[sample(len(there), limit)]
        chosen = [rows[line[number] or 0] for number in kept.tolist()]
        parts.append(Part(whole(source), positions(source, kept), _tensor(kind, chosen, len(names))))
    if unknown := [key for number, key in enumerate(targets.keys) if number not in known]:
        shown = ", ".join(printable(str(each)) for each in unknown[:LISTED]) + ", ..." * (len(unknown) > LISTED)
        remarks.append(f"{len(unknown):,} of {len(targets.keys):,} lines name no sample of these splits: {shown}.")
    train, judged = parts
    return Task(train, judged, splits[1][0], names, digest_of_parts(data, parts, names), tuple(remarks))


def splits_of(data: SSLDataModule) -> tuple[tuple[str, Source], tuple[str, Source]]:
    """The names and the samples of the splits to learn from and to judge on, where targets are not
    the data's classes: `test`, or `val`; of data that has neither, a fifth of the training samples
    is withheld to judge on.

    Raises:
        ValueError: there is a single sample.
    """
    train = data.split("train")
    assert train is not None
    test, val = data.split("test"), data.held_out
    if test is not None:
        return ("train", train), ("test", test)
    if val is not None:
        return ("train", train), ("val", val)
    rest, withheld = withhold_fifth(torch.zeros(len(train), dtype=torch.int64), 0, train.groups)
    if not len(withheld):
        raise ValueError(
            f"{type(data).__name__} has a single sample or group, and no test split; give others to judge on."
        )
    return ("train", Subset(train, rest)), ("withheld", Subset(train, withheld))


class Places:
    """The lines of a file of targets by the samples that they name: by path, as it is called or by
    the end of it, or by split and index."""

    def __init__(self, targets: Targets | Intervals) -> None:
        self.lines: dict[Key, int] = {key: line for line, key in enumerate(targets.keys)}
        self.folder = targets.path.parent
        self.lengths = sorted({len(Path(key).parts) for key in targets.keys if isinstance(key, str)}, reverse=True)
        self.ends: dict[tuple[str, ...], int] = {
            Path(key).parts: line for line, key in enumerate(targets.keys) if isinstance(key, str)
        }
        self.full = {str((self.folder / key).resolve()): line for line, key in enumerate(targets.keys)
                     if isinstance(key, str)}  # fmt: skip

    def lines_of(self, data: SSLDataModule, split: str, source: Source) -> list[int | None]:
        """The line of each sample of a split that `splits_of` gave; None where there is none."""
        index = torch.arange(len(source))
        if isinstance(source, Subset) and source.source is data.split("train"):  # withheld, and the rest
            split, index = "train", source.indices
        return [self.of(split, each, source.name(number)) for number, each in enumerate(index.tolist())]

    def of(self, split: str, index: int, name: str) -> int | None:
        """The line of a sample; None where there is none."""
        for key in ((split, index), name):
            if key in self.lines:
                return self.lines[key]
        if not self.ends:
            return None
        parts = Path(name).parts
        if (line := self.full.get(name)) is not None:
            return line
        return next((self.ends[parts[-count:]] for count in self.lengths if parts[-count:] in self.ends), None)


def _tensor(kind: Target, rows: Sequence[Any], columns: int) -> Tensor:
    if kind == "values":
        return torch.tensor(rows, dtype=torch.float64)
    labels = torch.zeros(len(rows), columns, dtype=torch.bool)
    for number, row in enumerate(rows):
        labels[number, row] = True
    return labels


def digest_of_parts(data: SSLDataModule, parts: Iterable[Part], names: Sequence[str] = ()) -> str:
    """A short hash of which samples are used, in which order, and with which targets, wherever the
    data lies."""
    content = hashlib.sha256(f"{class_path(type(data))} {list(names)}".encode())
    for part in parts:
        content.update(f" {part.source.fingerprint} {len(part.source)} {len(part.index)} ".encode())
        content.update(part.index.numpy().tobytes())
        if part.source.fingerprint is None and part.source.in_memory and len(part.index):
            with suppress(OSError, ValueError, RuntimeError):  # told where features of it are computed
                raw = part.source.fetch(part.index[:HASHED])
                content.update(raw.cpu().contiguous().numpy().tobytes() if isinstance(raw, Tensor) else b"")
        for each in [part.target] if isinstance(part.target, Tensor) else part.target or ():
            content.update(each.contiguous().numpy().tobytes())
    return content.hexdigest()[:DIGITS]


def described(transform: nn.Module) -> dict[str, Any]:
    """A transform as plain values: its class, its public attributes and buffers, and its parts."""
    plain = (bool, int, float, str, type(None))
    public = {name: value for name, value in vars(transform).items() if name[0] != "_" and name != "training"}
    values: dict[str, Any] = {"class": type(transform).__name__}
    for name, value in sorted(public.items()):
        if isinstance(value, plain):
            values[name] = value
        elif isinstance(value, (list, tuple)) and all(isinstance(each, plain) for each in value):
            values[name] = list(value)
    for name, buffer in transform.named_buffers(recurse=False):
        few = buffer.numel() <= LONGEST
        values[name] = buffer.flatten().tolist() if few else hashlib.sha256(buffer.cpu().numpy().tobytes()).hexdigest()
    children = list(transform.named_children())
    return values | {name: described(child) for name, child in children}
