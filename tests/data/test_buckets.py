"""Batches by length: every pass is planned, whole, within the budget, and shared out equally."""

from __future__ import annotations

from itertools import islice

import pytest
import torch

from ssl_lightning.data.buckets import Buckets, PlannedDraws


def lengths(count: int, kind: str = "speech") -> torch.Tensor:
    generator = torch.Generator().manual_seed(count)
    if kind == "equal":
        return torch.full((count,), 300)
    if kind == "one long":
        return torch.cat([torch.tensor([3000]), torch.full((count - 1,), 40)])
    return (torch.randn(count, generator=generator).mul(0.6).exp() * 400).long().clamp(20, 3000)


CASES = [
    (1000, "speech", 12_000, 1),
    (1000, "speech", 12_000, 4),
    (300, "equal", 1_000, 3),
    (90, "one long", 6_000, 2),
    (7, "speech", 100_000, 1),
]


@pytest.mark.parametrize(("count", "kind", "budget", "processes"), CASES)
def test_a_pass_is_pure_complete_and_within_the_budget(count: int, kind: str, budget: int, processes: int) -> None:
    length = lengths(count, kind)
    plans = [Buckets(length, budget, 5, processes).plan(pass_) for pass_ in range(12)]
    again = Buckets(length.clone(), budget, 5, processes)
    assert all(torch.equal(*pair) for pair in zip(plans[7], again.plan(7), strict=True)), (
        "a pass depends on those before it"
    )
    assert {len(plan) for plan in plans} == {len(again)}
    assert {tuple(sorted(map(len, plan))) for plan in plans} == {tuple(again.sizes.sort().values.tolist())}
    taken = torch.zeros(count)
    for plan in plans:
        for batch in plan:
            assert len(batch) % processes == 0 and len(batch) * int(length[batch].max()) <= budget
        samples = torch.cat(plan)
        assert len(samples.unique()) == len(samples) == again.places
        taken[samples] += 1
    most_left = int(again.sizes.max()) // 2 + processes  # of the shortest, less than half a batch
    assert count - again.places <= most_left
    assert taken.min() > 0 or again.places < 0.8 * count  # who is left over changes


def test_those_left_over_are_drawn_among_all() -> None:
    length = lengths(1000)
    buckets = Buckets(length, 20_000, 0, 6)
    left = [set(range(1000)) - set(torch.cat(buckets.plan(pass_)).tolist()) for pass_ in range(40)]
    each = 1000 - buckets.places
    assert 0 < each < 60 and {len(one) for one in left} == {each}
    assert len(set.union(*left)) > min(900, 20 * each) and len({frozenset(one) for one in left}) == 40
    mean = float(torch.stack([length[list(one)].float().mean() for one in left]).mean())
    assert abs(mean / float(length.float().mean()) - 1) < 0.15


def test_batches_are_of_similar_length_and_change_from_pass_to_pass() -> None:
    length = lengths(3000)
    buckets = Buckets(length, 20_000, 0)
    one, two = buckets.plan(0), buckets.plan(1)
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
        *buckets.plan(0),
        *(batch + 200 for batch in buckets.plan(1)),
        *(batch + 400 for batch in buckets.plan(2)[:3]),
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
