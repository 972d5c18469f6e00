"""Data says in a line where there is nothing to see, where mirrored images may mean something else,
and where one class holds nearly all samples."""

from __future__ import annotations

import pytest
import torch
from ssl_lightning.datamodules.digits import Digits
from ssl_lightning.datamodules.image_folder import ImageFolder
from ssl_lightning.datamodules.tones import Tones

from ssl_lightning.data.images.sides import sides_in
from ssl_lightning.data.labels import dominant
from ssl_lightning.data.sources import InMemory
from ssl_lightning.testing import TinyText
from ssl_lightning.types import View


def normalised(data: Digits | ImageFolder, pictures: torch.Tensor) -> View:
    mean, std = (torch.tensor(each)[:, None, None] for each in (data.recipe.mean, data.recipe.std))
    return View((pictures - mean) / std)


def test_views_that_are_nearly_of_one_value_are_told_with_the_remedy_of_their_data() -> None:
    for data, remedy in ((Digits(), "weaken --data.augmentation"), (ImageFolder(root="."), "--data.window")):
        seen = torch.rand(12, data.channels, 16, 16)
        dark = seen * torch.tensor([0.01] * 3 + [1.0] * 9)[:, None, None, None]
        assert data.advice([normalised(data, seen)]) == []
        (line,) = data.advice([normalised(data, seen), normalised(data, 0.01 * seen)])
        assert line.startswith("12 of 24 views show next to nothing") and remedy in line
        assert data.advice([normalised(data, dark)]) and not data.advice([normalised(data, dark[1:])])  # 3, 2 views


def test_silence_is_told_and_texts_are_not_looked_at() -> None:
    data = Tones(features="wave")
    loud = torch.randn(4, 8000) * torch.linspace(0, 1, 8000)
    assert data.advice([View(loud)]) == []
    assert data.advice([View(0 * loud)])[0].startswith("4 of 4 views show next to nothing")
    assert TinyText().advice([View(torch.ones(4, 12, dtype=torch.int64))]) == []


def test_mirrored_views_of_data_whose_own_recipe_mirrors_none_are_told() -> None:
    view = normalised(Digits(), torch.rand(4, 1, 16, 16))
    assert Digits().advice([view]) == []
    (line,) = Digits(augmentation={"flip": 0.25}).advice([view])
    assert line.startswith("25 % of the views are mirrored") and line.endswith("set --data.augmentation.flip 0.")


@pytest.mark.parametrize(
    ("names", "part"),
    [
        ("abcdefg", "like letters (a, b, ...)"),
        ("\u3042\u3044\u3046\u3048\u304a", "like letters"),
        ("0123456789", "called 0 to 9"),
        (["left hand", "right hand", "foot"], "'left hand' and 'right hand'"),
        (["Right", "Left"], "'left' and 'right'"),
        ("abc", ""),
        (["0", "1"], ""),
        ([str(each) for each in range(11)], ""),
        (["EarLeft", "EarRight"], "'earleft' and 'earright'"),
        (["leftover", "other"], ""),
        (["left hand", "other"], ""),
        (["cat", "dog"], ""),
        ([], ""),
    ],
)
def test_sides_are_told_from_names_of_classes(names: list[str], part: str) -> None:
    said = sides_in(list(names))
    assert part in said and bool(part) == bool(said)


def test_mirrored_letters_are_told_unless_nothing_is_mirrored() -> None:
    for flip, lines in ((0.5, 1), (0.0, 0)):
        data = ImageFolder(root=".", augmentation={"flip": flip})
        data.class_names = [*"abcdef"]
        assert len(data.advice([normalised(data, torch.rand(4, 3, 16, 16))])) == lines


def test_a_class_that_holds_nearly_all_samples_is_told_with_the_splits() -> None:
    labels = torch.tensor([0] * 95 + [1] * 5)
    said = ", 95 % of them 'normal': accuracies count every class alike"
    assert dominant(labels, ["normal", "lesion"]) == said
    assert not any(dominant(some, ["normal", "lesion"]) for some in (labels[:60], labels[85:], labels[:0]))
    assert dominant(1 - labels, None).startswith(", 95 % of them class 1")
    data = Digits()
    data.class_names = ["normal", "lesion"]
    assert said in str(data.tally("train", InMemory(torch.zeros(100, 1, 8, 8), labels), "pretraining"))
