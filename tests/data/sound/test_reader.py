"""Recordings outside of a run: the same view as within it."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import soundfile
import torch
from ssl_lightning.datamodules.audio_folder import AudioFolder

from ssl_lightning.data.peek import peek
from ssl_lightning.data.sound.given import GivenSounds
from ssl_lightning.data.sound.recording import UnreadableSound
from ssl_lightning.data.sound.settings import difference
from ssl_lightning.types import View


@pytest.fixture
def recordings(tmp_path: Path) -> Path:
    random = np.random.default_rng(0)
    for number, (rate, seconds) in enumerate([(8000, 0.3), (16000, 0.9), (8000, 1.4), (22050, 0.5)]):
        soundfile.write(tmp_path / f"{number}.wav", random.normal(0, 0.1, int(rate * seconds)), rate)
    return tmp_path


def read(data: AudioFolder, items: list[Any]) -> View:
    """The view of items, by the `sound.json` of a run on some data."""
    given = GivenSounds(**GivenSounds.arguments_of(data.artifacts(), ""))
    source = given.take(items)
    return peek(given, source, torch.arange(len(source)), "cpu")["views"][0]


@pytest.mark.parametrize(
    "arguments",
    [
        {"features": "log_mel", "seconds": 0.5},
        {"features": "log_mel", "seconds": 0.5, "spectrogram": "kaldi", "mels": 20},
        {"features": "log_mel", "seconds": None},
        {"features": "wave", "seconds": 0.5},
        {"features": "wave", "seconds": None},
        {"features": "wave", "seconds": 1.0, "normalise": False},
    ],
    ids=str,
)
def test_it_makes_the_view_of_the_run(recordings: Path, arguments: dict[str, object]) -> None:
    data = AudioFolder(str(recordings), batch_size=2, sample_rate=8000, window=0.032, **arguments)  # type: ignore[arg-type]
    data.prepare_data()
    source = data.split("train")
    assert source is not None
    transform = data.transform("none")
    expected = transform(data.fetch_clean(source, torch.arange(4)), torch.zeros(4, dtype=torch.int64))
    view = read(data, [recordings / f"{number}.wav" for number in range(4)])
    assert torch.equal(view.x, expected.x)
    assert (view.segment is None) == (expected.segment is None)
    assert view.segment is None or torch.equal(view.segment, expected.segment)


def test_waves_in_memory_are_read_like_files(recordings: Path) -> None:
    data, path = AudioFolder(str(recordings), features="wave"), recordings / "3.wav"
    samples, rate = soundfile.read(path, dtype="float32")
    assert torch.equal(read(data, [path]).x, read(data, [(torch.from_numpy(samples), rate)]).x)


def test_what_cannot_be_read_is_named(recordings: Path) -> None:
    with pytest.raises(UnreadableSound, match=r"missing\.wav"):
        read(AudioFolder(str(recordings), features="wave"), [recordings / "missing.wav"])


@pytest.mark.parametrize(
    ("given", "remedy"),
    [
        ((torch.zeros(2, 800), 8000), r"recording 0 has the shape \[2, 800\]; give .* one channel"),
        ((np.zeros((800, 2)), 8000), r"recording 0 has the shape \[800, 2\]; give .* one channel"),
        ((np.zeros(800, dtype=np.int16), 8000), r"recording 0 holds int16; give .* int16 / 32768"),
        (np.zeros(800), "recording 0 is a ndarray; give a file's path, or samples"),
        (torch.zeros(800), "recording 0 is a Tensor; give a file's path, or samples"),
    ],
)
def test_samples_of_another_form_are_told_with_the_remedy(recordings: Path, given: object, remedy: str) -> None:
    data = AudioFolder(str(recordings), batch_size=2, sample_rate=8000)
    data.prepare_data()
    with pytest.raises((TypeError, ValueError), match=remedy):
        read(data, [given])


def test_samples_of_numpy_are_read_as_those_of_torch(recordings: Path) -> None:
    data = AudioFolder(str(recordings), batch_size=2, sample_rate=8000)
    data.prepare_data()
    samples, rate = soundfile.read(recordings / "0.wav")
    assert torch.equal(read(data, [(samples, rate)]).x, read(data, [(torch.from_numpy(samples).float(), rate)]).x)


def test_a_second_step_may_cut_otherwise_but_not_hear_otherwise() -> None:
    run = {"varies": False, "features": "log_mel", "seconds": 1.0, "mels": 48, "statistics": [-6.0, 3.0]}
    assert difference(json.dumps({**run, "seconds": None, "varies": True}), json.dumps(run)) == ""
    assert difference(json.dumps({**run, "mels": 64, "statistics": [0.0, 1.0]}), json.dumps(run)) == (
        "mels=64, not 48, statistics=[0.0, 1.0], not [-6.0, 3.0]"
    )


def test_a_file_that_the_data_does_not_have_is_not_compared(recordings: Path) -> None:
    data = AudioFolder(str(recordings), features="wave")
    assert data.difference({"tokenizer.json": "{}"}) == data.difference({}) == data.difference(data.artifacts()) == ""
    other = AudioFolder(str(recordings), features="wave", sample_rate=8000).artifacts()
    assert "sample_rate=16000, not 8000" in data.difference(other)
