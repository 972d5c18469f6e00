"""The public sets are read from small files in their original formats."""

from __future__ import annotations

from collections import Counter
from pathlib import Path
from typing import Any

import pytest
import torch
from sets import classes, pixels, without_checksums, write_public
from ssl_lightning.datamodules.fashion_mnist import FashionMNIST
from ssl_lightning.datamodules.public import CIFAR10, CIFAR100, MNIST, STL10, PublicImages

from ssl_lightning.data.sources import InMemory, Subset


@pytest.fixture(scope="module")
def root(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return write_public(tmp_path_factory.mktemp("data"))


@pytest.fixture(autouse=True)
def no_checksums(monkeypatch: pytest.MonkeyPatch) -> None:
    without_checksums(monkeypatch)


SETS: list[tuple[type[PublicImages], int, int]] = [
    (MNIST, 28, 1),
    (FashionMNIST, 28, 1),
    (CIFAR10, 32, 3),
    (CIFAR100, 32, 3),
    (STL10, 96, 3),
]


@pytest.mark.parametrize(("cls", "side", "channels"), SETS)
def test_each_set_gives_the_pixels_and_labels_of_its_files(
    root: Path, cls: type[PublicImages], side: int, channels: int
) -> None:
    data = cls(str(root), download=False)
    data.prepare_data()
    for split in ("train", "test"):
        source = data.split(split)  # type: ignore[arg-type]
        assert source is not None and source.labels is not None and source.in_memory
        assert torch.equal(source.fetch(torch.arange(len(source))), torch.from_numpy(pixels(split, side, channels)))
        assert source.labels.tolist() == classes(split).tolist()
    splits = data.probe_splits()
    assert splits is not None and len(splits[0]) + len(splits[1]) == 60
    assert data.class_names is None or len(data.class_names) == 10


def test_stl10_pretrains_on_its_unlabelled_images_and_is_judged_on_the_labelled_ones(root: Path) -> None:
    data = STL10(str(root), download=False)
    assert data.training_split.labels is None
    assert torch.equal(data.training_split.fetch(torch.arange(80)), torch.from_numpy(pixels("unlabeled", 96, 3)))
    assert len(STL10(str(root), download=False, samples=30).training_split) == 30
    splits, test = data.probe_splits(), data.split("test")
    assert splits is not None and test is not None and [len(part) for part in (*splits, test)] == [52, 8, 20]
    assert data.state_dict()["samples"] == 80


@pytest.mark.parametrize(
    ("cls", "expected"), [(MNIST, "MNIST/raw"), (CIFAR10, "cifar-10-batches-py"), (STL10, "stl10_binary")]
)
def test_a_missing_set_is_named_with_where_it_was_looked_for(
    tmp_path: Path, cls: type[PublicImages], expected: str
) -> None:
    with pytest.raises(
        ValueError, match=f"There is no {cls.title} in root='{tmp_path}': expected {tmp_path}/{expected}.*download true"
    ):
        cls(str(tmp_path), download=False).split("train")


def test_a_set_that_cannot_be_downloaded_is_told_in_one_line(tmp_path: Path) -> None:
    (tmp_path / "file").write_text("no folder")
    with pytest.raises(
        ValueError,
        match=r"There is no MNIST in root='.*file', and it cannot be downloaded .*NotADirectoryError.*--data\.root",
    ):
        MNIST(str(tmp_path / "file")).prepare_data()


def test_a_part_is_stratified_and_fixed_and_the_test_split_stays_whole(root: Path) -> None:
    parts = [MNIST(str(root), download=False, samples=20, seed=seed).split("train") for seed in (0, 1)]
    for part in parts:
        assert isinstance(part, Subset) and part.labels is not None
        assert Counter(part.labels.tolist()) == dict.fromkeys(range(10), 2)
    assert parts[0].indices.equal(parts[1].indices)  # type: ignore[union-attr]
    data = MNIST(str(root), download=False, samples=20)
    assert len(data.training_split) == 20 and len(data.split("test") or ()) == 20
    assert isinstance(MNIST(str(root), download=False, samples=60).split("train"), InMemory)
    with pytest.raises(ValueError, match="samples=61 is too many; MNIST has 60 samples to pretrain on"):
        MNIST(str(root), download=False, samples=61).split("train")


@pytest.mark.parametrize(("size", "stem"), [(32, True), (64, True), (96, False)])
def test_the_default_encoder_suits_size_and_channels(size: int, stem: bool) -> None:
    def init_args(cls: type[PublicImages]) -> dict[str, Any]:
        return cls.suited_encoders({"image_size": size})["Encoder"]["init_args"]  # type: ignore[no-any-return]

    assert init_args(CIFAR10) == {"name": "resnet18", "small_images": stem, "channels": 3}
    assert init_args(MNIST)["channels"] == 1
