"""The order of samples: endless, the same for any number of processes, and computed from positions
alone once a pass is long."""

from __future__ import annotations

import tracemalloc
from itertools import islice
from typing import Any

import pytest
import torch
from torch import Tensor

from ssl_lightning.augment.random import permutation, shuffled
from ssl_lightning.data import order as module
from ssl_lightning.data.order import NEWEST, SORTED, Draws, Order
from ssl_lightning.evaluation.probes.linear import OnlineLinearProbe
from ssl_lightning.testing import TinyImages
from ssl_lightning.types import ViewSpec

LONG = SORTED + 1


def whole(order: Order, pass_: int) -> Tensor:
    return order.draws(pass_ * order.n + torch.arange(order.n))


@pytest.mark.parametrize("n", [1, 2, 10, SORTED, LONG, 300_007])
def test_each_pass_holds_each_sample_once_and_passes_and_seeds_differ(n: int) -> None:
    order = Order(n, 5)
    for pass_ in (0, 3):
        assert torch.equal(whole(order, pass_).sort().values, pass_ * n + torch.arange(n))
    if n > 10:
        others = (whole(order, 4) % n, whole(Order(n, 6), 3) % n)
        assert all(int((whole(order, 3) % n == other).sum()) < 10 for other in others)


@pytest.mark.parametrize("n", [7, 1000, LONG])
@pytest.mark.parametrize("world_size", [1, 4])
def test_draws_are_those_of_the_order_from_any_position_and_process(n: int, world_size: int) -> None:
    position, order = 3 * n - 5, Order(n, 1)
    for rank in range(world_size):
        batches = torch.tensor(list(islice(Draws(n, 1, position, 8, rank, world_size), 40)))
        share = 8 // world_size
        expected = position + 8 * torch.arange(40)[:, None] + torch.arange(rank * share, (rank + 1) * share)
        assert torch.equal(batches, order.draws(expected.flatten()).view_as(expected))


def test_an_order_of_version_1_sorts_every_pass() -> None:
    """That of all runs before there were versions, and of passes that are sorted still."""
    for n, version in ((LONG, 1), (SORTED, 1), (SORTED, NEWEST)):
        drawn = [draw for batch in islice(Draws(n, 3, 2 * n, n // 4, 0, 1, version), 2) for draw in batch]
        assert drawn == (2 * n + permutation(3, 2, n)[: len(drawn)]).tolist()
    assert torch.equal(whole(Order(LONG, 3), 2), 2 * LONG + shuffled(3, 2, LONG, torch.arange(LONG)))
    assert not torch.equal(whole(Order(LONG, 3), 2), whole(Order(LONG, 3, 1), 2))


def test_a_resumed_run_keeps_the_order_that_it_began_with(monkeypatch: pytest.MonkeyPatch) -> None:
    """A checkpoint of before the versions continues in version 1, and so does one of that run."""
    monkeypatch.setattr(module, "SORTED", 10)

    class Asks:
        views = ViewSpec()

    def next_samples(data: TinyImages) -> list[int]:
        data.serve(Asks())
        return next(data.train_dataloader())["index"].tolist()

    old = {"position": 64, "samples": 64, "seed": 0, "fingerprint": None}
    data = TinyImages()
    data.load_state_dict(old)
    assert next_samples(data) == permutation(0, 1, 64)[:16].tolist()
    again = TinyImages()
    again.load_state_dict(data.state_dict())
    assert data.state_dict()["order"] == 1 and next_samples(again) == permutation(0, 1, 64)[:16].tolist()

    new = TinyImages()
    assert new.state_dict()["order"] == NEWEST
    new.load_state_dict({**new.state_dict(), "position": 64})
    assert next_samples(new) == shuffled(0, 1, 64, torch.arange(16)).tolist()
    with pytest.raises(ValueError, match=r"an order of version 9, .* resume with the version that wrote it"):
        TinyImages().load_state_dict({**old, "order": 9})


def test_the_probe_draws_whole_batches_of_each_pass_and_keeps_its_order(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(module, "SORTED", 10)
    probe, n = OnlineLinearProbe(batch_size=16), 50

    def drawn(steps: int) -> list[int]:
        probe.steps = steps
        return probe.draw(Order(n, 1, probe.order_version)).tolist()

    for pass_ in range(2):
        samples = [draw for step in range(3) for draw in drawn(3 * pass_ + step)]
        assert samples == shuffled(1, pass_, n, torch.arange(48)).tolist()
    assert probe.state_dict()["order"] == NEWEST
    probe.load_state_dict({"steps": 4, "heads": {}})  # of before the versions
    assert drawn(4) == permutation(1, 1, n)[16:32].tolist() and probe.state_dict()["order"] == 1


def test_a_long_pass_takes_no_memory_and_no_sort(monkeypatch: pytest.MonkeyPatch) -> None:
    """100 million samples: 800 MB for an order that is held; a probe draws from as many."""

    def refuse(*args: Any) -> Tensor:
        raise AssertionError("the whole pass was sorted")

    monkeypatch.setattr(module, "permutation", refuse)
    n = 100_000_000
    tracemalloc.start()
    draws = Draws(n, 0, 5 * n // 2, 256, 1, 2)
    first = [next(iter(draws)) for _ in range(3)]
    assert first[0] == first[1] and {draw // n for draw in first[0]} == {2}
    tensors = sum(each.nbytes for each in vars(draws.order).values() if isinstance(each, Tensor))
    assert tracemalloc.get_traced_memory()[1] < 4 << 20 and tensors == 0
    tracemalloc.stop()
    assert len(OnlineLinearProbe().draw(Order(n, 1)).unique()) == 128
