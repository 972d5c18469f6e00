"""Of a sound file the part is read that was asked for; what is no sound is told by name."""

from __future__ import annotations

import io
import os
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import soundfile
import torch

from ssl_lightning.data.sound.mpeg import frame_at
from ssl_lightning.data.sound.recording import SoundFile, Stored, UnreadableSound

RATE = 22_050


def wave(seconds: float = 1.0) -> np.ndarray:
    random, time = np.random.default_rng(0), np.arange(int(RATE * seconds)) / RATE
    return 0.5 * np.sin(2 * np.pi * 440 * time) + 0.01 * random.standard_normal(len(time))


@pytest.mark.parametrize(("form", "off"), [("wav", 1e-4), ("flac", 1e-4), ("aiff", 1e-4), ("ogg", 0.05), ("mp3", 0.05)])
def test_a_part_is_that_of_the_whole(tmp_path: Path, form: str, off: float) -> None:
    x = wave()
    soundfile.write(tmp_path / f"a.{form}", x, RATE)
    sound = SoundFile(tmp_path / f"a.{form}")
    assert (sound.rate, sound.frames) == (RATE, len(x))
    whole = sound.read(0, len(x))
    assert float((whole - torch.from_numpy(x)).abs().max()) < off
    for start, count in ((5000, 700), (300, 700), (len(x) - 20, 20)):
        torch.testing.assert_close(sound.read(start, count), whole[start : start + count], atol=1e-6, rtol=0)
    beyond = sound.read(-10, len(x) + 30)
    assert not beyond[:10].any() and not beyond[-20:].any()
    torch.testing.assert_close(beyond[10:-20], whole, atol=1e-6, rtol=0)


