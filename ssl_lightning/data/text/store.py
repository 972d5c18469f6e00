"""The tokens of a corpus in memory-mapped files: written once, and reused by the next run."""

from __future__ import annotations

import json
import os
import shutil
import zlib
from collections.abc import Iterator
from contextlib import ExitStack
from functools import cached_property
from hashlib import sha256
from itertools import chain
from pathlib import Path
from typing import Any

import numpy as np
import torch
from filelock import FileLock
from numpy.typing import NDArray
from pytorch_lightning.utilities import rank_zero_warn
from tokenizers import Tokenizer
from torch import Tensor

from ..files.atomic import beside, clear_abandoned, to_disk
from ..files.kept import default_folder, key_of, writing
from .documents import Corpus, Counts, Piece
from .judged import guarded
from .tokenizer import ready, vocabulary_of, without_special

VERSION = 1
AT_ONCE = 1 << 20
"""Characters that are tokenized at a time."""
BLOCK = 1 << 16
"""Tokens that are looked at together."""
MOST_CLASSES = 10_000
CHECKED = 1 << 30
"""Files of up to this many bytes are checked by checksum; larger ones by their size alone."""
LOCK = "text.lock"
"""Held while a finished store is moved to its path, so that no process removes one that another has
just moved there."""
META, PARTS = "meta.json", ("tokens", "offsets", "labels")


