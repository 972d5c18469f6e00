"""Nothing that a data set was given is left out in silence: what was found is used for something,
or left out for a reason that is told."""

from __future__ import annotations

import json
import os
from collections.abc import Callable
from pathlib import Path
from pydoc_data.topics import topics
from typing import Any

import numpy as np
import pytest
import soundfile
import torch
from PIL import Image
from sets import init_args_of, without_checksums
from ssl_lightning.datamodules import tones
from ssl_lightning.datamodules.audio_folder import AudioFolder
from ssl_lightning.datamodules.image_folder import ImageFolder
from ssl_lightning.datamodules.python_docs import PythonDocs
from ssl_lightning.datamodules.text_files import TextFiles
from ssl_lightning.methods.simclr import SimCLR

from ssl_lightning import Trainer
from ssl_lightning.cli.main import main
from ssl_lightning.data.datamodule import SSLDataModule
from ssl_lightning.data.files.split_names import split_of, splits_of
from ssl_lightning.data.ledger import LeftOut, Tally
from ssl_lightning.plugins.registry import Registry
from ssl_lightning.testing import TinyEncoder, TinyImages


def picture(path: Path) -> None:
    Image.fromarray(np.random.default_rng(len(path.name)).integers(0, 256, (20, 20, 3), dtype=np.uint8)).save(path)


def sound(path: Path) -> None:
    soundfile.write(path, np.random.default_rng(len(path.name)).standard_normal(1600) / 10, 16_000)


def text(path: Path) -> None:
    path.write_text(f"A text of its own in {path.name}.\n\nAnother one.")


Kind = tuple[Callable[[str], SSLDataModule], Callable[[Path], None], str]
KINDS: dict[str, Kind] = {
    "pictures": (lambda root: ImageFolder(root), picture, ".png"),
    "sounds": (lambda root: AudioFolder(root), sound, ".wav"),
    "texts": (lambda root: TextFiles(root), text, ".txt"),
}
ALL = {"train": 4}
LAYOUTS: dict[str, tuple[list[str], dict[str, int]]] = {
    "flat": (["a", "b", "c", "d"], ALL),
    "class folders": (["ant/a", "ant/b", "bee/a", "bee/b"], ALL),
    "Train and Test": (["Train/ant/a", "Train/bee/b", "Test/ant/c"], {"train": 2, "test": 1}),
    "Training and Testing": (["Training/ant/a", "Training/bee/b", "Testing/ant/c"], {"train": 2, "test": 1}),
    "of LibriSpeech": (
        ["train-clean-100/a", "train-other-500/b", "dev-clean/c", "test-clean/d", "test-other/e"],
        {"train": 2, "val": 1, "test": 2},
    ),
    "of TIMIT": (["TRAIN/a", "DEV/b", "TEST/c"], {"train": 1, "val": 1, "test": 1}),
    "train and dev": (["train/ant/a", "train/bee/b", "dev/ant/c"], {"train": 2, "val": 1}),
    "dev and eval": (["train/a", "dev/b", "eval/c"], {"train": 1, "val": 1, "test": 1}),
    "in one folder": (["set/train/a", "set/test/b", "set/spare/c"], {"train": 1, "test": 1}),
    "in folders of folders": (
        ["Übung 1/a b/c/Train/a", "Übung 1/a b/c/Test/b", "Übung 1/a b/c/spare/c"],
        {"train": 1, "test": 1},
    ),
    "unlabelled too": (["train/a", "unlabelled/b", "unlabelled/c"], {"train": 1, "pretrain": 2}),
    "a class called train": (["train/a", "car/b", "plane/c", "plane/d"], ALL),
    "a class called test": (["test-tube/a", "beaker/b", "train station/c", "flask/d"], ALL),
    "spare folder": (["train/a", "test/b", "spare/c", "spare/deep/d"], {"train": 1, "test": 1}),
}
OTHERS = ["notes.pdf", "train/list.xyz", "deep/er/more.xyz", ".hidden", ".cache/a.png", "__MACOSX/b.png", "LICENSE"]


def written(root: Path, names: list[str], write: Callable[[Path], None], suffix: str) -> Path:
    for name in names:
        path = root / f"{name}{suffix}"
        path.parent.mkdir(parents=True, exist_ok=True)
        write(path)
    return root


def entries(root: Path) -> int:
    """The files below a folder; what is hidden or of the system counts as one."""
    count = 0
    for entry in os.scandir(root):
        passed = entry.name.startswith(".") or entry.name == "__MACOSX"
        count += 1 if passed or not entry.is_dir() else entries(Path(entry.path))
    return count


