"""Scores and groups of samples that need no labels: each says what it is to say of features whose
answer is known."""

from __future__ import annotations

import math

import numpy as np
import pytest
import torch
from torch import Tensor

from ssl_lightning.evaluation.label_free import alpha_req, finds_own_view, near_duplicates, nearest, outliers


def noise(*shape: int, seed: int = 0) -> Tensor:
    return torch.randn(*shape, generator=torch.Generator().manual_seed(seed), dtype=torch.float64)


@pytest.mark.parametrize("alpha", [0.5, 1.0, 2.0])
def test_alpha_is_the_exponent_by_which_the_spectrum_decays(alpha: float) -> None:
    directions, _ = torch.linalg.qr(noise(400, 200) - noise(400, 200).mean(0))
    rotation, _ = torch.linalg.qr(noise(200, 200, seed=1))
    x = directions * torch.arange(1, 201, dtype=torch.float64) ** (-alpha / 2) @ rotation
    x = x - x.mean(0)
    assert alpha_req(x) == pytest.approx(alpha, abs=0.02)
    assert alpha_req(1000 * x + 5) == pytest.approx(alpha_req(x), abs=1e-9)  # neither scale nor position counts


@pytest.mark.parametrize("x", [noise(50, 4), torch.ones(50, 64), noise(5, 64)])
def test_alpha_is_unknown_where_few_directions_are_used(x: Tensor) -> None:
    assert math.isnan(alpha_req(x))


def test_a_sample_finds_its_own_view_as_often_as_it_is_the_nearest() -> None:
    x = noise(1_500, 16)  # more than are compared at a time
    assert finds_own_view(x, 3 * x) == 1.0
    assert finds_own_view(x, x.roll(1, 0)) == 0.0
    half = torch.cat([x[:750], x[750:].roll(1, 0)])
    assert finds_own_view(x, half) == 0.5
    assert finds_own_view(torch.ones(40, 3), torch.ones(40, 3)) == 0.0, "equal features find nothing"
    assert finds_own_view(x, noise(1_500, 16, seed=1)) < 0.01


def test_neighbours_are_the_nearest_others_by_the_cosine_of_centred_features() -> None:
    x = noise(30, 5) + 20  # without centring all would be alike
    index, distance = nearest(x, torch.tensor([3, 29]), count=4)
    z = torch.nn.functional.normalize(x - x.mean(0), dim=1)
    for row, query in enumerate((3, 29)):
        apart = (z - z[query]).norm(dim=1)
        expected = apart.argsort()[1:5]
        assert torch.equal(index[row], expected) and torch.allclose(distance[row], apart[expected])
    assert nearest(x[:3], torch.arange(3), count=9)[0].shape == (3, 2)


def test_planted_duplicates_and_outliers_are_named_and_nothing_else() -> None:
    x = noise(300, 8)
    x[:, 0] = x[:, 0].abs() + 1
    x[200:203] = x[:3] + 1e-3 * noise(3, 8, seed=1)
    x[299] = x[4]  # an exact copy
    x[77, 0] = -300.0
    index, distance = nearest(x, torch.arange(300))
    pairs = near_duplicates(index, distance)
    assert pairs[0].tolist() == [4, 299] and {tuple(pair) for pair in pairs.tolist()} == {
        (4, 299),
        (0, 200),
        (1, 201),
        (2, 202),
    }
    far, times = outliers(distance, count=5)
    assert int(far[0]) == 77 and times[0] > 1.2 * times[1] and bool((times.diff() <= 0).all())


def test_collapsed_features_have_no_duplicates_and_many_copies_are_still_told() -> None:
    assert len(near_duplicates(*nearest(torch.ones(50, 4), torch.arange(50)))) == 0
    x = noise(20, 4).repeat(3, 1)  # each sample three times
    pairs = near_duplicates(*nearest(x, torch.arange(60), count=2))
    assert len(pairs) == 0 or np.all(pairs[:, 0] % 20 == pairs[:, 1] % 20)
    half = torch.cat([noise(30, 4), noise(10, 4)[:6], noise(10, 4)[:6]])
    assert len(near_duplicates(*nearest(half, torch.arange(42)))) >= 6
