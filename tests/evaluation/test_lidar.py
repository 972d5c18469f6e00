"""LiDAR and RankMe: against their equations written out, and on spectra that are known."""

from __future__ import annotations

import math

import numpy as np
import pytest
import scipy.linalg
import torch
from torch import Tensor

from ssl_lightning.evaluation.label_free import rankme
from ssl_lightning.evaluation.lidar import lidar


def noise(*shape: int, seed: int = 0) -> Tensor:
    return torch.randn(*shape, generator=torch.Generator().manual_seed(seed), dtype=torch.float64)


def slow_lidar(views: Tensor) -> float:
    """Thilak et al. 2023, Equations 1 to 4, sample by sample and view by view."""
    x = views.double().numpy()
    count, each, dim = x.shape
    means = x.mean(1)
    within, between = np.zeros((dim, dim)), np.zeros((dim, dim))
    for sample in range(count):
        for view in range(each):
            apart = x[sample, view] - means[sample]
            within += np.outer(apart, apart) / (count * (each - 1))
        apart = means[sample] - means.mean(0)
        between += np.outer(apart, apart) / (count - 1)
    root = np.linalg.inv(scipy.linalg.sqrtm(within + 1e-4 * np.eye(dim)).real)
    eigenvalues = np.linalg.eigvalsh(root @ between @ root)
    p = (eigenvalues + 1e-8) / (eigenvalues + 1e-8).sum()
    return math.exp(-sum(share * math.log(share) for share in p))


@pytest.mark.parametrize(("count", "each", "dim"), [(40, 5, 12), (6, 10, 20), (12, 2, 12)])
def test_it_is_the_equations_written_out(count: int, each: int, dim: int) -> None:
    scales = torch.linspace(0.01, 3, dim, dtype=torch.float64)
    views = noise(count, 1, dim) * scales + noise(count, each, dim, seed=1) * scales.flip(0)
    assert lidar(views) == pytest.approx(slow_lidar(views), rel=1e-6)
    assert lidar(views.float() + 7) == pytest.approx(slow_lidar(views), rel=1e-3)  # wherever the features are


def test_alike_in_all_directions_it_is_their_number_or_that_of_samples() -> None:
    assert lidar(noise(4000, 1, 8) * 5 + noise(4000, 4, 8, seed=1)) == pytest.approx(8, rel=0.01)
    few = lidar(noise(4, 1, 30) * 50 + noise(4, 40, 30, seed=1))
    assert 2 < few < 3.01  # n - 1


def test_a_direction_counts_where_samples_differ_more_than_their_views() -> None:
    """RankMe sees ten directions of equal variance; in nine of them it comes from the views."""
    samples, views = noise(300, 1, 10), noise(300, 10, 10, seed=1)
    samples[..., 1:] *= 0.01
    views[..., 0] *= 0.01
    x = samples + views
    assert rankme(x.flatten(0, 1)) > 9.9 and lidar(x) < 1.1


@pytest.mark.parametrize("shape", [(1, 10, 4), (9, 1, 4), (9, 10, 1), (5, 3, 11)])
def test_it_is_unknown_where_views_cannot_tell(shape: tuple[int, ...]) -> None:
    assert math.isnan(lidar(noise(*shape)))


def test_it_is_unknown_where_a_feature_is_not_finite_and_finite_where_all_are_alike() -> None:
    views = noise(9, 10, 4)
    views[3, 3, 3] = math.inf
    assert math.isnan(lidar(views))
    assert lidar(torch.ones(9, 10, 4)) == pytest.approx(4)  # no eigenvalue is larger than another


def test_rankme_is_its_equation_of_features_as_they_are() -> None:
    x = noise(50, 7) * torch.arange(1.0, 8) + 9
    singular = np.linalg.svd(x.numpy(), compute_uv=False)
    expected = math.exp(-sum(p * math.log(p) for p in singular / singular.sum() + 1e-7))
    assert rankme(x) == pytest.approx(expected, rel=1e-9)
    assert rankme(x - x.mean(0)) > 1.05 * rankme(x), "their mean is a direction too"
    assert rankme(5 * torch.eye(6)) == pytest.approx(6) and rankme(torch.ones(40, 6)) == pytest.approx(1, abs=1e-4)
    assert math.isnan(rankme(torch.zeros(9, 4)))