def test_only_the_part_is_decoded(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    soundfile.write(tmp_path / "a.flac", wave(), RATE)
    asked: list[int] = []
    read = soundfile.SoundFile.read

    def counted(self: Any, frames: int = -1, *others: Any, **named: Any) -> Any:
        asked.append(frames)
        return read(self, frames, *others, **named)

    monkeypatch.setattr(soundfile.SoundFile, "read", counted)
    SoundFile(tmp_path / "a.flac").read(9000, 100)
    assert asked == [100]


def test_channels_become_their_mean(tmp_path: Path) -> None:
    x = wave()
    soundfile.write(tmp_path / "a.wav", np.stack([x, 0.2 * x], 1), RATE, subtype="FLOAT")
    torch.testing.assert_close(SoundFile(tmp_path / "a.wav").read(0, len(x)), torch.from_numpy(0.6 * x).float())


@pytest.mark.parametrize("right", [-1.0, -0.98])
@pytest.mark.parametrize("subtype", ["FLOAT", "PCM_16"])
def test_channels_out_of_phase_are_heard(tmp_path: Path, subtype: str, right: float) -> None:
    """Their mean is silent, or the noise of its rounding."""
    x = wave()
    soundfile.write(tmp_path / "a.wav", np.stack([x, right * x], 1), RATE, subtype=subtype)
    torch.testing.assert_close(
        SoundFile(tmp_path / "a.wav").read(500, 900), torch.from_numpy(x[500:1400]).float(), atol=1e-4, rtol=0
    )


def test_a_silent_channel_silences_nothing(tmp_path: Path) -> None:
    x = wave()
    soundfile.write(tmp_path / "a.wav", np.stack([0 * x, x], 1), RATE, subtype="FLOAT")
    torch.testing.assert_close(SoundFile(tmp_path / "a.wav").read(0, 900), torch.from_numpy(x[:900] / 2).float())


def test_a_stretch_is_a_recording_of_its_own(tmp_path: Path) -> None:
    soundfile.write(tmp_path / "a.wav", wave(), RATE)
    whole, part = SoundFile(tmp_path / "a.wav"), SoundFile(tmp_path / "a.wav", 0.2, 0.5)
    assert part.frames == round(0.5 * RATE) - round(0.2 * RATE)
    first = round(0.2 * RATE)
    assert torch.equal(part.read(0, part.frames), whole.read(first, part.frames))
    assert not part.read(part.frames, 50).any() and not part.read(-50, 50).any()  # nothing of what surrounds it
    assert SoundFile(tmp_path / "a.wav", 0.2, 9.0).frames == whole.frames - first
    with pytest.raises(UnreadableSound, match=r"a.wav: it lasts 1 s and has nothing from 1.5 s to 2 s"):
        SoundFile(tmp_path / "a.wav", 1.5, 2)


def flac() -> bytes:
    import io

    out = io.BytesIO()
    soundfile.write(out, wave(), RATE, format="FLAC")
    return out.getvalue()


@pytest.mark.parametrize(
    ("data", "reason"),
    [
        (b"", r"a.wav: it is empty \(0 bytes\)"),
        (b"RIFF no sound", "a.wav: it is not a sound that can be read here: Format not recognised"),
        (flac()[:20_000], "a.wav: .*(lost sync|before it should)"),
        (None, "a.wav: there is no such file"),
    ],
)
def test_what_is_no_sound_is_told_by_name(tmp_path: Path, data: bytes | None, reason: str) -> None:
    if data is not None:
        (tmp_path / "a.wav").write_bytes(data)
    with pytest.raises(UnreadableSound, match=reason):
        SoundFile(tmp_path / "a.wav").read(0, RATE)


def test_samples_must_be_there_finite_and_not_all_silent(tmp_path: Path) -> None:
    path = tmp_path / "a.wav"
    for x, reason in (
        (np.zeros(0), "it has no samples"),
        (np.zeros(900), "it is silent"),
        (np.full(900, np.nan), "it contains NaN or infinity"),
        (np.full(900, 0.3), "it is silent"),  # a constant
        (2e-5 * np.random.default_rng(0).uniform(-1, 1, 900), "it is silent"),  # the noise of rounding
        (32768 * wave()[:900], "its samples reach 1[0-9]{4}.*, where full scale is 1"),
        (np.full(900, 1e38), r"its samples reach 1e\+38"),
    ):
        soundfile.write(path, x, RATE, subtype="FLOAT")
        with pytest.raises(UnreadableSound, match=f"a.wav: {reason}"):
            SoundFile(path).read(0, 900)
    soundfile.write(path, np.concatenate([np.zeros(900), wave()]), RATE, subtype="FLOAT")
    assert not SoundFile(path).read(0, 900).any()  # a pause is no damage


@pytest.mark.parametrize("rate", [1, 50, 2**31 - 1])
def test_a_rate_that_cannot_be_is_told(tmp_path: Path, rate: int) -> None:
    soundfile.write(tmp_path / "a.wav", wave(), rate)
    with pytest.raises(UnreadableSound, match=f"its sampling rate is {rate:,} Hz, which cannot be"):
        SoundFile(tmp_path / "a.wav")


def test_of_a_day_of_silence_ten_minutes_are_decoded(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    soundfile.write(tmp_path / "a.wav", np.zeros(10), RATE)
    data = bytearray((tmp_path / "a.wav").read_bytes())
    data[4:8] = data[40:44] = b"\xff" * 4  # as where a recorder does not know the length beforehand
    (tmp_path / "a.wav").write_bytes(data)
    os.truncate(tmp_path / "a.wav", 44 + 24 * 3600 * RATE * 2)
    asked: list[int] = []
    read = soundfile.SoundFile.read

    def counted(self: Any, frames: int = -1, *others: Any, **named: Any) -> Any:
        asked.append(frames)
        return read(self, frames, *others, **named)

    monkeypatch.setattr(soundfile.SoundFile, "read", counted)
    with pytest.raises(UnreadableSound, match=r"a.wav: it is silent"):
        SoundFile(tmp_path / "a.wav").read(0, 900)
    assert sum(asked) / RATE < 620


def encoded(x: np.ndarray, form: str, **how: Any) -> bytes:
    out = io.BytesIO()
    soundfile.write(out, x, RATE, format=form, **how)
    return out.getvalue()


def without_length(data: bytes) -> bytes:
    """An mp3 without a first frame that tells the length; of the lowest bit rates none does."""
    frame = frame_at(data, 0)
    assert frame is not None
    return data[frame.size :] if data[frame.table :][:4] in (b"Xing", b"Info") else data


def uneven(seconds: int) -> np.ndarray:
    """Loud, then nearly silent: bit rates vary."""
    x = 0.3 * np.random.default_rng(1).standard_normal(RATE * seconds)
    return x * np.where(np.arange(len(x)) < len(x) // 4, 1e-4, 1.0)


@pytest.mark.parametrize("first", [1, -1])
@pytest.mark.parametrize("mode", ["VARIABLE", "CONSTANT"])
def test_an_mp3_lasts_as_long_as_its_frames(tmp_path: Path, mode: str, first: int) -> None:
    """Whether its first frame tells it or not, and whichever bit rate it begins with."""
    x = uneven(16)[::first]
    whole = encoded(x, "MP3", bitrate_mode=mode, compression_level=0.7)
    for name, data, seconds in (
        ("told", whole, 16),
        ("bare", without_length(whole), 16),
        ("tagged", b"ID3\x04\0\0\0\0\x10\0" + bytes(2048) + without_length(whole) + b"TAG" + bytes(125), 16),
        ("cut", whole[: len(whole) // 2], None),
        ("joined", whole + whole, 32),
    ):
        (tmp_path / "a.mp3").write_bytes(data)
        sound = SoundFile(tmp_path / "a.mp3")
        if seconds is not None:
            assert abs(sound.frames / RATE - seconds) < 0.2, name
        assert float(sound.read(0, sound.frames).square().mean().sqrt()) > 0.1, name
        (tmp_path / "a.mp3").unlink()


@pytest.mark.parametrize(
    ("mode", "level"), [("VARIABLE", 0.7), ("VARIABLE", 0.95), ("CONSTANT", 0.95), ("AVERAGE", 0.9)]
)
@pytest.mark.parametrize("bare", [False, True])
def test_a_window_of_an_mp3_is_that_of_the_whole(tmp_path: Path, mode: str, level: float, bare: bool) -> None:
    """Wherever it begins: bits of a frame lie in frames before it."""
    data = encoded(uneven(6), "MP3", bitrate_mode=mode, compression_level=level)
    (tmp_path / "a.mp3").write_bytes(without_length(data) if bare else data)
    sound = SoundFile(tmp_path / "a.mp3")
    whole = sound.read(0, sound.frames)
    for start in np.random.default_rng(0).integers(0, sound.frames - 500, 40).tolist():
        torch.testing.assert_close(sound.read(start, 500), whole[start : start + 500], atol=1e-5, rtol=0)


def test_of_joined_streams_none_is_left_out_in_silence(tmp_path: Path) -> None:
    (tmp_path / "a.ogg").write_bytes(encoded(wave(), "OGG") + encoded(wave(), "OGG"))
    with pytest.raises(UnreadableSound, match=r"a.ogg: it consists of several streams"):
        SoundFile(tmp_path / "a.ogg")


def test_a_length_that_is_not_told_is_refused(tmp_path: Path) -> None:
    data = bytearray(flac())
    data[21] &= 0xF0  # of 36 bits, those of the number of samples
    data[22:26] = bytes(4)
    (tmp_path / "a.flac").write_bytes(data)
    with pytest.raises(UnreadableSound, match=r"a.flac: its header does not tell its length"):
        SoundFile(tmp_path / "a.flac")


def test_samples_in_memory_are_checked_too() -> None:
    for x, reason in ((torch.full((9,), torch.nan), "NaN"), (torch.full((9,), 9000), "reach 9000, where full scale")):
        with pytest.raises(UnreadableSound, match=reason):
            Stored("recording 0", x, RATE).read(0, 9)
