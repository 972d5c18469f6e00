"""The queue holds the last K features that were enqueued, whatever the batches' sizes."""

from __future__ import annotations

import pytest
import torch
from torch import Tensor, nn
from torch.testing import assert_close

from ssl_lightning.nn.queue import FeatureQueue


def rows(first: int, count: int, dim: int = 3) -> Tensor:
    """Features that say which they are."""
    return torch.arange(first, first + count, dtype=torch.float32)[:, None].expand(-1, dim)


@pytest.mark.parametrize(
    ("length", "sizes"), [(12, [4] * 7), (10, [4] * 7), (7, [3, 5, 1, 7, 2]), (5, [8, 3, 5, 12]), (1, [2, 1]), (6, [])]
)
def test_it_holds_the_last_features(length: int, sizes: list[int]) -> None:
    """Also where a batch does not divide it, and where a batch is longer than it is."""
    queue, seen = FeatureQueue(length, 3), list(FeatureQueue(length, 3).features)
    for size in sizes:
        batch = rows(len(seen), size)
        seen += list(batch)
        queue.enqueue(batch)
        oldest_first = queue.features.roll(-int(queue.place), dims=0)
        assert torch.equal(oldest_first, torch.stack(seen[-length:]))


def test_it_starts_with_the_same_directions_everywhere() -> None:
    torch.manual_seed(1)
    queue = FeatureQueue(100, 16)
    state = torch.get_rng_state()
    torch.manual_seed(2)
    assert torch.equal(queue.features, FeatureQueue(100, 16).features)
    assert_close(queue.features.norm(dim=1), torch.ones(100))
    assert torch.linalg.matrix_rank(queue.features) == 16
    torch.manual_seed(1)
    assert torch.equal(torch.get_rng_state(), state), "building it draws from no generator but its own"


def test_a_checkpoint_holds_it_with_its_place() -> None:
    queue, other = FeatureQueue(5, 3), FeatureQueue(5, 3)
    queue.enqueue(rows(0, 3))
    other.load_state_dict(queue.state_dict())
    for each in (queue, other):
        each.enqueue(rows(3, 4))
    assert_close(other.state_dict(), queue.state_dict(), rtol=0, atol=0)


def test_half_precision_and_gradients_stay_outside() -> None:
    queue = FeatureQueue(4, 3)
    queue.enqueue(torch.ones(2, 3, dtype=torch.bfloat16, requires_grad=True))
    assert queue.features.dtype == torch.float32 and not queue.features.requires_grad
    assert (queue.features[:2] == 1).all()


@pytest.mark.parametrize(("length", "dim"), [(0, 8), (-3, 8), (4, 0)])
def test_an_empty_queue_is_refused(length: int, dim: int) -> None:
    with pytest.raises(ValueError, match=rf"FeatureQueue\((length={length}|dim={dim})\) must be at least 1"):
        FeatureQueue(length, dim)


def test_the_features_of_a_method_in_half_precision_stay_float32() -> None:
    method = nn.Sequential(nn.Linear(3, 3), FeatureQueue(5, 3))
    before = method[1].features.clone()
    method.bfloat16()
    assert method[0].weight.dtype == torch.bfloat16
    assert method[1].features.dtype == torch.float32 and torch.equal(method[1].features, before)
    method.double()
    assert method[1].features.dtype == torch.float64
