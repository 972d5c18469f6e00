"""Retrieval: are the nearest samples of a query of its class?

Notation for shapes: M samples of the gallery, Q queries, D features.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any, ClassVar

import torch
from torch import Tensor
from torch.nn import functional as F

from ..protocol import checked
from .base import Judgement, Needs, Protocol, Samples, mean_of, score

SIMILARITIES_AT_ONCE = 2**22
"""Most similarities held in memory at a time (16 MiB)."""
FIRST = (1, 5, 10)
"""Numbers of neighbours in which recall looks."""


@dataclass(frozen=True, kw_only=True)
class Retrieval(Protocol):
    """Each judged sample is a query, and the samples to learn from are ranked by their cosine to
    it: `map` is the mean average precision over the whole ranking, `recall_k` the share of the
    queries that have a sample of their class among the first k. Nothing is learned; every query
    counts alike."""

    name: ClassVar[str] = "retrieval"
    needs: ClassVar[Needs] = Needs("vectors", "classes")
    source: ClassVar[str] = (
        "Philbin et al. 2007 (mAP); Jegou et al. 2011, Oh Song et al. 2016 (1511.06452) (recall at k)"
    )

    @property
    def settings(self) -> dict[str, Any]:
        return {"metric": "cosine", "ranking": "all samples to learn from"}

    def judge(self, train: Samples, test: Samples, seed: int = 0) -> Judgement:
        gallery, labels = checked("training", train.x, train.target)
        queries, answers = checked("judged", test.x, test.target)
        known = torch.isin(answers, labels)
        if not bool(known.any()):
            raise ValueError("None of the judged samples has a class of the samples to learn from.")
        precision, first = ranked(gallery, labels, queries[known], answers[known])
        scores = {"map": precision, **{f"recall_{k}": (first < k).double() for k in FIRST}}
        remarks: tuple[str, ...] = ()
        if missing := int((~known).sum()):
            remarks = (f"{missing:,} queries are left out, whose class no sample to learn from has.",)
        return Judgement(
            {name: score([mean_of(each / len(each))], len(each)) for name, each in scores.items()}, remarks
        )


def ranked(gallery: Tensor, labels: Tensor, queries: Tensor, answers: Tensor) -> tuple[Tensor, Tensor]:
    """The average precision [Q] of each query, and the rank [Q], from 0 on, of the first sample of
    its class. Equal similarities keep the gallery's order.

    Args:
        gallery: [M, D] with labels [M].
        queries: [Q, D] with answers [Q], each of which is among the labels.
    """
    gallery = F.normalize(gallery.float(), dim=1)
    position = torch.arange(1, len(gallery) + 1, dtype=torch.float64)
    precisions, firsts = [], []
    rows = max(1, SIMILARITIES_AT_ONCE // len(gallery))
    for query, answer in zip(queries.split(rows), answers.split(rows), strict=True):
        order = (F.normalize(query.float(), dim=1) @ gallery.T).argsort(dim=1, descending=True, stable=True)
        hit = labels[order] == answer[:, None]  # [rows, M]
        precisions.append((hit.cumsum(1) / position * hit).sum(1) / hit.sum(1))
        firsts.append(hit.int().argmax(dim=1))
    return torch.cat(precisions), torch.cat(firsts)
