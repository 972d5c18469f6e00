"""A file that a run is judged on and that cannot be read is told before the run, with all others of
its kind."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import pytest
from PIL import Image
from sets import write_sounds
from ssl_lightning.datamodules.audio_folder import AudioFolder
from ssl_lightning.datamodules.image_folder import ImageFolder
from ssl_lightning.methods.simclr import SimCLR
from unreadable import Line, Tables, write_tables

import ssl_lightning
from ssl_lightning.data.files.source import Unreadable
from ssl_lightning.data.readable import check_readable
from ssl_lightning.encoders.conv import ConvEncoder
from ssl_lightning.run.training import Training
from ssl_lightning.testing import TinyImages


@pytest.fixture(autouse=True)
def cache(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("SSL_LIGHTNING_CACHE", str(tmp_path / "cache"))


def trainer(folder: Path) -> ssl_lightning.Trainer:
    return ssl_lightning.Trainer(
        max_epochs=1, accelerator="cpu", default_root_dir=folder / "runs", enable_progress_bar=False
    )


def cut(path: Path) -> None:
    """Half of a picture; a sound without its header, since half a sound is a shorter one."""
    half = path.stat().st_size // 2
    path.write_bytes(path.read_bytes()[:half] if path.suffix == ".png" else path.read_bytes()[half:])


def pictures(root: Path, splits: tuple[str, ...] = ("train", "val", "test"), **arguments: Any) -> ImageFolder:
    for number in range(24):
        for split in splits:
            path = root / split / "ab"[number % 2] / f"{number}.png"
            path.parent.mkdir(parents=True, exist_ok=True)
            Image.effect_noise((24, 24), 10 * number + 1).save(path)
    return ImageFolder(str(root), image_size=16, batch_size=8, channels=1, **arguments)


def sounds(root: Path, **arguments: Any) -> AudioFolder:
    splits = ("train", "val", "test")
    write_sounds(root, [f"{split}/{'ab'[number % 2]}/{number}.wav" for split in splits for number in range(12)])
    return AudioFolder(str(root), seconds=0.2, batch_size=4, **arguments)


def no_step(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(Training, "training_step", lambda *args: pytest.fail("it trained"))


@pytest.mark.parametrize("modality", [pictures, sounds])
def test_all_broken_files_of_val_and_test_are_told_at_once_before_the_training(
    tmp_path: Path, modality: Any, monkeypatch: pytest.MonkeyPatch
) -> None:
    data = modality(tmp_path / "data")
    suffix = "png" if modality is pictures else "wav"
    for name in ("test/b/7", "test/a/0"):
        cut(tmp_path / "data" / f"{name}.{suffix}")
    no_step(monkeypatch)
    encoder = ConvEncoder(width=4, channels=1)
    with pytest.raises(
        Unreadable, match=r"2 of the \d+ \w+ of test cannot be read: .*test/a/0.*; .*test/b/7.*"
    ) as error:
        trainer(tmp_path).fit(SimCLR(encoder), datamodule=data)
    assert str(error.value).endswith("out with --data.unreadable skip.") and "\n" not in str(error.value)


def test_tables_of_another_package_are_read_too(tmp_path: Path) -> None:
    data = Tables(folder=str(write_tables(tmp_path / "tables")))
    data.serve(SimCLR(Line()))
    check_readable(data)
    broken = sorted((tmp_path / "tables" / "test").iterdir())[:3]
    for path in broken:
        path.write_text("no number")
    with pytest.raises(Unreadable, match=f"3 of the .*{broken[0].name}: .*{broken[1].name}.*{broken[2].name}"):
        check_readable(Tables(folder=str(tmp_path / "tables")))


def test_where_they_are_skipped_they_are_listed_and_too_many_are_refused(tmp_path: Path) -> None:
    pictures(tmp_path / "data")
    cut(tmp_path / "data" / "test" / "a" / "0.png")
    few = pictures(tmp_path / "data", (), unreadable="skip", max_unreadable=0.05)
    few.serve(SimCLR(ConvEncoder(width=4, channels=1)))
    check_readable(few)
    test: Any = few.split("test")
    assert list(test.skipped_names.values()) == [str(tmp_path / "data" / "test" / "a" / "0.png")]
    for name in ("b/1", "b/3"):
        cut(tmp_path / "data" / "test" / f"{name}.png")
    more = pictures(tmp_path / "data", (), unreadable="skip", max_unreadable=0.05)
    with pytest.raises(Unreadable, match=r"3 of the 24 .* allows \(2\): .*0\.png.*1\.png.*3\.png.* Remove them\.$"):
        check_readable(more)


def test_a_probe_set_is_read_whole_and_what_is_trained_on_is_not(tmp_path: Path) -> None:
    probe = pictures(tmp_path / "probe")
    data = pictures(tmp_path / "data", ("train",), probe_sets={"more": probe})
    cut(tmp_path / "data" / "train" / "a" / "0.png")
    check_readable(data)
    cut(tmp_path / "probe" / "train" / "a" / "2.png")
    with pytest.raises(Unreadable, match=r"1 of the 24 images of probe_sets\.more train .*a/2\.png"):
        check_readable(data)


def test_it_ends_in_time_and_says_so(tmp_path: Path, capsys: Any) -> None:
    check_readable(pictures(tmp_path / "data"), seconds=0)
    assert "0 of the 48 files of test, val were read before the run" in capsys.readouterr().out


def test_data_in_memory_are_not_read(capsys: Any) -> None:
    check_readable(TinyImages())
    assert capsys.readouterr().out == ""
