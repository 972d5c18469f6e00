"""Classes of pictures, and of sounds: by folders at any level, and by a list."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import pytest
from PIL import Image
from sets import write_sounds
from ssl_lightning.datamodules.audio_folder import AudioFolder
from ssl_lightning.datamodules.image_folder import ImageFolder

TREE = ("outdoor/temple/0", "outdoor/beach/1", "indoor/hall/2", "indoor/temple/3", "park/4")


@pytest.fixture(autouse=True)
def cache(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("SSL_LIGHTNING_CACHE", str(tmp_path / "cache"))


def pictures(root: Path, names: tuple[str, ...], **arguments: Any) -> ImageFolder:
    for number, name in enumerate(names):
        path = root / f"{name}.png"
        path.parent.mkdir(parents=True, exist_ok=True)
        Image.new("RGB", (16, 16), (number, 0, 0)).save(path)
    return ImageFolder(str(root), image_size=16, batch_size=2, **arguments)


def sounds(root: Path, names: tuple[str, ...], **arguments: Any) -> AudioFolder:
    write_sounds(root, [f"{name}.wav" for name in names])
    return AudioFolder(str(root), batch_size=2, **arguments)


@pytest.mark.parametrize("modality", [pictures, sounds])
def test_a_file_s_class_may_be_the_folder_that_holds_it(tmp_path: Path, modality: Any) -> None:
    data = modality(tmp_path / "places", TREE, labels="parent")
    source = data.split("train")
    assert data.class_names == ("beach", "hall", "park", "temple")
    classes = {source.name(n)[-5:-4]: data.class_names[label] for n, label in enumerate(source.labels.tolist())}
    assert classes == {"0": "temple", "1": "beach", "2": "hall", "3": "temple", "4": "park"}


@pytest.mark.parametrize("modality", [pictures, sounds])
def test_folders_of_several_levels_are_no_classes_unasked_and_the_line_says_so(tmp_path: Path, modality: Any) -> None:
    data = modality(tmp_path / "places", TREE)
    (tally,) = data.ledger()
    assert data.labelled_split is None and tally.labels == (
        "no labels; --data.labels folders takes the 3 folders that lie right below the root (indoor, outdoor, ...) and"
        " --data.labels parent takes the 4 folders that hold the files (beach, hall, ...) for classes"
    )
    assert modality(tmp_path / "places", TREE, labels="none").ledger()[0].labels == ""


@pytest.mark.parametrize("modality", [pictures, sounds])
def test_what_is_pretrained_on_alone_needs_no_labels(tmp_path: Path, modality: Any) -> None:
    names = ("train/a/0", "train/b/1", "test/a/2", "unlabelled/3")
    told = {tally.split: tally.labels for tally in modality(tmp_path / "files", names).ledger()}
    assert told == {"train": "labels of 2 classes", "test": "labels of 1 class", "pretrain": ""}


@pytest.mark.parametrize("modality", [pictures, sounds])
def test_what_is_tested_on_may_lie_in_no_class_folder(tmp_path: Path, modality: Any) -> None:
    """As in competitions, which keep the labels of the test files; or some of them."""
    names = ("train/a/0", "train/b/1", "test/2", "test/3")
    data = modality(tmp_path / "flat", names)
    assert data.labelled_samples("test") is None and len(data.split("test")) == 2
    assert [tally.found for tally in data.ledger()] == [2, 2]
    data = modality(tmp_path / "some", (*names, "test/b/4"))
    assert data.split("test").labels.tolist().count(-1) == 2 and len(data.labelled_samples("test")) == 1
    tally = data.ledger()[1]
    assert tally.used == {"test": 1} and [(each.reason, each.count) for each in tally.left_out] == [
        ("have no label", 2)
    ]


def test_splits_are_looked_for_above_the_classes(tmp_path: Path) -> None:
    names = tuple(f"{split}/{name}" for split in ("train", "test") for name in TREE)
    data = pictures(tmp_path / "places", names, labels="parent")
    assert data.class_names is None and data.num_classes == 4
    test = data.split("test")
    assert test is not None and test.labels is not None and sorted(test.labels.tolist()) == [0, 1, 2, 3, 3]


LINES = ("a/0,cat,train", "a/1,dog,train", "2,,train", "a/3,cat,TEST", "4,dog,dev", "5,,unlabelled")


def listed(root: Path, form: str = "csv", header: str = "path,label,split", **arguments: Any) -> ImageFolder:
    pictures(root, tuple(line.split(",")[0] for line in LINES))
    rows = [header, *(line.replace(",", ".png,", 1) for line in LINES)]
    mark = {"csv": ",", "tsv": "\t"}[form]
    (root / f"list.{form}").write_text("\n".join(row.replace(",", mark) for row in rows))
    return ImageFolder(str(root / f"list.{form}"), image_size=16, batch_size=2, **arguments)


@pytest.mark.parametrize("form", ["csv", "tsv"])
def test_a_list_gives_pictures_their_classes_and_splits(tmp_path: Path, form: str) -> None:
    data = listed(tmp_path / "photos", form)
    train, test, val, more = data.split("train"), data.split("test"), data.split("val"), data.pretraining_source()
    assert train is not None and test is not None and val is not None and more is not None
    assert train.labels is not None and train.labels.tolist() == [0, 1, -1] and data.class_names == ("cat", "dog")
    assert test.labels is not None and test.labels.tolist() == [0] and len(val) == len(more) == 1
    assert train.name(0).endswith("photos/a/0.png") and data.fetch_clean(train, train.labels[:1]).shape == (
        1,
        3,
        16,
        16,
    )
    told = [str(tally) for tally in data.ledger()]
    assert told[0] == (
        "train: 3 files, 2 for probes (labels of 2 classes), left out 1: 1 have no label (such as"
        f" {tmp_path}/photos/2.png)."
    )
    assert sum(tally.found for tally in data.ledger()) == len(LINES)


def test_a_list_s_columns_go_by_name(tmp_path: Path) -> None:
    data = listed(tmp_path, header="file,kind,part", path_column="file", label_column="kind", split_column="part")
    assert data.num_classes == 2 and len(data.split("test") or ()) == 1
    assert listed(tmp_path, labels="none").split("train").labels is None  # type: ignore[union-attr]
    assert len(listed(tmp_path, splits="none").split("train") or ()) == len(LINES)
    with pytest.raises(ValueError, match=r"no column 'sort'.* --data\.label_column"):
        listed(tmp_path, label_column="sort")
    with pytest.raises(ValueError, match=r"no column 'path'.* It has file.* --data\.path_column"):
        listed(tmp_path, header="file,label,split")
    with pytest.raises(FileNotFoundError, match=r"There is no list '.*nosuch\.csv'"):
        ImageFolder(str(tmp_path / "nosuch.csv"))


@pytest.mark.parametrize("labels", ["auto", "none"])
def test_a_list_of_sounds_has_the_classes_of_its_column_label_too(tmp_path: Path, labels: Any) -> None:
    write_sounds(tmp_path, ["0.wav", "1.wav"])
    (tmp_path / "list.csv").write_text("path,label\n0.wav,a\n1.wav,b\n")
    train = AudioFolder(str(tmp_path / "list.csv"), labels=labels).source("train")
    assert train is not None and (train.labels is None if labels == "none" else train.labels.tolist() == [0, 1])  # type: ignore[union-attr]


@pytest.mark.parametrize("modality", [ImageFolder, AudioFolder])
def test_a_group_is_held_out_whole(tmp_path: Path, modality: Any) -> None:
    lines = [f"{number}.x,{'ab'[number % 2]},patient {number // 4}" for number in range(80)]
    (tmp_path / "list.csv").write_text("\n".join(["path,label,patient", *lines]))
    data = modality(str(tmp_path / "list.csv"), label_column="label", group_column="patient")
    splits = data.probe_splits()
    assert splits is not None
    patients = [{int(part.name(n).split("/")[-1][:-2]) // 4 for n in range(len(part))} for part in splits]
    assert not patients[0] & patients[1] and len(patients[1]) >= 2 and patients[0] | patients[1] == set(range(20))
    few = modality(str(tmp_path / "list.csv"), label_column="label").probe_splits()
    assert few is not None and len(few[1]) == 80 // 7
