"""Batches by length: every pass is planned, whole, within the budget, and shared out equally."""

from __future__ import annotations

import hashlib
from itertools import islice
from typing import Any

import pytest
import torch

from ssl_lightning.augment.random import permutation
from ssl_lightning.data import buckets as module
from ssl_lightning.data.buckets import Buckets, PlannedDraws
from ssl_lightning.data.order import SORTED


def lengths(count: int, kind: str = "speech") -> torch.Tensor:
    generator = torch.Generator().manual_seed(count)
    if kind == "equal":
        return torch.full((count,), 300)
    if kind == "one long":
        return torch.cat([torch.tensor([3000]), torch.full((count - 1,), 40)])
    return (torch.randn(count, generator=generator).mul(0.6).exp() * 400).long().clamp(20, 3000)


def sizes(buckets: Buckets) -> list[int]:
    return [bucket.size for bucket in buckets.layout for _ in range(bucket.batches)]


@pytest.fixture(params=[False, True], ids=["sorted", "computed"])
def long(request: pytest.FixtureRequest, monkeypatch: pytest.MonkeyPatch) -> bool:
    """Whether each permutation is computed position by position, as those of a long pass are."""
    if request.param:
        monkeypatch.setattr(module, "SORTED", 0)
    return bool(request.param)


CASES = [
    (1000, "speech", 12_000, 1),
    (1000, "speech", 12_000, 4),
    (300, "equal", 1_000, 3),
    (90, "one long", 6_000, 2),
    (7, "speech", 100_000, 1),
]


@pytest.mark.parametrize(("count", "kind", "budget", "processes"), CASES)
def test_a_pass_is_pure_complete_and_within_the_budget(
    count: int, kind: str, budget: int, processes: int, long: bool
) -> None:
    length = lengths(count, kind)
    plans = [list(Buckets(length, budget, 5, processes).plan(pass_)) for pass_ in range(12)]
    again = Buckets(length.clone(), budget, 5, processes)
    assert all(torch.equal(*pair) for pair in zip(plans[7], list(again.plan(7)), strict=True)), (
        "a pass depends on those before it"
    )
    assert {len(plan) for plan in plans} == {len(again)}
    assert {tuple(sorted(map(len, plan))) for plan in plans} == {tuple(sorted(sizes(again)))}
    taken = torch.zeros(count)
    for plan in plans:
        for batch in plan:
            assert len(batch) % processes == 0 and len(batch) * int(length[batch].max()) <= budget
        samples = torch.cat(plan)
        assert len(samples.unique()) == len(samples) == again.places
        taken[samples] += 1
    most_left = max(sizes(again)) // 2 + processes  # of the shortest, less than half a batch
    assert count - again.places <= most_left
    assert taken.min() > 0 or again.places < 0.8 * count  # who is left over changes


def test_those_left_over_are_drawn_among_all(long: bool) -> None:
    length = lengths(1000)
    buckets = Buckets(length, 20_000, 0, 6)
    left = [set(range(1000)) - set(torch.cat(list(buckets.plan(pass_))).tolist()) for pass_ in range(40)]
    each = 1000 - buckets.places
    assert 0 < each < 60 and {len(one) for one in left} == {each}
    assert len(set.union(*left)) > min(900, 20 * each) and len({frozenset(one) for one in left}) == 40
    mean = float(torch.stack([length[list(one)].float().mean() for one in left]).mean())
    assert abs(mean / float(length.float().mean()) - 1) < 0.15


def test_batches_are_of_similar_length_and_change_from_pass_to_pass(long: bool) -> None:
    length = lengths(3000)
    buckets = Buckets(length, 20_000, 0)
    one, two = list(buckets.plan(0)), list(buckets.plan(1))
    padded = sum(len(batch) * int(length[batch].max()) for batch in one)
    assert float(sum(length[batch].sum() for batch in one)) / padded > 0.9
    as_drawn = torch.randperm(3000, generator=torch.Generator().manual_seed(0)).split(round(20_000 / 480))
    assert float(length.sum()) / sum(len(batch) * int(length[batch].max()) for batch in as_drawn) < 0.5
    assert not any(set(batch.tolist()) == set(other.tolist()) for batch in one for other in two)
    longest = [int(length[batch].max()) for batch in one]
    assert longest != sorted(longest) and longest != sorted(longest, reverse=True)
    assert [len(batch) for batch in one] != [len(batch) for batch in two]


