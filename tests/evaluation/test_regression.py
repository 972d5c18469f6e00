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


def test_where_classes_are_nearly_separated_some_hundred_iterations_suffice():
    """At penalties that are next to none, to the same objective as scikit-learn's."""
    random = np.random.default_rng(0)
    y = np.arange(300) % 5
    x = (3 * random.normal(size=(5, 20))[y] / np.sqrt(20) + random.normal(size=(300, 20))).astype(np.float32)
    fits = fit(*map(torch.from_numpy, (x, y, np.ones((2, 300)))), torch.tensor([1e2, 1e4]))
    assert fits.converged.all() and fits.iterations < 150
    for weight, bias, strength in zip(fits.weight, fits.bias, (1e2, 1e4), strict=True):
        alone = LogisticRegression(C=strength, tol=1e-8, max_iter=20_000).fit(x.astype(np.float64), y)
        parts = []
        for w, c in ((weight.numpy(), bias.numpy()), (alone.coef_.T, alone.intercept_)):
            log_p = torch.log_softmax(torch.from_numpy(x @ w + c), 1)[torch.arange(300), torch.from_numpy(y)]
            parts.append(float(np.square(w).sum() / 2 - strength * log_p.sum()))
        assert parts[0] < 1.0001 * parts[1]


def test_where_a_fit_begins_changes_the_way_and_not_the_end():
    x, y = map(torch.from_numpy, samples(150, 12, 4))
    shares = torch.ones(2, 150)
    far, basis = fit(x, y, shares, torch.tensor([1.0, 10.0])), regression.eigenbasis(x)
    again = fit(x, y, shares, torch.tensor([1.0, 10.0]), basis=basis, start=far)
    assert again.iterations < 3 < far.iterations
    onward = fit(x, y, shares, torch.tensor([3.0, 30.0]), start=far), fit(x, y, shares, torch.tensor([3.0, 30.0]))
    assert torch.allclose(onward[0].weight, onward[1].weight, atol=2e-2) and bool(onward[0].converged.all())


def test_logits_in_parts_give_the_same_solution(monkeypatch):
    x, y = map(torch.from_numpy, samples(90, 8, 3))
    whole = fit(x, y, torch.ones(1, 90), torch.ones(1))
    monkeypatch.setattr(regression, "LOGITS_AT_ONCE", 30)
    assert torch.allclose(fit(x, y, torch.ones(1, 90), torch.ones(1)).weight, whole.weight, atol=1e-6)


@pytest.mark.parametrize("strength", [1e-3, 1.0, 1e4])
def test_products_in_float32_lead_to_the_same_minimum(strength, monkeypatch):
    """Of large fits, whose products are added up in parts of a few samples; at next to no penalty
    they are finished in float64."""
    x, y = map(torch.from_numpy, samples(400, 12, 4))
    shares, dtypes, objective = torch.ones(2, 400), [], regression.Objective
    shares[1, ::3] = 0
    precise = fit(x, y, shares, torch.full((2,), strength))

    class Noted(objective):
        def __init__(self, *args):
            super().__init__(*args)
            dtypes.append(self.dtype)

    monkeypatch.setattr(regression, "Objective", Noted)
    monkeypatch.setattr(regression, "MIXED", 1)
    monkeypatch.setattr(regression, "SUMMED", 200)
    mixed = fit(x, y, shares, torch.full((2,), strength))
    assert dtypes[0] == torch.float32 and bool(mixed.converged.all())
    assert mixed.weight.dtype == torch.float64

    def losses(fits):
        log_p = torch.log_softmax(torch.einsum("md,pdk->pmk", x, fits.weight) + fits.bias[:, None], 2)
        nll = -(shares * log_p[:, torch.arange(400), y]).sum(1)
        return nll + fits.weight.square().sum((1, 2)) / (2 * strength)

    assert torch.allclose(losses(mixed), losses(precise), rtol=5e-6)


def test_what_does_not_converge_in_float32_is_finished_in_float64(monkeypatch):
    x, y = map(torch.from_numpy, samples(400, 12, 4))
    monkeypatch.setattr(regression, "MIXED", 1)
    minimised, calls = regression.minimised, []

    def first_stops(w, evaluate, curvatures, tolerance, most, noise=0.0):
        calls.append(len(w))
        return minimised(w, evaluate, curvatures, tolerance, 8 if noise else most, noise)

    monkeypatch.setattr(regression, "minimised", first_stops)
    fits = fit(x, y, torch.ones(2, 400), torch.tensor([1e-6, 1.0]))
    assert calls == [2, 1] and bool(fits.converged.all())
    alone = LogisticRegression(C=1.0, tol=1e-9, max_iter=20_000).fit(x.numpy(), y.numpy())
    assert np.allclose(fits.weight[1].T, alone.coef_, atol=5e-3)
