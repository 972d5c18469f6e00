"""Exact search among vectors, by the cosine: the nearest of some, and all pairs that are alike."""

from __future__ import annotations

from importlib.util import find_spec
from typing import Any, NamedTuple

import numpy as np
import torch
from torch import Tensor
from torch.nn import functional as F

CHUNK = 1 << 16
"""Vectors that are compared at a time."""
ROWS = 256
"""Of these, those that are compared with all at a time, for pairs."""
MOST_PAIRS = 100_000


class Pairs(NamedTuple):
    """Pairs of vectors that are alike, the most alike first: places [P, 2], cosine [P], and whether
    there are more than were kept."""

    places: Tensor
    cosine: Tensor
    more: bool


def nearest_among(queries: Tensor, vectors: Tensor, count: int) -> tuple[Tensor, Tensor]:
    """Finds the nearest vectors of some others, by faiss where it is installed.

    Args:
        queries: [Q, D].
        vectors: [N, D].
        count: K, of neighbours, at most N.

    Returns:
        Indices [Q, K], the nearest first, and cosines [Q, K].
    """
    queries, count = F.normalize(queries.float(), dim=1), min(count, len(vectors))
    if find_spec("faiss") is not None:
        return _by_faiss(queries, vectors, count)
    best = torch.full((len(queries), 0), 0.0)
    where = torch.full((len(queries), 0), 0, dtype=torch.int64)
    for number, part in enumerate(vectors.split(CHUNK)):
        cosine = torch.cat([best, queries @ F.normalize(part.float(), dim=1).T], dim=1)
        here = torch.arange(len(part)).expand(len(queries), -1) + number * CHUNK
        best, order = cosine.topk(min(count, cosine.shape[1]), dim=1)
        where = torch.cat([where, here], dim=1).gather(1, order)
    return where, best


def _by_faiss(queries: Tensor, vectors: Tensor, count: int) -> tuple[Tensor, Tensor]:
    """The same as `nearest_among`, of normalised queries; exact too."""
    import faiss

    index: Any = faiss.IndexFlatIP(vectors.shape[1])
    for part in vectors.split(CHUNK):
        index.add(np.ascontiguousarray(F.normalize(part.float(), dim=1).numpy()))
    cosine, position = index.search(np.ascontiguousarray(queries.numpy()), count)
    return torch.from_numpy(position), torch.from_numpy(cosine)


def alike(vectors: Tensor, least: float, most: int = MOST_PAIRS) -> Pairs:
    """Finds all pairs of vectors whose cosine is at least `least`.

    Args:
        vectors: [N, D].
        least: in [-1, 1].
        most: pairs that are kept, the most alike of those found up to then.
    """
    z = F.normalize(vectors.float(), dim=1)
    index, cosine, more = torch.zeros(0, 2, dtype=torch.int64), torch.zeros(0), False
    for start in range(0, len(z), ROWS):
        rows = z[start : start + ROWS]
        for first in range(start - start % CHUNK, len(z), CHUNK):
            similarity = rows @ z[first : first + CHUNK].T
            row, column = (similarity >= least).nonzero(as_tuple=True)
            values = similarity[row, column]
            pair = torch.stack([row + start, column + first], dim=1)
            kept = pair[:, 0] < pair[:, 1]
            index, cosine = torch.cat([index, pair[kept]]), torch.cat([cosine, values[kept]])
            if len(cosine) > most:  # at once: of a collapsed encoder's vectors all pairs are alike
                more = True
                cosine, order = cosine.topk(most)
                index = index[order]
    order = cosine.argsort(descending=True, stable=True)
    return Pairs(index[order], cosine[order], more)
