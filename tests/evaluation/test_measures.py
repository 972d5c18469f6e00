"""Every class counts alike: balanced accuracy, class weights, and their error."""

from __future__ import annotations

import numpy as np
import pytest
import torch
from sklearn.metrics import balanced_accuracy_score, roc_auc_score
from sklearn.utils.class_weight import compute_class_weight

from ssl_lightning.evaluation.measures import Outcome, balanced, class_weights, judged, outcome


def test_they_are_those_of_scikit_learn():
    random = np.random.default_rng(0)
    labels = random.choice(4, size=300, p=[0.8, 0.15, 0.04, 0.01])
    predicted = np.where(random.random(300) < 0.6, labels, random.integers(4, size=300))
    hits = torch.from_numpy(predicted == labels)
    assert balanced(hits, torch.from_numpy(labels)) == pytest.approx(balanced_accuracy_score(labels, predicted))
    expected = compute_class_weight("balanced", classes=np.arange(4), y=labels)
    assert class_weights(torch.from_numpy(labels)).numpy() == pytest.approx(expected)
    scores, two = torch.from_numpy(random.normal(size=(300, 2))), labels > 0
    result = outcome(scores, torch.from_numpy(two).long())
    assert result.auroc == pytest.approx(roc_auc_score(two, scores[:, 1] - scores[:, 0]))


def test_equal_classes_have_the_weight_one_and_the_accuracy():
    labels = torch.arange(40) % 4
    assert torch.equal(class_weights(labels), torch.ones(4))
    hits = torch.arange(40) < 26
    assert balanced(hits, labels) == pytest.approx(26 / 40)


def test_who_always_names_the_majority_is_at_chance():
    labels = (torch.arange(200) < 10).long()
    assert balanced(labels == 0, labels) == 0.5
    result = outcome(torch.tensor([[1.0, 0.0]]).expand(200, 2), labels)
    assert result.auroc == 0.5


def test_the_error_is_the_deviation_over_samples_of_the_same_size():
    random = np.random.default_rng(0)
    labels = torch.from_numpy(np.repeat([0, 1], [400, 40]))
    chance = np.where(labels == 0, 0.9, 0.6)
    cells = [judged([Outcome(torch.from_numpy(random.random(440) < chance))], labels, 10) for _ in range(300)]
    assert np.std([cell["mean"] for cell in cells]) == pytest.approx(
        np.mean([cell["error"] for cell in cells]), rel=0.1
    )
    perfect = judged([Outcome(torch.ones(4, dtype=torch.bool))], torch.tensor([0, 0, 1, 1]), 4)
    assert perfect["error"] > 0.1, "of four samples, all right may be luck"


def test_an_area_that_is_not_defined_stops_no_run():
    """A batch or a split of one class alone, or an encoder that has diverged."""
    scores, labels = torch.tensor([[0.2, 0.8], [0.6, 0.4]]), torch.tensor([0, 1])
    assert outcome(scores, labels).auroc == 0.0
    for broken, given in ((scores, labels * 0), (scores * torch.nan, labels), (scores * torch.inf, labels)):
        assert np.isnan(outcome(broken, given).auroc)
