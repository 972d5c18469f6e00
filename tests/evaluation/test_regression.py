"""The closing table's logistic regression against scikit-learn's, run to convergence."""

from __future__ import annotations

import numpy as np
import pytest
import torch
from sklearn.linear_model import LogisticRegression

from ssl_lightning.evaluation import regression
from ssl_lightning.evaluation.regression import fit


def samples(count, dim, classes, seed=0):
    """Correlated features, of very unequal variance, that separate the classes in part."""
    random = np.random.default_rng(seed)
    y = random.permutation(np.arange(count) % classes)
    x = 0.5 * random.normal(size=(classes, dim))[y] + random.normal(size=(count, dim))
    return x * np.geomspace(1, 0.05, dim) @ random.normal(size=(dim, dim)) / 3 + 1, y


@pytest.mark.parametrize(("count", "dim", "classes"), [(150, 12, 4), (60, 90, 3), (80, 10, 2)])
def test_every_strength_and_weighting_at_once_equals_a_regression_of_its_own(count, dim, classes, monkeypatch):
    monkeypatch.setattr(regression, "EXACT", 1e-12)
    x, y = samples(count, dim, classes)
    random = np.random.default_rng(1)
    strengths = [1e-3, 1.0, 30.0]
    shares = np.stack([np.ones(count), random.integers(1, 4, count), random.random(count) + 0.1])
    fits = fit(*map(torch.from_numpy, (x, y, shares)), torch.tensor(strengths))
    assert fits.converged.all()
    for weight, bias, share, strength in zip(fits.weight, fits.bias, shares, strengths, strict=True):
        alone = LogisticRegression(C=strength, tol=1e-9, max_iter=20_000)
        if classes == 2:  # scikit-learn's has one logit there, and half the penalty
            alone.C = 2 * strength
        alone.fit(x, y, sample_weight=share)
        ours = torch.log_softmax(torch.from_numpy(x) @ weight + bias, 1)
        assert np.abs(ours.numpy() - alone.predict_log_proba(x)).max() < 2e-3


def test_a_sample_without_a_share_is_left_out():
    x, y = map(torch.from_numpy, samples(90, 8, 3))
    shares = (torch.arange(90) % 3 != 0).double()
    both = fit(x, y, shares[None], torch.ones(1)), fit(x[shares > 0], y[shares > 0], torch.ones(1, 60), torch.ones(1))
    assert torch.allclose(both[0].weight, both[1].weight, atol=1e-3)


def test_a_fit_that_stops_at_the_cap_says_so(monkeypatch):
    x, y = map(torch.from_numpy, samples(90, 8, 3))
    monkeypatch.setattr(regression, "MOST_ITERATIONS", 2)
    assert fit(x, y, torch.ones(2, 90), torch.tensor([1e-6, 1.0])).converged.tolist() == [True, False]


def test_logits_in_parts_give_the_same_solution(monkeypatch):
    x, y = map(torch.from_numpy, samples(90, 8, 3))
    whole = fit(x, y, torch.ones(1, 90), torch.ones(1))
    monkeypatch.setattr(regression, "LOGITS_AT_ONCE", 30)
    assert torch.allclose(fit(x, y, torch.ones(1, 90), torch.ones(1)).weight, whole.weight, atol=1e-6)
