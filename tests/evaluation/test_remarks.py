"""Unequal classes, and classes that a split lacks, are told under the table."""

from __future__ import annotations

import torch

from ssl_lightning.data.sources import stratified_sample
from ssl_lightning.evaluation.remarks import class_remarks, fit_remarks, guessed

CLASSES = torch.tensor([0] * 190 + [1] * 20 + [2] * 3 + [3])


def test_the_largest_class_and_those_that_a_split_lacks_are_named():
    names = ["normal", "nodule", "mass", "fluid"]
    lines = class_remarks(CLASSES[:213], CLASSES[[0, 0, 0, 0, 200, 213]], names, "test")
    assert lines == [
        "'normal' holds 66.7 % of the test samples, so every class counts alike, in the probes too.",
        "The training samples lack 1 of 4 classes, so they cannot be learned: 'fluid'.",
        "The test samples lack 1 of 4 classes: 'mass'.",
    ]
    assert class_remarks(torch.arange(9) % 3, torch.arange(6) % 3, None, "test") == []


def test_naming_the_largest_class_is_a_guess():
    assert guessed(CLASSES, CLASSES, 10)["mean"] == 0.25
    assert guessed(CLASSES, CLASSES[190:], 10)["mean"] == 0


def test_regressions_at_the_cap_or_at_the_end_are_named():
    cells = {"linear": {"mean": 0.5, "std": 0.0, "n": 1, "unconverged": 1}, "knn": {"mean": 0.5, "std": 0.0, "n": 1}}
    assert fit_remarks({"raw": cells}) == ["Regressions that stopped before they converged: raw features, linear all."]
    assert fit_remarks({"raw": {"knn": cells["knn"]}}) == []


def test_a_sample_of_unequal_classes_has_each_in_proportion_and_none_is_lost():
    index = stratified_sample(CLASSES, 60)
    assert len(index) == 60 and bool((index.diff() > 0).all())
    assert CLASSES[index].bincount().tolist() == [51, 6, 2, 1]
    assert torch.equal(stratified_sample(CLASSES, 500), torch.arange(214))
    assert len(stratified_sample(CLASSES, 3)) == 3
