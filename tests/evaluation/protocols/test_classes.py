"""kNN and regression as protocols give the closing table's numbers."""

from __future__ import annotations

from dataclasses import fields, is_dataclass

import pytest
import torch

from ssl_lightning.evaluation.measures import balanced
from ssl_lightning.evaluation.protocol import closing_row
from ssl_lightning.evaluation.protocols.base import Samples
from ssl_lightning.evaluation.protocols.classes import KNN, Linear
from ssl_lightning.evaluation.protocols.known import PROTOCOLS, protocol_class


def clouds(count, classes=3, dim=5, seed=0):
    generator = torch.Generator().manual_seed(seed)
    y = torch.arange(count) % classes
    return Samples(torch.eye(classes, dim)[y] + 0.6 * torch.randn(count, dim, generator=generator), y)


@pytest.mark.parametrize("seed", [0, 3])
def test_knn_and_linear_have_the_numbers_of_the_closing_table(seed):
    train, test = clouds(90), clouds(60, seed=1)
    row = closing_row(train.x, train.target, test.x, test.target, labels_per_class=4, draws=3, seed=seed)
    for cls in (KNN, Linear):
        scores = cls(labels_per_class=4, draws=3).judge(train, test, seed).scores
        assert list(scores) == ["accuracy", "accuracy_4"]
        assert scores["accuracy"].draws == pytest.approx(row[cls.name]["draws"], abs=1e-12)
        assert scores["accuracy_4"].draws == pytest.approx(row[f"{cls.name}_4"]["draws"], abs=1e-12)


def test_settings_of_knn_reach_its_votes():
    train, test = clouds(90), clouds(60, seed=1)
    nearest = (torch.nn.functional.normalize(test.x) @ torch.nn.functional.normalize(train.x).T).argmax(dim=1)
    expected = balanced(train.target[nearest] == test.target, test.target)
    assert KNN(k=1, draws=1).judge(train, test).scores["accuracy"].value == pytest.approx(expected)
    assert KNN(k=1, labels_per_class=0).judge(train, test).scores.keys() == {"accuracy"}


@pytest.mark.parametrize("name", PROTOCOLS)
def test_every_protocol_has_a_name_a_source_needs_and_settings_with_defaults(name):
    cls = protocol_class(name)
    assert is_dataclass(cls) and cls.name == name and cls.source and cls.__doc__
    assert cls.needs.features in ("vectors", "tokens")
    settings = cls().settings
    assert {each.name for each in fields(cls)} <= settings.keys()
