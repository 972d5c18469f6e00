"""A data set, or a folder of files, to a file of vectors: in parts that a killed run keeps."""

from __future__ import annotations

import json
import shutil
import sys
from collections.abc import Callable, Iterator, Sequence
from dataclasses import asdict, dataclass
from itertools import chain
from pathlib import Path
from typing import Any, NamedTuple

import pyarrow as pa
import pyarrow.parquet as pq
import torch
from torch import Tensor
from torch.nn import functional as F

from ... import __version__
from ...data.datamodule import SSLDataModule
from ...data.files.atomic import atomic, remove, write_text
from ...data.files.skipped import skipped_among
from ...data.peek import evaluating, peek_each
from ...data.readable import reasons_of
from ...data.sources import Source
from ...data.views import full_precision
from ...encoders.base import Encoder, TokenEncoder
from ...nn.precision import cast
from ...run.checkpoints.encoder_file import digest_of
from ...types import View
from .rows import TEXT, check_suffix, table_of, write_rows
from .samples import described, skip_all
from .tokens import tokens_of

PART = 1024
"""Samples whose vectors are written together: what a kill loses at most."""
Show = Callable[[int, int], None]
"""Called with the samples done and all of them."""


@dataclass(frozen=True)
class Wanted:
    """What a file of vectors holds.

    Args:
        layers: whether also the vector of each layer, for encoders that give them.
        tokens: whether also that of each token behind the prefix: patch, frame, or token of a text.
        normalise: whether vectors have length 1.
        unreadable: `skip` leaves out samples that cannot be read, and lists them; `raise` stops at
            the first.
        batch_size: samples that are embedded at a time.
    """

    layers: bool = False
    tokens: bool = False
    normalise: bool = False
    unreadable: str = "skip"
    batch_size: int = 256


class Part(NamedTuple):
    """Some samples of a split, by their places in its source, in order."""

    number: int
    split: str
    places: Tensor


NONE_LEFT = Part(-1, "", torch.empty(0, dtype=torch.int64)), 0
"""In place of a part and the number of its last batch."""


class Embedded(NamedTuple):
    """What was written: the number of rows, the length of a vector, and why samples were left out,
    by name."""

    rows: int
    dim: int
    skipped: dict[str, str]


