"""The Free Spoken Digit Dataset: its official split, its two label sets, and what its pooled
log-mels are worth."""

from __future__ import annotations

import os
from pathlib import Path

import pytest
import torch
from sets import write_spoken_digits
from ssl_lightning.datamodules.spoken_digits import SpokenDigits

from ssl_lightning import ViewSpec
from ssl_lightning.evaluation.protocol import linear_accuracy

REAL = Path(os.environ.get("SSL_LIGHTNING_DATA", "")) / "fsdd" / "recordings"


class Asks:
    views = ViewSpec(full=2)


@pytest.fixture(autouse=True)
def cache(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("SSL_LIGHTNING_CACHE", str(tmp_path / "cache"))


def test_names_give_the_split_and_both_label_sets(tmp_path: Path) -> None:
    root = write_spoken_digits(tmp_path / "spoken")  # 3 digits, 2 speakers, 9 recordings of each
    data = SpokenDigits(str(root), batch_size=8)
    train, test = data.split("train"), data.split("test")
    assert train is not None and test is not None and (len(train), len(test)) == (24, 30)
    assert (
        train.labels is not None
        and train.labels.bincount().tolist() == [8, 8, 8]
        and data.class_names == ("0", "1", "2")
    )
    speaker = data.probed()["speaker/"]
    assert (
        isinstance(speaker, SpokenDigits)
        and speaker.class_names == ("ann", "bob")
        and set(data.probed()) == {"", "speaker/"}
    )
    names = [train.name(number) for number in range(24)]  # type: ignore[attr-defined]
    assert all(int(Path(name).stem.split("_")[2]) >= 5 for name in names)
    assert [int(Path(name).name[0]) for name in names] == train.labels.tolist()
    assert (
        set(SpokenDigits(str(root), labels="speaker").probed()) == {"", "digit/"}
        and not SpokenDigits(str(root), probe_sets={}).probe_sets
    )


def test_a_broken_recording_is_never_replaced_by_one_of_the_test_split(tmp_path: Path) -> None:
    root = write_spoken_digits(tmp_path / "spoken")
    (root / "0_ann_8.wav").write_bytes(b"")
    train = SpokenDigits(str(root), unreadable="skip").split("train")
    assert train is not None
    number = next(number for number in range(24) if train.name(number).endswith("0_ann_8.wav"))  # type: ignore[attr-defined]
    others = [Path(train.name(other)).name for other in train.substitutes(number)]  # type: ignore[attr-defined]
    assert (
        others[0] == "0_bob_5.wav"
        and all(name.startswith("0") and int(name[6]) >= 5 for name in others)
        and len(others) == 7
    )


def test_other_names_are_refused(tmp_path: Path) -> None:
    root = write_spoken_digits(tmp_path / "spoken")
    (root / "readme.wav").write_bytes(b"")
    with pytest.raises(ValueError, match=r"readme.wav is not named \{digit\}_\{speaker\}_\{index\}.wav"):
        SpokenDigits(str(root)).split("train")
    with pytest.raises(ValueError, match="labels='word' is unknown"):
        SpokenDigits(str(root), labels="word")  # type: ignore[arg-type]


@pytest.mark.slow
@pytest.mark.skipif(not REAL.is_dir(), reason="needs fsdd/recordings in the folder that SSL_LIGHTNING_DATA names")
def test_pooled_log_mels_of_the_real_data_tell_digits_and_speakers() -> None:
    data = SpokenDigits(str(REAL))
    parts = []
    for split in ("train", "test"):
        source = data.split(split)
        assert source is not None
        parts.append(
            torch.cat(
                [data.raw_features(data.fetch_clean(source, part)) for part in torch.arange(len(source)).split(256)]
            )
        )
    assert [len(part) for part in parts] == [2700, 300]
    mean, std = parts[0].mean(0), parts[0].std(0)
    train, test = (((part - mean) / std).numpy() for part in parts)
    for name, least in (("", 0.93), ("speaker/", 0.98)):
        labels = [data.probed()[name].split(split).labels.numpy() for split in ("train", "test")]  # type: ignore[union-attr]
        assert linear_accuracy(train[::3], labels[0][::3], test, labels[1]) > least - 0.04
