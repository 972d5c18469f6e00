"""Windows of recordings: where they lie, at which rate, and what stands in for a recording that
cannot be read."""

from __future__ import annotations

import os
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import numpy as np
import pytest
import soundfile
import soxr
import torch

from ssl_lightning.augment.random import sample_keys
from ssl_lightning.augment.window import Waves, Window
from ssl_lightning.data.files.file_list import list_files
from ssl_lightning.data.sound.files import SoundFiles
from ssl_lightning.data.sound.recording import SUFFIXES, UnreadableSound
from ssl_lightning.data.sound.source import Recordings

RATES = (8_000, 16_000, 11_025, 8_000, 44_100, 16_000)


@pytest.fixture
def folder(tmp_path: Path) -> Path:
    """Six recordings at several rates, 0.5 s to 1 s, and the last of 0.05 s."""
    (tmp_path / "sounds").mkdir()
    for number, rate in enumerate(RATES):
        frames = rate // 20 if number == 5 else rate * (5 + number) // 10
        time = np.arange(frames) / rate
        x = np.sin(2 * np.pi * (300 + 100 * number) * time * (1 + time)) * 0.5
        soundfile.write(tmp_path / "sounds" / f"{number}.wav", x, rate, subtype="FLOAT")
    return tmp_path / "sounds"


def source(folder: Path, *others: Any) -> SoundFiles:
    return SoundFiles(list_files(folder, SUFFIXES, cache=None), 8_000, *others)


def windows(of: SoundFiles, numbers: list[int], window: Window, key: torch.Tensor | None = None) -> Waves:
    key = sample_keys(0, 0, torch.tensor(numbers)) if key is None else key
    return Recordings(of, numbers).cut([SimpleNamespace(window=window)], [key])[0]


def whole(folder: Path, number: int) -> torch.Tensor:
    """The recording at 8 kHz."""
    return torch.from_numpy(soxr.resample(*soundfile.read(folder / f"{number}.wav"), 8_000)).float()


def test_the_middle_is_taken_at_one_rate_and_what_is_shorter_is_padded(folder: Path) -> None:
    cut = windows(source(folder), list(range(6)), Window(3_000, random=False))
    assert cut.x.shape == (6, 3_000) and cut.lengths is not None and cut.lengths.tolist() == [3_000] * 5 + [400]
    for number in range(5):
        expected = whole(folder, number)
        start = (len(expected) - 3_000) // 2
        torch.testing.assert_close(cut.x[number], expected[start : start + 3_000], atol=1e-5, rtol=0)
    torch.testing.assert_close(cut.x[5, :400], whole(folder, 5), atol=1e-5, rtol=0)
    assert not cut.x[5, 400:].any()
    assert windows(source(folder), [0, 4], Window(3_000, random=False)).lengths is None


def test_a_random_window_lies_anywhere_as_its_key_says(folder: Path) -> None:
    recordings, expected = source(folder), whole(folder, 0)  # 4,000 samples
    key = sample_keys(0, torch.arange(300), torch.zeros(300, dtype=torch.int64))
    cut = windows(recordings, [0] * 300, Window(1_000, random=True), key).x
    places = expected.unfold(0, 1_000, 1)  # [3001, 1000]
    starts = torch.cdist(cut, places, compute_mode="donot_use_mm_for_euclid_dist").argmin(1)
    torch.testing.assert_close(cut, places[starts], atol=1e-5, rtol=0)
    assert int(starts.min()) < 100 and int(starts.max()) > 2_900 and 1_300 < float(starts.float().mean()) < 1_700
    alone = windows(recordings, [0], Window(1_000, random=True), key[7:8]).x
    torch.testing.assert_close(alone[0], cut[7], atol=1e-6, rtol=0)  # whatever batch it is in


def test_every_place_of_a_long_recording_can_be_drawn() -> None:
    window = Window(10, random=True)
    starts = [window.start(sample_keys(0, 0, torch.tensor([index])), 2**33) for index in range(60)]
    assert min(starts) < 2**29 and max(starts) > 2**32 and len({start % 16 for start in starts}) == 16


def test_all_views_of_a_recording_are_read_at_once(folder: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    recordings, opened = source(folder), []
    open_ = SoundFiles.open
    monkeypatch.setattr(SoundFiles, "open", lambda self, number: opened.append(number) or open_(self, number))
    views = [SimpleNamespace(window=Window(size, random=True)) for size in (500, 700)]
    one, two = Recordings(recordings, [0, 1]).cut(views, [sample_keys(0, view, torch.arange(2)) for view in range(2)])
    assert one.x.shape == (2, 500) and two.x.shape == (2, 700) and sorted(opened) == [0, 1]


@pytest.mark.parametrize("broken", [b"", b"no sound", "silent", "nan"])
def test_another_recording_of_its_label_stands_in_for_a_broken_one(folder: Path, broken: bytes | str) -> None:
    if isinstance(broken, bytes):
        (folder / "1.wav").write_bytes(broken)
    else:
        soundfile.write(folder / "1.wav", np.full(8_000, np.nan if broken == "nan" else 0.0), 8_000, subtype="FLOAT")
    labels = torch.tensor([0, 1, 0, 1, 0, 1])
    skipping = source(folder, labels, "skip", 0.1)
    window = Window(400, random=False)
    cut = windows(skipping, [0, 1, 2], window)
    assert torch.equal(cut.x[1], windows(skipping, [3], window).x[0])
    assert skipping.skipped_names == {1: str(folder / "1.wav")}
    with pytest.raises(UnreadableSound, match=r"1.wav: it .*leave such recordings out with --data.unreadable skip"):
        windows(source(folder, labels), [1], window)


def test_too_many_broken_recordings_stop_the_run(folder: Path) -> None:
    for number in (1, 3, 5):
        (folder / f"{number}.wav").write_bytes(b"")
    labels = torch.tensor([0, 1, 0, 1, 0, 1])
    with pytest.raises(
        UnreadableSound, match=r"2 of 6 recordings cannot be read, more than --data.max_unreadable allows \(1\)"
    ):
        windows(source(folder, labels, "skip", 0.1), [1], Window(400, random=False))
    with pytest.raises(
        UnreadableSound,
        match=r"No recording can stand for .*1.wav, which cannot be read: there is no other of its label",
    ):
        windows(source(folder, labels, "skip", 1.0), [1], Window(400, random=False))


def test_a_recording_that_is_replaced_by_one_of_equal_size_and_date_is_another(tmp_path: Path) -> None:
    """Lengths and statistics are kept by what identifies a file."""
    path = tmp_path / "a.wav"
    path.write_bytes(b"one")
    date = path.stat().st_mtime_ns
    source = SoundFiles(list_files(tmp_path, SUFFIXES, cache=None), 8_000)
    before = source.stamp(0)
    assert source.stamp(0) == before
    path.unlink()
    path.write_bytes(b"two")
    os.utime(path, ns=(date, date))
    assert source.stamp(0) != before
