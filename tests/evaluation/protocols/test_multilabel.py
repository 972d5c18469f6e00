"""Several labels a sample: against scikit-learn, and which labels are left out."""

from __future__ import annotations

import numpy as np
import pytest
import torch
from sklearn.linear_model import LogisticRegression
from sklearn.metrics import average_precision_score
from sklearn.preprocessing import StandardScaler

from ssl_lightning.evaluation.protocols.base import Samples
from ssl_lightning.evaluation.protocols.multilabel import Multilabel, one_against_rest


def tagged(count, labels=4, dim=6, seed=0):
    generator = torch.Generator().manual_seed(seed)
    x = torch.randn(count, dim, generator=generator)
    direction = torch.randn(dim, labels, generator=torch.Generator().manual_seed(9))
    noise = torch.randn(count, labels, generator=generator)
    return Samples(3 * x + 1, x @ direction + noise > torch.linspace(-1, 2, labels), tuple("abcd")[:labels])


@pytest.mark.parametrize(("count", "dim"), [(150, 6), (30, 50)])
def test_each_label_has_the_regression_of_scikit_learn(count, dim):
    train = tagged(count, dim=dim)
    strengths = torch.tensor([0.01, 0.1, 1.0, 0.3])
    model = one_against_rest(train.x, train.target, strengths)
    assert bool(model.converged.all())
    for number, strength in enumerate(strengths.tolist()):
        expected = LogisticRegression(C=strength, tol=1e-10, max_iter=10_000)
        expected.fit(train.x.double().numpy(), train.target[:, number].numpy())
        assert np.allclose(model.weight[:, number], expected.coef_[0], atol=2e-3)
        assert float(model.bias[number]) == pytest.approx(expected.intercept_[0], abs=5e-3)


def test_the_score_is_the_mean_average_precision_of_scikit_learn():
    train, test = tagged(200), tagged(120, seed=1)
    result = Multilabel(strengths=(0.1,)).judge(train, test)
    scaler = StandardScaler().fit(train.x.double())
    precisions = []
    for number in range(4):
        model = LogisticRegression(C=0.1, tol=1e-8, max_iter=1000).fit(
            scaler.transform(train.x.double()), train.target[:, number]
        )
        score = model.decision_function(scaler.transform(test.x.double()))
        precisions.append(average_precision_score(test.target[:, number], score))
    assert result.scores["map"].value == pytest.approx(np.mean(precisions), abs=2e-3)
    assert result.remarks == () and 0.5 < np.mean(precisions) < 0.99


def test_the_strength_is_chosen_on_held_out_samples_to_learn_from():
    """Two features of sixty tell, and there are few samples: a strong penalty is better."""
    train = tagged(100)
    noise = torch.randn(100, 60, generator=torch.Generator().manual_seed(3))
    few = Multilabel().chosen(torch.cat([train.x / 3, noise], dim=1), train.target, seed=0)
    many = tagged(3000)
    assert few < Multilabel().chosen(many.x / 3, many.target, seed=0)


def test_labels_that_nothing_can_be_said_of_are_named_and_left_out():
    train, test = tagged(80), tagged(60, seed=1)
    y, truth = train.target.clone(), test.target.clone()
    y[:, 0], y[:, 1], truth[:, 2] = False, True, False
    result = Multilabel(strengths=(0.1,)).judge(train._replace(target=y), test._replace(target=truth))
    assert result.remarks == (
        "Labels without a positive sample to learn from, left out: 'a'.",
        "Labels without a negative sample to learn from, left out: 'b'.",
        "Labels without a positive judged sample, left out: 'c'.",
    )
    alone = Multilabel(strengths=(0.1,)).judge(train._replace(target=y[:, 3:]), test._replace(target=truth[:, 3:]))
    assert result.scores["map"].value == pytest.approx(alone.scores["map"].value)
    with pytest.raises(ValueError, match="None of 4 labels has positive and negative"):
        Multilabel().judge(train._replace(target=torch.zeros_like(y)), test)
