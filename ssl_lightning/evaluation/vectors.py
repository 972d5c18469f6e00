"""The files that `predict` writes: a vector for each sample, and which sample each belongs to."""

from __future__ import annotations

import csv
import math
from pathlib import Path
from typing import Any

import torch
from safetensors.torch import save_file
from torch import Tensor

from ..data.files.atomic import atomic
from ..data.sources import Source

LISTED = 5
"""Samples that cannot be read, named in the line about them."""


def write_vectors(path: Path, vectors: dict[str, Tensor], source: Source | None, class_names: Any) -> str:
    """Writes the vectors in the order of their samples, with the samples' labels, to a safetensors
    file, and the samples' names to a csv beside it.

    Args:
        path: of the safetensors file.
        vectors: `features` [N, D], `index` [N], and where there is a source `skipped` [N], 1 for a
            sample that cannot be read, whose vector is another one's: it becomes NaN.
        source: the samples; None: those of a user's loaders, which have neither names nor labels.
        class_names: of the labels; None or empty: they have none.

    Returns:
        Lines that say what was written.
    """
    order = vectors["index"].argsort()
    vectors = {name: value[order].contiguous() for name, value in vectors.items()}
    index = vectors["index"]
    if source is not None and source.labels is not None:
        vectors["label"] = source.labels[index]
    unread = vectors.pop("skipped", torch.zeros_like(index)).bool()
    vectors["features"][unread] = math.nan
    with atomic(path) as temporary:
        save_file(vectors, temporary)
    lines = [f"{len(index):,} vectors of {vectors['features'].shape[1]} values with their index: {path}"]
    if source is not None:
        names = path.with_suffix(".csv")
        labels = vectors["label"].tolist() if "label" in vectors else [-1] * len(index)
        with atomic(names) as temporary, temporary.open("w", encoding="utf-8", newline="") as file:
            rows = csv.writer(file)
            rows.writerow(("index", "name", "label", "read"))
            for number, label, missing in zip(index.tolist(), labels, unread.tolist(), strict=True):
                word = "" if label < 0 else class_names[label] if class_names else label
                rows.writerow((number, source.name(number), word, "no" if missing else "yes"))
        lines.append(f"Their names and labels: {names}")
        if len(few := index[unread].tolist()):
            example = ", ".join(source.name(number) for number in few[:LISTED])
            lines.append(
                f"{len(few):,} of them cannot be read, and their vectors are NaN: {example}"
                f"{', ...' * (len(few) > LISTED)}"
            )
    return "\n".join(lines)