def samples(data: SSLDataModule) -> dict[str, int]:
    """The number of samples in each split, as the data serves them."""
    pretrain = data.pretraining_source() if not isinstance(data, TextFiles) else data.corpus("pretrain")
    sources = {split: data.source(split) for split in ("train", "val", "test")}  # type: ignore[arg-type]
    counted = {split: len(source) for split, source in sources.items() if source is not None}
    if isinstance(data, TextFiles):
        counted = {split: len(files) for split, files in data.files.items()}
    elif pretrain is not None:
        counted["pretrain"] = len(pretrain)  # type: ignore[arg-type]
    return counted


@pytest.fixture(autouse=True)
def kept_here(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("SSL_LIGHTNING_CACHE", str(tmp_path / "kept"))


@pytest.mark.parametrize("layout", LAYOUTS)
@pytest.mark.parametrize("kind", KINDS)
def test_all_files_of_a_folder_are_used_or_left_out_for_a_reason(kind: str, layout: str, tmp_path: Path) -> None:
    build, write, suffix = KINDS[kind]
    names, splits = LAYOUTS[layout]
    root = written(tmp_path / "data", names, write, suffix)
    for name in OTHERS:
        (root / name).parent.mkdir(parents=True, exist_ok=True)
        (root / name).write_bytes(b"?")
    data = build(str(root))
    assert samples(data) == splits
    ledger = [tally for tally in data.ledger() if tally.unit == "files"]
    assert sum(tally.found for tally in ledger) == entries(root)
    assert sum(sum(tally.used.values()) for tally in ledger) == sum(splits.values())
    for tally in ledger:
        assert all(each.count > 0 and each.example for each in tally.left_out), tally
    spare = [each for tally in ledger for each in tally.left_out if "split" in each.reason]
    if len(names) > sum(splits.values()):
        (each,) = spare
        assert "spare" in each.example and each.option == "--data.splits none"
        assert each.count == len(names) - sum(splits.values())
    else:
        assert spare == []


BUILT_IN = {  # train, test, what is pretrained on, and what is left out
    "digits": (1400, 397, 1400, 0),
    "mnist": (60, 20, 60, 0),
    "fashion_mnist": (60, 20, 60, 0),
    "cifar10": (60, 20, 60, 0),
    "cifar100": (60, 20, 60, 0),
    "stl10": (60, 20, 80, 0),
    "image_folder": (24, None, 24, 0),
    "hf_images": (24, None, 24, 0),
    "text_files": (60, None, 60, 0),
    "audio_folder": (24, None, 24, 0),
    "spoken_digits": (24, 30, 24, 1),
    "tones": (2000, 500, 2000, 0),
    "python_docs": None,
}


def test_the_list_of_built_in_data_is_whole() -> None:
    assert set(Registry("ssl_lightning.datamodules")) == set(BUILT_IN)


@pytest.mark.parametrize("name", [name for name, counts in BUILT_IN.items() if counts])
def test_the_sum_holds_for_built_in_data(name: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    without_checksums(monkeypatch)
    init_args = init_args_of(name, tmp_path)
    if name == "spoken_digits":
        (tmp_path / "spoken" / "LICENSE").write_text("free")
    monkeypatch.setattr(tones, "generated", lambda first, count: torch.zeros(count, 1))  # no sample is read
    data = Registry("ssl_lightning.datamodules")[name](**init_args)
    data.prepare_data()
    train, test, pretrain, left_out = BUILT_IN[name]  # type: ignore[misc]
    ledger = {tally.split: tally for tally in data.ledger()}
    assert ledger["train"].found == train and ("test" in ledger) == (test is not None)
    assert ledger.get("pretrain", ledger["train"]).found == pretrain
    assert test is None or (ledger["test"].used == {"test": test} and ledger["test"].found == test)
    assert sum(each.count for tally in ledger.values() for each in tally.left_out) == left_out


def test_what_an_option_leaves_out_is_told(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    without_checksums(monkeypatch)
    data = Registry("ssl_lightning.datamodules")["cifar10"](**init_args_of("cifar10", tmp_path), samples=50)
    tally = data.ledger()[0]
    assert tally.found == 60 and tally.used == {"pretraining": 50}
    (left_out,) = tally.left_out
    assert (left_out.count, left_out.option) == (10, "--data.samples null") and left_out.example


def test_every_paragraph_of_pythons_reference_is_accounted_for() -> None:
    data = PythonDocs()
    ledger = {tally.split: tally for tally in data.ledger()}
    pieces = [piece for text in topics.values() for piece in text.split("\n\n")]
    assert ledger["pretrain"].found + ledger["test"].found + ledger["elsewhere"].found == len(pieces)
    assert ledger["elsewhere"].used == {} and all(each.example for each in ledger["elsewhere"].left_out)


@pytest.mark.parametrize("kind", KINDS)
def test_without_splits_all_is_trained_on(kind: str, tmp_path: Path) -> None:
    build, write, suffix = KINDS[kind]
    root = written(tmp_path / "data", ["train/a", "test/b", "spare/c"], write, suffix)
    assert samples(type(build(str(root)))(str(root), splits="none")) == {"train": 3}


@pytest.mark.parametrize("kind", KINDS)
def test_a_folder_with_nothing_to_train_on_is_refused(kind: str, tmp_path: Path) -> None:
    build, write, suffix = KINDS[kind]
    root = written(tmp_path / "data", ["dev-clean/a", "test-clean/b"], write, suffix)
    with pytest.raises(ValueError, match=r"none to train on.*--data\.splits none"):
        build(str(root))


@pytest.mark.parametrize(
    ("names", "splits"),
    [
        (["wiki.train.raw", "wiki.valid.raw", "wiki.test.raw"], {"train": 1, "val": 1, "test": 1}),
        (["train-00000-of-00002.parquet", "train-00001-of-00002.parquet", "test.parquet"], {"train": 2, "test": 1}),
        (["en_train.jsonl", "en_test.jsonl", "readme.md"], {"train": 1, "test": 1}),
        (["train2017", "val2017", "annotations"], {"train": 1, "val": 1}),
        (["train.txt.gz", "valid.txt"], {"train": 1, "val": 1}),
        (["training_set", "test_set"], {"train": 1, "test": 1}),
        (["trainset", "valset", "TestImages"], {"train": 1, "val": 1, "test": 1}),
        (["trainer", "testbed", "devices", "testament"], {}),
        (["train station", "contest", "latest", "evaluate.py", "devkit"], {}),
        (["train", "eval"], {"train": 1, "val": 1}),
    ],
)
def test_names_of_published_sets_are_known(names: list[str], splits: dict[str, int]) -> None:
    assert {split: len(entries) for split, entries in splits_of(names).items()} == splits


@pytest.mark.parametrize(("value", "split"), [("TRAIN", "train"), ("dev", "val"), ("test-other", "test"), ("a", None)])
def test_values_of_a_split_column_are_known(value: str, split: str | None) -> None:
    assert split_of(value) == split


def test_a_line_says_what_is_left_out_and_the_option_that_changes_it() -> None:
    left_out = [LeftOut("end in .txt", 1200, "a/b.txt"), LeftOut("are small", 1, "c.png", "--data.least 3")]
    assert str(Tally("train", "files", {"pretraining": 5}, left_out, "labels of 3 classes")) == (
        "train: 1,206 files, 5 for pretraining (labels of 3 classes), left out 1,201: 1,200 end in .txt (such as"
        " a/b.txt); 1 are small (such as c.png; --data.least 3)."
    )


@pytest.mark.slow
def test_a_run_says_it_at_the_start_and_keeps_it(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    data = TinyImages(probe_sets={"other": TinyImages(samples=32)})
    trainer = Trainer(accelerator="cpu", max_steps=1, default_root_dir=tmp_path)
    trainer.fit(SimCLR(TinyEncoder()), data)
    kept = json.loads((trainer.run_folder / "data.json").read_text())  # type: ignore[operator]
    assert kept == {name: [tally.as_json() for tally in part] for name, part in data.ledgers().items()}
    assert list(kept) == ["TinyImages", "other"]
    printed = capsys.readouterr().out
    assert all(f"{name}, {tally}\n" in printed for name, part in data.ledgers().items() for tally in part)


def test_the_command_says_it_and_draws_samples(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    root = written(tmp_path / "data", ["train/ant/a", "train/bee/b", "test/ant/c", "spare/d"], picture, ".png")
    arguments: list[Any] = ["data", "image_folder", "--data.root", str(root), "--data.image_size", "16"]
    assert main([*arguments, "--to", str(tmp_path / "look")]) == 0
    out = capsys.readouterr().out
    assert "ImageFolder, train: 2 files for pretraining (labels of 2 classes)." in out
    assert "left out 1: 1 are in no folder of a split (such as spare/d.png; --data.splits none)." in out
    assert (tmp_path / "look" / "views.png").is_file()
    assert main(["data"]) == 2 and "Missing: the name of a data set" in capsys.readouterr().err
    assert main(["data", "image_foldr"]) == 2 and "image_folder" in capsys.readouterr().err
    assert main(["data", "image_folder", "--data.rot", "x"]) == 2 and "--data.root" in capsys.readouterr().err
