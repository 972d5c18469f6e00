"""Targets from a file: what is taken for what, and which sample a line names."""

from __future__ import annotations

import json
from pathlib import Path

import pyarrow as pa
import pyarrow.parquet as pq
import pytest
import torch
from PIL import Image
from ssl_lightning.datamodules.digits import Digits
from ssl_lightning.datamodules.image_folder import ImageFolder

from ssl_lightning.data.datamodule import Split
from ssl_lightning.data.sources import InMemory, Source
from ssl_lightning.evaluation.protocols.parts import described, task_of
from ssl_lightning.evaluation.protocols.targets import read_targets
from ssl_lightning.testing import TinyImages

COLUMNS = {
    "path": ["a.png", "b.png", "c.png"],
    "age": [1, 2.5, None],
    "red": [0, 1, 1],
    "tags": [["big"], [], ["big", "old"]],
    "note": ["x", "y", "z"],
}


def written(folder, suffix):
    """The columns as a file of a format; lists of csv and tsv are in a column `labels`."""
    path = folder / f"targets{suffix}"
    lines = [dict(zip(COLUMNS, line, strict=True)) for line in zip(*COLUMNS.values(), strict=True)]
    if suffix == ".parquet":
        pq.write_table(pa.table(COLUMNS), path)
    elif suffix == ".jsonl":
        path.write_text("\n".join(json.dumps(line) for line in lines))
    else:
        mark = {".csv": ",", ".tsv": "\t"}[suffix]
        rows = [["path", "age", "red", "labels", "note"]]
        rows += [[line["path"], line["age"] or "", line["red"], ";".join(line["tags"]), line["note"]] for line in lines]
        path.write_text("\n".join(mark.join(map(str, row)) for row in rows))
    return path


@pytest.mark.parametrize("suffix", [".csv", ".tsv", ".jsonl", ".parquet"])
def test_numbers_are_values_and_zeros_and_ones_and_lists_are_labels(tmp_path, suffix):
    targets = read_targets(written(tmp_path, suffix))
    assert targets.keys == ["a.png", "b.png", "c.png"]
    assert targets.columns == ("age",) and targets.values == [[1.0], [2.5], None]
    assert targets.labels == ("red", "big", "old")
    assert [sorted(each) for each in targets.given] == [[1], [0], [0, 1, 2]]
    assert targets.remarks == (
        "Values to predict: 'age'.",
        "Labels: 'red', 'big', 'old' (3).",
        "Not used, since they are neither numbers nor lists: 'note'.",
    )


@pytest.fixture
def folder(tmp_path: Path) -> Path:
    for split in ("train", "test"):
        for number in range(4):
            path = tmp_path / "photos" / split / "ab"[number % 2] / f"{number}.png"
            path.parent.mkdir(parents=True, exist_ok=True)
            Image.new("RGB", (8, 8), (10 * number, 0, 0)).save(path)
    return tmp_path / "photos"


@pytest.mark.parametrize("kind", ["absolute", "relative to the file", "the end"])
def test_a_sample_is_named_by_its_path(tmp_path, folder, kind):
    data = ImageFolder(str(folder), image_size=8)
    data.prepare_data()
    names = {
        "absolute": lambda path: str(path.resolve()),
        "relative to the file": lambda path: str(path.relative_to(tmp_path)),
        "the end": lambda path: "/".join(path.parts[-3:]),
    }
    paths = sorted(folder.rglob("*.png"))
    listed = paths if kind != "the end" else paths[::-1]
    lines = [f"{names[kind](path)},{path.stem}.5" for path in listed]
    table = tmp_path / "targets.csv"
    table.write_text("\n".join(["path,value", *lines]))
    task = task_of(data, "values", read_targets(table), (100, 100))
    for part, split in ((task.train, "train"), (task.judged, "test")):
        stems = [Path(part.source.name(number)).stem for number in part.index.tolist()]
        assert sorted(stems) == ["0", "1", "2", "3"], split
        assert part.target[:, 0].tolist() == [float(f"{stem}.5") for stem in stems]
    assert task.remarks == () and task.split == "test"


class Unlabelled(TinyImages):
    """Samples without classes and without other splits."""

    def source(self, split: Split) -> Source | None:
        whole = super().source(split)
        return InMemory(whole.fetch(torch.arange(len(whole)))) if whole is not None and split == "train" else None


class TrainOnly(TinyImages):
    """Samples with classes, and no other splits: what `val` gives is a part of `train`."""

    def source(self, split: Split) -> Source | None:
        return super().source(split) if split == "train" else None


@pytest.mark.parametrize("data_class", [TinyImages, TrainOnly, Unlabelled])
def test_nothing_is_judged_that_was_learned_from(data_class, tmp_path):
    """With a test split; and with neither test nor val, where a fifth is withheld."""
    table, data = tmp_path / "targets.csv", data_class()
    lines = [f"{split},{number},{number}.5" for split in ("train", "test") for number in range(64)]
    table.write_text("\n".join(["split,index,value", *lines]))
    task = task_of(data, "values", read_targets(table), (100, 100))
    assert (task.train.source is task.judged.source) == (data_class is not TinyImages)
    if data_class is not TinyImages:
        assert task.split == "withheld" and len(task.judged.index) == 12
        assert sorted([*task.train.index.tolist(), *task.judged.index.tolist()]) == list(range(64))
        for part in (task.train, task.judged):
            assert part.target[:, 0].tolist() == [each + 0.5 for each in part.index.tolist()]


def test_samples_without_a_target_and_lines_without_a_sample_are_named_and_counted(tmp_path):
    data, table = Digits(), tmp_path / "targets.csv"
    lines = [f"{split},{number},{number % 7}" for split in ("train", "test") for number in range(2, 50)]
    table.write_text("\n".join(["split,index,value", *lines, "train,5000,1", "valid,3,1"]))
    task = task_of(data, "values", read_targets(table), (20, 100))
    assert len(task.train.index) == 20 and len(task.judged.index) == 48
    assert task.judged.target[:, 0].tolist() == [float(number % 7) for number in range(2, 50)]
    train = data.split("train")
    assert task.remarks[0].startswith(f"{len(train) - 48:,} of {len(train):,} train samples have no target")
    assert train.name(0) in task.remarks[0]
    assert "2 of 98 lines name no sample of these splits: ('train', 5000), ('valid', 3)." in task.remarks
    table.write_text("path,value\nelsewhere.png,3")
    with pytest.raises(ValueError, match="names none of the 1,400 train samples, which are called"):
        task_of(data, "values", read_targets(table), (20, 100))


def test_the_digest_of_a_task_tells_samples_and_targets_apart(tmp_path):
    table = tmp_path / "targets.csv"

    def digest(count=40, shift=0, most=100):
        lines = [f"{split},{number},{number + shift}" for split in ("train", "test") for number in range(count)]
        table.write_text("\n".join(["split,index,value", *lines]))
        return task_of(Digits(), "values", read_targets(table), (most, most)).digest

    assert digest() == digest()
    assert len({digest(), digest(count=39), digest(shift=1), digest(most=30)}) == 4
    assert len({task_of(Digits(), "classes", None, (most, most)).digest for most in (100, 101)}) == 2


def test_a_transform_is_described_by_what_it_does():
    one, same, other = (described(Digits(image_size=size).transform("none")) for size in (16, 16, 32))
    assert one == same != other
    assert json.loads(json.dumps(one)) == one
    assert torch.tensor(other["operations"]["0"]["size"]) == 32
