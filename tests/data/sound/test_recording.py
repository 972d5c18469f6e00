"""Of a sound file the part is read that was asked for; what is no sound is told by name."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import numpy as np
import pytest
import soundfile
import torch

from ssl_lightning.data.sound.recording import SoundFile, UnreadableSound

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
    ):
        soundfile.write(path, x, RATE, subtype="FLOAT")
        with pytest.raises(UnreadableSound, match=f"a.wav: {reason}"):
            SoundFile(path).read(0, 900)
    soundfile.write(path, np.concatenate([np.zeros(900), wave()]), RATE, subtype="FLOAT")
    assert not SoundFile(path).read(0, 900).any()  # a pause is no damage
