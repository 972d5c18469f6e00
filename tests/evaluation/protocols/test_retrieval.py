"""Retrieval against a plain loop, and what is left out."""

from __future__ import annotations

import math

import pytest
import torch

from ssl_lightning.evaluation.protocols import retrieval
from ssl_lightning.evaluation.protocols.base import Samples
from ssl_lightning.evaluation.protocols.retrieval import Retrieval


def slow(gallery, labels, queries, answers):
    """Average precision and recall at 1, 5, 10 by their definitions."""
    totals = {"map": 0.0, "recall_1": 0.0, "recall_5": 0.0, "recall_10": 0.0}
    for query, answer in zip(queries.tolist(), answers.tolist(), strict=True):
        cosines = []
        for sample, label in zip(gallery.tolist(), labels.tolist(), strict=True):
            dot = sum(a * b for a, b in zip(query, sample, strict=True))
            cosines.append((dot / math.hypot(*query) / math.hypot(*sample), label))
        hits = [label == answer for _, label in sorted(cosines, reverse=True)]
        precisions = [sum(hits[: rank + 1]) / (rank + 1) for rank, hit in enumerate(hits) if hit]
        totals["map"] += sum(precisions) / len(precisions)
        for k in (1, 5, 10):
            totals[f"recall_{k}"] += any(hits[:k])
    return {name: total / len(queries) for name, total in totals.items()}


@pytest.mark.parametrize("at_once", [2**22, 90])
def test_retrieval_equals_a_loop_also_in_chunks(at_once, monkeypatch):
    monkeypatch.setattr(retrieval, "SIMILARITIES_AT_ONCE", at_once)
    generator = torch.Generator().manual_seed(0)
    x, queries = torch.randn(40, 4, generator=generator), torch.randn(13, 4, generator=generator)
    y, answers = torch.arange(40) % 7, torch.randint(7, (13,), generator=generator)
    scores = Retrieval().judge(Samples(x, y), Samples(queries, answers)).scores
    expected = slow(x, y, queries, answers)
    assert list(scores) == list(expected)
    assert {name: each.value for name, each in scores.items()} == pytest.approx(expected, abs=1e-9)
    assert 0 < expected["recall_1"] < expected["recall_5"] < expected["recall_10"] <= 1, "or the test says little"


def test_queries_of_a_class_that_the_gallery_lacks_are_counted_and_left_out():
    x = torch.eye(4)
    result = Retrieval().judge(Samples(x[:3], torch.tensor([0, 1, 1])), Samples(x, torch.tensor([0, 1, 1, 2])))
    # Two of three queries have two samples of their class, of which the second is behind another's.
    assert result.scores["map"].value == pytest.approx((1 + 2 * (1 + 2 / 3) / 2) / 3)
    assert result.remarks == ("1 queries are left out, whose class no sample to learn from has.",)
    with pytest.raises(ValueError, match="None of the judged samples has a class"):
        Retrieval().judge(Samples(x, torch.zeros(4)), Samples(x, torch.ones(4)))