class Store:
    """The documents of a corpus as token ids, without special tokens.

    Args:
        folder: the folder of the files, which `open_store` writes.

    Attributes:
        tokens: [T] uint16 or uint32, all documents one after the other.
        offsets: [N + 1] int64, the index in `tokens` where each document begins.
        class_names: of the labels, sorted; empty where there are no labels.
        fingerprint: a hash of tokens, documents and labels.

    Raises:
        ValueError, OSError: the store is incomplete or damaged.
    """

    def __init__(self, folder: Path) -> None:
        self.folder = folder
        meta = json.loads((folder / META).read_text())
        if meta["version"] != VERSION:
            raise ValueError(f"{folder} has version {meta['version']}, not {VERSION}.")
        self.class_names: tuple[str, ...] = tuple(meta["class_names"])
        self.fingerprint: str = meta["fingerprint"]
        self.vocab_size: int = meta["vocab_size"]
        parts = {name: np.asarray(_mapped(folder / name, dtype, size)) for name, (dtype, size) in meta["parts"].items()}
        for name, checksum in meta["checksums"].items():
            if parts[name].nbytes <= CHECKED and zlib.crc32(parts[name].data) != checksum:
                raise ValueError(f"{folder / name} is damaged.")
        self.tokens, self.offsets, self._labels = (parts[name] for name in PARTS)

    def __len__(self) -> int:
        return len(self.offsets) - 1

    def __reduce__(self) -> tuple[Any, ...]:
        return Store, (self.folder,)

    @property
    def labels(self) -> Tensor | None:
        """[N] int64, the index of each document's class in `class_names`; None where there are no
        labels."""
        return torch.from_numpy(self._labels.astype(np.int64)) if self.class_names else None

    @cached_property
    def longest(self) -> int:
        """The number of tokens in the longest document."""
        return int(np.diff(self.offsets).max())

    def share_of(self, token: int) -> float:
        """Returns the share of a token among the store's tokens, or among those of evenly spaced
        blocks, where there are more than 4 million."""
        blocks = min(64, -(-len(self.tokens) // BLOCK))
        starts = np.linspace(0, max(0, len(self.tokens) - BLOCK), blocks).astype(np.int64).tolist()
        parts = [self.tokens] if len(self.tokens) <= 64 * BLOCK else [self.tokens[at : at + BLOCK] for at in starts]
        return sum(int(np.count_nonzero(part == token)) for part in parts) / max(1, sum(map(len, parts)))

    def document_frequency(self, most: int = 100_000) -> tuple[Tensor, int]:
        """Returns [V] the number of documents in which each token occurs, and the number of
        documents counted: at most `most`, evenly spaced."""
        chosen = np.linspace(0, len(self) - 1, min(most, len(self))).astype(np.int64)
        frequency = np.zeros(self.vocab_size, np.int64)
        for document in chosen.tolist():
            frequency[np.unique(self.tokens[self.offsets[document] : self.offsets[document + 1]])] += 1
        return torch.from_numpy(frequency), len(chosen)


def open_store(corpus: Corpus, tokenizer: Tokenizer) -> Store:
    """Opens the store of a corpus and a tokenizer in the cache folder, and writes it first if need
    be.

    It is written into a folder of its own, which is renamed once complete: if several processes
    write it, the first one's is kept.

    Raises:
        OSError: a file, or the cache folder, cannot be read or written.
        ValueError: there is no text, a file is malformed, or a file changed while it was read.
    """
    identity = corpus.identity()
    path = default_folder() / f"text-{key_of(VERSION, identity, tokenizer.to_str())}"
    if (store := _existing(path)) is not None:
        return store
    with writing(path.parent):
        path.parent.mkdir(parents=True, exist_ok=True)
        clear_abandoned(path)
        unfinished = beside(path)
        unfinished.mkdir()
    try:
        counts = Counts()
        _write(unfinished, corpus, tokenizer, counts)
        if corpus.identity() != identity:
            raise ValueError(f"{corpus.name} changed while it was read. Start again.")
        with writing(path.parent):
            to_disk(unfinished)
        with writing(path.parent), FileLock(path.parent / LOCK):
            _move(unfinished, path)
    finally:
        shutil.rmtree(unfinished, ignore_errors=True)
    if said := counts.sentence():
        rank_zero_warn(f"{corpus.name}: {said}.")
    return Store(path)


class _Labels:
    """Numbers labels in the order in which they occur."""

    def __init__(self, name: str) -> None:
        self.name, self.numbers = name, dict[str, int]()

    def number(self, label: str) -> int:
        number = self.numbers.setdefault(label, len(self.numbers))
        if number == MOST_CLASSES:
            raise ValueError(
                f"{self.name}: the labels have more than {MOST_CLASSES:,} values, {label!r} among them. Is it another"
                " column?"
            )
        return number

    def order(self) -> tuple[list[str], NDArray[np.int32]]:
        """Returns the names sorted, integers by value, and the index of each number among them;
        that of documents without a class is empty, and the last."""
        whole = all(name.lstrip("-").isdecimal() for name in self.numbers if name)
        names = sorted(self.numbers, key=lambda name: (not name, int(name or 0) if whole else 0, name))
        indices = np.zeros(len(names), np.int32)
        indices[[self.numbers[name] for name in names]] = np.arange(len(names), dtype=np.int32)
        return names, indices


class _Parts:
    """The files of a store while it is written; closed when the context ends."""

    def __init__(self, folder: Path) -> None:
        self.folder, self.stack = folder, ExitStack()

    def __enter__(self) -> _Parts:
        with writing(self.folder.parent):
            self.files = {name: self.stack.enter_context((self.folder / name).open("wb")) for name in PARTS}
        return self

    def __exit__(self, *error: Any) -> None:
        with writing(self.folder.parent):  # what is still buffered
            self.stack.close()

    def write(self, name: str, dtype: str, values: Any) -> None:
        with writing(self.folder.parent):
            self.files[name].write(np.asarray(values, dtype).tobytes())


def _write(folder: Path, corpus: Corpus, tokenizer: Tokenizer, counts: Counts) -> None:
    """Writes a store, in bounded memory."""
    tokenizer, allowed = ready(tokenizer), without_special(tokenizer).numpy()
    size = len(vocabulary_of(tokenizer))
    dtype = np.dtype("<u2" if size <= 1 << 16 else "<u4")
    allowed = allowed.astype(dtype)
    labels = _Labels(corpus.name)
    ends = label = 0  # end of the tokens so far, and the label of the open document
    opened, first = 0, True  # where the open document began, and whether it is the first
    with _Parts(folder) as parts:
        parts.write("offsets", "<i8", [0])
        for batch in _batches(corpus.read(counts)):
            texts = [piece.text for piece in batch]
            ids = [each.ids for each in guarded(tokenizer.encode_batch_fast, texts, add_special_tokens=False)]
            tokens = allowed[np.fromiter(chain.from_iterable(ids), np.int64, sum(map(len, ids)))]
            offsets, numbers = [], []
            for piece, some in zip(batch, ids, strict=True):
                if piece.begins:
                    if ends > opened:
                        offsets.append(ends)
                        numbers.append(label)
                    counts.empty += ends == opened and not first
                    opened, first = ends, False
                    label = labels.number(piece.label) if piece.label is not None else 0
                ends += len(some)
            parts.write("tokens", dtype.str, tokens)
            parts.write("offsets", "<i8", offsets)
            parts.write("labels", "<i4", numbers)
        if ends > opened:
            parts.write("offsets", "<i8", [ends])
            parts.write("labels", "<i4", [label])
        counts.empty += ends == opened and not first
    if not ends:
        raise ValueError(f"{corpus.name} does not contain any text.")
    _finish(folder, labels, {"tokens": dtype.str, "offsets": "<i8", "labels": "<i4"}, size)


def _finish(folder: Path, labels: _Labels, dtypes: dict[str, str], vocab_size: int) -> None:
    """Numbers the classes in sorted order, and writes what is needed to read the store."""
    names, indices = labels.order()
    if names:
        with writing(folder):
            stored = np.memmap(folder / "labels", "<i4", "r+")
            for start in range(0, len(stored), AT_ONCE):
                stored[start : start + AT_ONCE] = indices[stored[start : start + AT_ONCE]]
            stored.flush()
    parts = {
        name: [dtype, (folder / name).stat().st_size // np.dtype(dtype).itemsize] for name, dtype in dtypes.items()
    }
    digest, checksums = sha256(), {}
    for name in PARTS:
        checksums[name] = 0
        with (folder / name).open("rb") as file:
            while block := file.read(AT_ONCE):
                checksums[name] = zlib.crc32(block, checksums[name])
                digest.update(block)
    digest.update(json.dumps([names, parts]).encode())
    meta = {"version": VERSION, "vocab_size": vocab_size, "class_names": names, "parts": parts, "checksums": checksums}
    with writing(folder):
        (folder / META).write_text(json.dumps({**meta, "fingerprint": digest.hexdigest()[:32]}))


def _batches(read: Iterator[Piece]) -> Iterator[list[Piece]]:
    batch: list[Piece] = []
    size = 0
    for piece in read:
        batch.append(piece)
        size += len(piece.text)
        if size >= AT_ONCE:
            yield batch
            batch, size = [], 0
    if batch:
        yield batch


def _mapped(path: Path, dtype: str, size: int) -> NDArray[Any]:
    if path.stat().st_size != size * np.dtype(dtype).itemsize:
        raise ValueError(f"{path} is damaged.")
    return np.memmap(path, dtype, "r") if size else np.empty(0, dtype)


def _existing(path: Path) -> Store | None:
    try:
        return Store(path)
    except (OSError, ValueError, KeyError, TypeError):
        return None


def _move(unfinished: Path, path: Path) -> None:
    """Moves a finished store to its path, unless a complete one is already there."""
    while _existing(path) is None:
        try:
            os.rename(unfinished, path)
        except OSError:
            if not path.exists():
                raise
            damaged = beside(path)
            os.rename(path, damaged)
            shutil.rmtree(damaged, ignore_errors=True)