class Embedding:
    """The vectors of all samples of a data set.

    Args:
        encoder: in eval mode, on its device.
        data: the datamodule, whose test transform is used.
        sources: its samples, by split.
        wanted: what is computed.
        out: the file to write; parts of it are kept beside it until it is whole.
        facts: about the vectors, for the file: what the run was.
    """

    def __init__(
        self,
        encoder: Encoder,
        data: SSLDataModule,
        sources: dict[str, Source],
        wanted: Wanted,
        out: Path,
        facts: dict[str, Any],
    ) -> None:
        check_suffix(out)
        if wanted.tokens and not isinstance(encoder, TokenEncoder):
            raise ValueError(f"{type(encoder).__name__} gives one vector a sample, and no tokens; leave out --tokens.")
        if wanted.layers and type(encoder).layer_features is Encoder.layer_features:
            raise ValueError(f"{type(encoder).__name__} does not give the features of its layers; leave out --layers.")
        self.encoder, self.data, self.sources, self.wanted, self.out = encoder, data, sources, wanted, out
        self.facts = {
            **facts,
            "weights": digest_of(encoder),
            "dim": encoder.dim,
            "normalised": wanted.normalise,
            "ssl_lightning": __version__,
        }
        self.folder = out.with_name(f".{out.name}.parts")
        self.parts: list[Part] = []
        for split, source in sources.items():
            for index in torch.arange(len(source)).split(PART):
                self.parts.append(Part(len(self.parts), split, index))
        if wanted.unreadable == "skip":
            for source in sources.values():
                skip_all(source)

    def begin(self) -> int:
        """Makes ready the folder of the parts, and returns how many samples are in it from a run
        that was stopped; parts of other files, weights or settings are removed, which a line
        says."""
        self.out.parent.mkdir(parents=True, exist_ok=True)
        key = self.folder / "key.json"
        text = json.dumps({**self.facts, **asdict(self.wanted), "splits": self._splits()})
        if not key.is_file() or key.read_text(encoding="utf-8") != text:
            if key.is_file():
                print(
                    "What is left of an earlier start is of other files, weights or settings: starting anew.",
                    file=sys.stderr,
                )
            remove(self.folder)
            self.folder.mkdir(parents=True)
            write_text(key, text)
        return self.done

    @property
    def total(self) -> int:
        """Samples of all parts."""
        return sum(len(part.places) for part in self.parts)

    @property
    def done(self) -> int:
        """Samples of the parts that are there."""
        return sum(len(part.places) for part in self.parts if self._file(part).is_file())

    def compute(self, mine: Sequence[int], show: Show) -> None:
        """Computes the parts of these numbers that are missing."""
        missing = [self.parts[number] for number in mine if not self._file(self.parts[number]).is_file()]
        done, total = self.done, self.total
        for split, source in self.sources.items():
            for part, columns in self._vectors(source, [part for part in missing if part.split == split]):
                self._write(part, source, columns)
                done += len(part.places)
                show(done, total)

    def finish(self, change: Callable[[pa.Table], pa.Table] = lambda table: table) -> Embedded:
        """Joins the parts to the one file, and removes them.

        Args:
            change: makes of the rows of a part those that are written.
        """
        skipped: dict[str, str] = {}

        def tables() -> Iterator[pa.Table]:
            for part in self.parts:
                table = pq.read_table(self._file(part))
                skipped.update(json.loads(table.schema.metadata[b"skipped"]))
                if len(table):
                    yield change(table)

        every = tables()
        if (first := next(every, None)) is None:
            raise ValueError("None of the samples can be read, so that there are no vectors to write.")
        rows = write_rows(self.out, chain([first], every), self.facts)
        shutil.rmtree(self.folder, ignore_errors=True)
        return Embedded(rows, self.encoder.dim, skipped)

    def _file(self, part: Part) -> Path:
        return self.folder / f"{part.number:06}.parquet"

    def _splits(self) -> dict[str, list[Any]]:
        return {split: [len(source), source.fingerprint] for split, source in self.sources.items()}

    @torch.no_grad()
    def _vectors(self, source: Source, parts: Sequence[Part]) -> Iterator[tuple[Part, dict[str, Any]]]:
        """Yields the columns of vectors of each part, whose batches come from one loader."""
        windows = source.windows()
        whole = source if windows is None else windows.source
        draws: list[Tensor] = []
        ends: list[int] = []
        for part in parts:
            index = part.places if windows is None else windows.of(part.places)[0]
            draws += self.data.parts(whole, index, self.wanted.batch_size)
            ends.append(len(draws))
        device = next(self.encoder.parameters()).device
        left = iter(zip(parts, ends, strict=True))
        part, end = next(left, NONE_LEFT)
        columns: dict[str, list[Any]] = {}
        with evaluating(self.encoder), full_precision(device):
            batches = peek_each(self.data, whole, draws, device, self.data.clean_views())
            for number, batch in enumerate(batches, start=1):
                for name, values in self._of(batch["views"][0]).items():
                    columns.setdefault(name, []).extend(values)
                if number == end:
                    counts = None if windows is None else windows.of(part.places)[1]
                    yield part, {name: _of_samples(name, values, counts) for name, values in columns.items()}
                    columns, (part, end) = {}, next(left, NONE_LEFT)

    def _of(self, view: View) -> dict[str, Any]:
        """The vectors of a view's samples, on the CPU, by column."""
        view = cast(view, self.encoder)
        columns: dict[str, Any] = {"vector": self.encoder(view).float()}
        if self.wanted.layers:
            columns["layers"] = self.encoder.layer_features(view).float()
        if self.wanted.tokens and isinstance(self.encoder, TokenEncoder):
            columns["tokens"] = [each.float().cpu() for each in tokens_of(self.encoder, view)]
        words = self.data.in_words(view)
        if words and len(words) == len(columns["vector"]):
            columns[TEXT] = words
        return {name: value.cpu() if isinstance(value, Tensor) else value for name, value in columns.items()}

    def _write(self, part: Part, source: Source, columns: dict[str, Any]) -> None:
        broken = skipped_among(source, part.places)
        rows = described(source, part.split, part.places[~broken], self.data.class_names)
        for name, values in columns.items():
            if name == "vector":
                vectors = torch.stack(values)[~broken]
                rows[name] = F.normalize(vectors, dim=1) if self.wanted.normalise else vectors
            else:
                rows[name] = [each for each, bad in zip(values, broken.tolist(), strict=True) if not bad]
        table = table_of(rows, self.facts)
        numbers = part.places[broken].tolist()
        skipped = dict(zip(map(source.name, numbers), reasons_of(self.data, source, numbers), strict=True))
        table = table.replace_schema_metadata({**table.schema.metadata, b"skipped": json.dumps(skipped).encode()})
        with atomic(self._file(part)) as temporary:
            pq.write_table(table, temporary)


def _of_samples(name: str, values: list[Any], counts: Tensor | None) -> list[Any]:
    """One value a sample of those of its windows: their mean, or all tokens one after the other."""
    if counts is None:
        return values
    parts, first = [], 0
    for count in counts.tolist():
        part, first = values[first : first + count], first + count
        if name == TEXT:
            parts.append(part[0])
            continue
        parts.append(torch.cat(part) if name == "tokens" else torch.stack(part).mean(dim=0))
    return parts
