"""The files that `predict` writes: those of `ssl-lightning embed`."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import torch
from torch import Tensor

from ..data.sources import Source
from .use.rows import table_of, write_rows
from .use.samples import described

LISTED = 5
"""Samples that cannot be read, named in the line about them."""


def write_vectors(path: Path, vectors: dict[str, Tensor], source: Source | None, split: str, class_names: Any) -> str:
    """Writes the vectors in the order of their samples, with the samples' names and labels.

    Args:
        path: a parquet, npz or csv.
        vectors: `features` [N, D], `index` [N], and where there is a source `skipped` [N], 1 for a
            sample that cannot be read, which gets no row.
        source: the samples; None: those of a user's loaders, which have neither names nor labels.
        split: its name.
        class_names: of the labels; None or empty: they have none.

    Returns:
        Lines that say what was written.
    """
    order = vectors["index"].argsort()
    vectors = {name: value[order] for name, value in vectors.items()}
    unread = vectors.get("skipped", torch.zeros_like(vectors["index"])).bool()
    index, features = vectors["index"][~unread], vectors["features"][~unread]
    columns = {**described(source, split, index, class_names), "vector": features}
    write_rows(path, [table_of(columns, {"dim": features.shape[1]})], {"dim": features.shape[1]})
    lines = [f"{len(index):,} vectors of {features.shape[1]} values with their samples' names and labels: {path}"]
    if source is not None and len(few := vectors["index"][unread].tolist()):
        example = ", ".join(source.name(number) for number in few[:LISTED])
        some = "1 sample cannot be read, and has" if len(few) == 1 else f"{len(few):,} samples cannot be read, and have"
        lines.append(f"{some} no row: {example}{', ...' * (len(few) > LISTED)}")
    return "\n".join(lines)
