"""Any folder of sound files, or a list of them: what is a split, what is a class, and what is told
of what was skipped."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import pytest
import torch
from sets import write_sounds
from ssl_lightning.datamodules.audio_folder import AudioFolder
from ssl_lightning.methods.simclr import SimCLR

from ssl_lightning import ConvEncoder, Trainer, ViewSpec
from ssl_lightning.data.sound.recording import UnreadableSound
from ssl_lightning.evaluation.report import Report

ARGS: dict[str, Any] = {"sample_rate": 8000, "mels": 32, "seconds": 0.4, "window": 0.032, "batch_size": 4}


@pytest.fixture(autouse=True)
def cache(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("SSL_LIGHTNING_CACHE", str(tmp_path / "cache"))


def test_folders_are_classes_and_splits(tmp_path: Path) -> None:
    root = write_sounds(
        tmp_path / "sounds",
        [
            "train/cat/1.wav",
            "train/dog/2.flac",
            "train/dog/3.ogg",
            "test/dog/4.wav",
            "unlabelled/deep/5.wav",
            "unlabelled/6.mp3",
        ],
    )
    data = AudioFolder(str(root), **ARGS)
    train, test = data.split("train"), data.split("test")
    assert train is not None and test is not None and data.class_names == ("cat", "dog")
    assert (
        train.labels is not None
        and train.labels.tolist() == [0, 1, 1]
        and test.labels is not None
        and test.labels.tolist() == [1]
    )
    assert len(data.training_split) == 2 and data.training_split.labels is None
    assert AudioFolder(str(root), labels="none", **ARGS).split("train").labels is None  # type: ignore[union-attr]


def test_a_list_says_what_is_what(tmp_path: Path) -> None:
    write_sounds(tmp_path, ["a.wav", "b.wav", "c.wav"])
    (tmp_path / "list.csv").write_text(
        "path,word,split,start,end\na.wav,yes,train,0,0.1\na.wav,no,train,0.1,\nb.wav,no,test,,\nc.wav,,unlabelled,,\n"
    )
    data = AudioFolder(str(tmp_path / "list.csv"), label_column="word", **ARGS)
    train, test = data.split("train"), data.split("test")
    assert train is not None and test is not None and data.class_names == ("no", "yes")
    with pytest.raises(ValueError, match="No group can be held out, since each of the 1 has all samples of a class"):
        data.split("val")
    assert train.labels is not None and train.labels.tolist() == [1, 0] and len(data.training_split) == 1
    raw = data.fetch_clean(train, torch.arange(2))
    assert raw.lengths.tolist()[0] == 800 and raw.lengths.tolist()[1] > 1000
    with pytest.raises(FileNotFoundError, match="There is no list"):
        AudioFolder(str(tmp_path / "lists.csv"), **ARGS)
    with pytest.raises(FileNotFoundError, match=r"There is no folder 'sound'"):
        AudioFolder(str(tmp_path / "sound"), **ARGS)


@pytest.mark.parametrize("by", ["recording", "speaker", "pattern"])
def test_what_belongs_together_is_held_out_together(tmp_path: Path, by: str) -> None:
    """The stretches of a recording, the recordings of a speaker."""
    names = [f"{'xy'[number % 2]}/speaker{number // 6}-{number}.wav" for number in range(24)]
    root = write_sounds(tmp_path, names)
    lines = [f"{name},{name[0]},{name[2:].split('-')[0]},{start}" for name in names for start in (0, 0.02, 0.04)]
    (root / "list.csv").write_text("\n".join(["path,word,who,start", *lines]))
    list_ = str(root / "list.csv")
    data = {
        "recording": lambda: AudioFolder(list_, label_column="word", **ARGS),
        "speaker": lambda: AudioFolder(list_, label_column="word", group_column="who", **ARGS),
        "pattern": lambda: AudioFolder(str(root), group_pattern=r"speaker(\d)", **ARGS),
    }[by]()
    splits = data.probe_splits()
    assert splits is not None

    def groups(part: Any) -> set[str]:
        stems = [Path(part.source.name(number)).stem for number in part.indices.tolist()]
        return {stem if by == "recording" else stem.split("-")[0] for stem in stems}

    learned, judged = map(groups, splits)
    assert learned and judged and not learned & judged
    assert len(learned | judged) == (24 if by == "recording" else 4)
    with pytest.raises(ValueError, match=r"group_pattern='\(' is not a regular expression"):
        AudioFolder(str(root), group_pattern="(", **ARGS)


class Asks:
    views = ViewSpec(full=2)


def test_a_broken_recording_stops_the_run_or_is_told_at_its_end(
    tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    root = write_sounds(tmp_path / "sounds", [f"{'ab'[number % 2]}/{number}.wav" for number in range(8)])
    (root / "a" / "2.wav").write_bytes(b"")
    with pytest.raises(UnreadableSound, match=r"2.wav: it is empty \(0 bytes\)"):
        AudioFolder(str(root), **ARGS).serve(Asks())
    torch.manual_seed(0)
    trainer = Trainer(
        accelerator="cpu",
        max_steps=2,
        default_root_dir=tmp_path / "runs",
        enable_progress_bar=False,
        callbacks=[Report(enabled=False)],
    )
    trainer.fit(SimCLR(ConvEncoder(channels=1, width=4)), datamodule=AudioFolder(str(root), unreadable="skip", **ARGS))
    assert (
        f"Unreadable recordings, in whose place others were taken: 1 ({root / 'a' / '2.wav'})"
        in capsys.readouterr().out
    )
    assert (
        trainer.run_folder is not None
        and (trainer.run_folder / "unreadable.txt").read_text() == f"{root / 'a' / '2.wav'}\n"
    )