def test_processes_share_each_batch_equally_and_a_position_is_all_that_a_resume_needs() -> None:
    length = lengths(200)
    buckets = Buckets(length, 8_000, 3, 2)
    parts = [list(islice(PlannedDraws(buckets, 0, rank), 2 * len(buckets) + 3)) for rank in (0, 1)]
    order = [
        *list(buckets.plan(0)),
        *(batch + 200 for batch in list(buckets.plan(1))),
        *(batch + 400 for batch in list(buckets.plan(2))[:3]),
    ]
    for one, two, batch in zip(*parts, order, strict=True):
        assert len(one) == len(two) and sorted(one + two) == sorted(batch.tolist())
    for position in (1, len(buckets) - 1, len(buckets), len(buckets) + 2):
        assert list(islice(PlannedDraws(buckets, position, 1), 3)) == parts[1][position : position + 3]


def test_a_budget_without_room_is_refused() -> None:
    with pytest.raises(ValueError, match=r"A budget of 5,999 has no room for a sample of 3,000 in each of 2 processes"):
        Buckets(lengths(9, "one long"), 5_999, 0, 2)
    assert len(Buckets(lengths(9, "one long"), 6_000, 0, 2)) == 3
    with pytest.raises(ValueError, match="3 samples cannot be shared out among 4 processes"):
        Buckets(lengths(3), 100_000, 0, 4)


@pytest.mark.parametrize(("processes", "digest"), [(1, "d790b9979eec8147"), (4, "76663c14dda3e666")])
def test_checkpoints_of_earlier_versions_keep_their_batches(processes: int, digest: str) -> None:
    buckets = Buckets(lengths(1000), 12_000, 5, processes)
    plan = [batch.tolist() for batch in buckets.plan(7, 2)]
    assert hashlib.sha256(str(plan).encode()).hexdigest()[:16] == digest
    position = 7 * len(buckets) + 3
    drawn = list(islice(PlannedDraws(buckets, position, 0, 2), 4))
    assert drawn == [[draw + 7000 for draw in batch[::processes]] for batch in plan[3:7]]
    assert list(islice(PlannedDraws(buckets, position, 0), 4)) != drawn


def test_a_batch_is_computed_without_the_rest_of_its_pass(monkeypatch: pytest.MonkeyPatch) -> None:
    """Only permutations of up to `SORTED` samples are sorted and kept, of each bucket one."""
    sorts: list[int] = []

    def counted(seed: int, pass_: int, n: int) -> Any:
        sorts.append(n)
        return permutation(seed, pass_, n)

    monkeypatch.setattr(module, "permutation", counted)
    buckets = Buckets(lengths(400_000), 40_000, 0, 2)
    one = list(islice(PlannedDraws(buckets, 3 * len(buckets) + 9, 0), 200))
    assert all(len(batch) for batch in one) and len({draw for batch in one for draw in batch}) == sum(map(len, one))
    assert max(sorts) <= SORTED and len(sorts) <= len(buckets.layout) + 1


def test_every_sample_comes_at_every_position_of_a_bucket(long: bool) -> None:
    """Over many passes each of 60 equal samples is as often in the first batch as any other."""
    buckets = Buckets(lengths(60, "equal"), 6 * 300, 1)
    counts = torch.zeros(60)
    for pass_ in range(600):
        counts[buckets.plan(pass_)[0]] += 1
    assert counts.sum() == 3600 and ((counts - 60) ** 2 / (60 * 0.9)).sum() < 100  # chi-squared of 59, p = 0.001
