"""Ridge regression and its scores against scikit-learn and scipy."""

from __future__ import annotations

import numpy as np
import pytest
import torch
from scipy.stats import spearmanr
from sklearn.linear_model import RidgeCV
from sklearn.metrics import average_precision_score, r2_score
from sklearn.preprocessing import StandardScaler

from ssl_lightning.evaluation.protocols.base import Samples, resamples
from ssl_lightning.evaluation.protocols.ranking import Ranking, average_precision, explained, spearman
from ssl_lightning.evaluation.protocols.values import Values, ridge


def numbers(count, dim=6, seed=0):
    """Targets of which one is nearly linear, one weakly so, and one noise with an offset."""
    generator = torch.Generator().manual_seed(seed)
    x = torch.randn(count, dim, generator=generator) * torch.logspace(0, 2, dim)
    noise = torch.randn(count, 3, generator=generator, dtype=torch.float64)
    signal = torch.stack([x[:, 0] + 2 * x[:, 1] / 2.5, 0.3 * x[:, 2] / 6, 0 * x[:, 0]], dim=1).double()
    return Samples(x, signal + noise * torch.tensor([0.1, 0.5, 1.0]) + torch.tensor([0.0, 0.0, 1e4]), ("a", "b", "c"))


@pytest.mark.parametrize(("count", "dim"), [(60, 6), (20, 40)])
def test_ridge_is_that_of_scikit_learn_with_the_strength_of_leaving_one_out(count, dim):
    train = numbers(count, dim)
    x = StandardScaler().fit_transform(train.x.double().numpy())
    strengths = (1e-3, 1e-2, 0.1, 1.0, 10.0)
    model = ridge(torch.from_numpy(x), train.target, strengths)
    expected = RidgeCV([count * each for each in strengths], alpha_per_target=True).fit(x, train.target.numpy())
    assert (count * model.strength).tolist() == pytest.approx(expected.alpha_.tolist())
    assert len(model.strength.unique()) > 1, "or the choice is not tested"
    assert np.allclose(model.weight.T, expected.coef_, atol=1e-7)
    assert np.allclose(model.bias, expected.intercept_, atol=1e-6)


def test_scores_are_those_of_scikit_learn_and_scipy():
    train, test = numbers(80), numbers(50, seed=1)
    protocol = Values(strengths=(1e-3, 0.1, 10.0))
    scores = protocol.judge(train, test).scores
    scaler = StandardScaler().fit(train.x.double())
    model = RidgeCV([80 * each for each in protocol.strengths], alpha_per_target=True)
    model.fit(scaler.transform(train.x.double()), train.target)
    predicted = model.predict(scaler.transform(test.x.double()))
    r2 = r2_score(test.target, predicted, multioutput="raw_values")
    rho = [spearmanr(test.target[:, each], predicted[:, each]).statistic for each in range(3)]
    assert [scores[f"r2 {name}"].value for name in "abc"] == pytest.approx(list(r2), abs=1e-6)
    assert [scores[f"spearman {name}"].value for name in "abc"] == pytest.approx(rho, abs=1e-9)
    assert scores["r2"].value == pytest.approx(np.mean(r2)) and scores["spearman"].value == pytest.approx(np.mean(rho))
    assert r2[0] > 0.9 and 0.05 < r2[1] < 0.9 and r2[2] < 0.1


def test_constant_targets_are_named_and_predictions_without_order_are_no_error():
    train, test = numbers(40), numbers(30, seed=1)
    test = test._replace(target=test.target.index_fill(1, torch.tensor([1]), 3.0))
    result = Values().judge(train, test)
    assert result.remarks[0] == "Constant on the judged samples, so left out: 'b'."
    assert "r2 b" not in result.scores and "r2 a" in result.scores
    with pytest.raises(ValueError, match="Every target is constant"):
        Values().judge(train, test._replace(target=torch.ones(30, 3)))
    flat = Values().judge(train._replace(x=torch.ones(40, 6)), test._replace(x=torch.ones(30, 6)))
    assert flat.scores["spearman"].value == 0 and flat.scores["r2"].value < 0.01
    with pytest.raises(ValueError, match="hold NaN or infinity"):
        Values().judge(train._replace(x=train.x * torch.nan), test)


@pytest.mark.parametrize("levels", [4, 1000])
def test_a_weight_is_a_sample_that_is_there_so_often(levels):
    """Against scikit-learn and scipy on samples that are repeated; with few levels there are many
    ties."""
    random = np.random.default_rng(0)
    truth, predicted = random.integers(levels, size=25) / 3, random.integers(levels, size=25) / 7
    positive = random.random(25) < 0.4
    weights = next(iter(resamples(25)))[:20]
    assert weights.sum(1).eq(25).all() and weights.max() >= 3
    t, p, y = torch.from_numpy(truth), torch.from_numpy(predicted), torch.from_numpy(positive)
    r2, rho = explained(t, p, weights), spearman(Ranking(t), Ranking(p), weights)
    precision = average_precision(Ranking(p, descending=True), y, weights)
    for number, weight in enumerate(weights):
        index = np.repeat(np.arange(25), weight.int().numpy())
        assert float(r2[number]) == pytest.approx(r2_score(truth[index], predicted[index]))
        assert float(rho[number]) == pytest.approx(spearmanr(truth[index], predicted[index]).statistic)
        expected = average_precision_score(positive[index], predicted[index])
        assert float(precision[number]) == pytest.approx(expected)
