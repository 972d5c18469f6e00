"""`ssl-lightning neighbours`: the nearest of a file among embedded ones, and near-duplicates."""

from __future__ import annotations

import argparse
from itertools import chain
from pathlib import Path
from typing import Any

import torch

from ..evaluation.overview import shown_samples
from ..evaluation.plots.captioned import plot_captioned
from ..evaluation.use.neighbours import Pairs, alike, nearest_among
from ..evaluation.use.reader import Reader
from ..evaluation.use.rows import TEXT, check_picture, facts_of, read_rows, vectors_in
from ..run.checkpoints.encoder_file import digest_of
from .names import UsageError
from .rows import print_rows

Row = dict[str, Any]
SHEET = 24
"""Pairs, or queries, on a contact sheet."""


def main(options: argparse.Namespace) -> int:
    """Searches as the command line says; see `verbs`."""
    if (options.query is None) == (options.duplicates is None):
        raise UsageError("Give --query FILE, or --duplicates 0.95, which lists what is alike.")
    sheet = None if options.to is None else check_picture(Path(options.to).expanduser())
    table = read_rows(Path(options.among).expanduser())
    vectors = torch.from_numpy(vectors_in(table).copy())
    names = [{name: table[name][row].as_py() for name in ("path", "label", TEXT) if name in table.column_names}
             for row in range(len(table))]  # fmt: skip
    reader = Reader(options.run, device="cpu")
    written = facts_of(table.schema).get("weights")
    if written is not None and written != digest_of(reader.encoder):
        raise ValueError(
            f"{options.among!r} holds vectors of another encoder than that of {options.run!r}; embed the files anew:"
            f" ssl-lightning embed {options.run} DATA --out {options.among}."
        )
    if vectors.shape[1] != reader.dim:
        raise ValueError(
            f"{options.among!r} holds vectors of {vectors.shape[1]} values, the encoder's have {reader.dim}."
        )
    if options.duplicates is not None:
        pairs = alike(vectors, options.duplicates)
        _tell_pairs(pairs, names, options.json)
        if sheet is not None and len(pairs.places):
            few = pairs.places[:SHEET].tolist()
            marks = [[f"{value:.3f}", ""] for value in pairs.cosine[:SHEET].tolist()]
            shown = [[names[first], names[second]] for first, second in few]
            _draw(reader, shown, marks, "The most alike pairs, and their cosine", sheet)
        return 0
    items = [Path(query) if Path(query).expanduser().exists() else query for query in options.query]
    places, cosine = nearest_among(reader(items), vectors, options.count)
    rows: list[dict[str, Any]] = [
        {"query": query, "rank": rank, "cosine": float(value), **names[int(where)]}
        for query, found, values in zip(options.query, places, cosine, strict=True)
        for rank, (where, value) in enumerate(zip(found, values, strict=True), start=1)
    ]
    print_rows(rows, options.json)
    if sheet is not None:
        most = min(SHEET, len(items))
        shown = [[{"path": query}, *(names[number] for number in found.tolist())]
                 for query, found in zip(options.query[:most], places[:most], strict=True)]  # fmt: skip
        marks = [["query", *(f"{value:.3f}" for value in values.tolist())] for values in cosine[:most]]
        _draw(reader, shown, marks, "Nearest neighbours, and their cosine", sheet)
    return 0


def _tell_pairs(pairs: Pairs, names: list[dict[str, Any]], as_json: bool) -> None:
    rows = [
        {"cosine": float(value), "first": names[first]["path"], "second": names[second]["path"]}
        for (first, second), value in zip(pairs.places.tolist(), pairs.cosine.tolist(), strict=True)
    ]
    print_rows(rows, as_json)
    if not as_json:
        more = "There are more; these are the most alike of those found. Raise --duplicates." if pairs.more else ""
        print(f"{len(rows):,} pair{'s' * (len(rows) != 1)}. {more}".rstrip())


def _draw(reader: Reader, groups: list[list[Row]], marks: list[list[str]], title: str, sheet: Path) -> None:
    """Draws groups of samples, each on a line of its own, with what marks each."""
    rows, across = list(chain(*groups)), len(groups[0])
    captions = [
        f"{mark}  {row.get('label') or ''}\n{Path(row['path']).name}"
        for row, mark in zip(rows, chain(*marks), strict=True)
    ]
    plot_captioned(_shown(reader, rows), captions, title, sheet, across=across)


def _shown(reader: Reader, rows: list[Row]) -> list[Any]:
    """Samples as pictures or as lines, to draw: what they say, or what is in their files."""
    if any(row.get(TEXT) for row in rows):
        return [str(row.get(TEXT) or row["path"]) for row in rows]
    items = [Path(row["path"]) for row in rows]
    return list(shown_samples(reader.data, reader.data.take(items), torch.arange(len(items))))
