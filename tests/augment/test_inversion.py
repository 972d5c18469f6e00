"""Log-mels are heard again: as near to the wave they came from as librosa brings them, at every
rate and edge."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import librosa
import numpy as np
import pytest
import soundfile
import torch
from ssl_lightning.datamodules.tones import RATE, Tones, generated
from torch import Tensor
from torch.testing import assert_close

from ssl_lightning.augment.inversion import Inversion
from ssl_lightning.augment.log_mel import LogMel
from ssl_lightning.data.sound.listen import save_sounds
from ssl_lightning.types import View

SAMPLES = 6400


def waves() -> Tensor:
    """One tone of each class."""
    return generated(0, 10)[:, :SAMPLES]


def convergence(true: Any, found: Any) -> float:
    """Of magnitudes, the mean over samples of |true - found| / |true| (Griffin and Lim's
    measure)."""
    return float(
        np.mean(
            [
                np.linalg.norm(a - b) / np.linalg.norm(a)
                for a, b in zip(np.asarray(true), np.asarray(found), strict=True)
            ]
        )
    )


@pytest.mark.slow
@pytest.mark.parametrize("momentum", [0.0, 0.99], ids=["plain", "fast"])
def test_it_comes_as_near_as_librosa_in_as_many_steps(momentum: float) -> None:
    """To the energies in the bands, and to the spectrum that was made of them."""
    x, mel, steps = waves()[:4], LogMel(RATE, mels=32, window=0.032), 16
    inversion = Inversion(mel, steps=steps, momentum=momentum)
    y = inversion(mel(x))
    ours = [
        convergence(mel.power(x).sqrt(), mel.power(y).sqrt()),
        convergence(inversion.spectrum(mel.power(x).mT).sqrt(), inversion.analysed(y).abs()),
    ]
    frame: dict[str, Any] = {"n_fft": 256, "hop_length": 80, "win_length": 256}
    bank: dict[str, Any] = {"sr": RATE, "htk": True, "norm": None, "power": 2.0}
    bands, energies, spectra = [], [], []
    for wave in x.numpy():
        energy = librosa.feature.melspectrogram(y=wave, n_mels=32, pad_mode="constant", **frame, **bank)
        size = librosa.feature.inverse.mel_to_stft(energy, n_fft=256, **bank)
        made = librosa.griffinlim(
            size, n_iter=steps, momentum=momentum, random_state=0, length=SAMPLES, pad_mode="constant", **frame
        )
        energies.append(
            (energy, librosa.feature.melspectrogram(y=made, n_mels=32, pad_mode="constant", **frame, **bank))
        )
        spectra.append((size, abs(librosa.stft(made, pad_mode="constant", **frame))))
    bands = [np.sqrt(each) for each in zip(*energies, strict=True)]
    theirs = [convergence(*bands), convergence(*zip(*spectra, strict=True))]
    assert ours[0] < 1.15 * theirs[0] and ours[1] < 1.02 * theirs[1], (ours, theirs)
    assert ours[0] < (0.1 if momentum else 0.15), ours


@pytest.mark.parametrize("edges", ["pad", "snip"])
@pytest.mark.parametrize("kind", ["plain", "kaldi"])
def test_the_wave_has_the_log_mels(edges: Any, kind: str) -> None:
    """Kaldi's too, with pre-emphasis and its window, in which a part is lost; a wave depends on its
    own log-mels alone."""
    mel = (
        LogMel.kaldi(RATE, mels=32, edges=edges)
        if kind == "kaldi"
        else LogMel(RATE, mels=32, window=0.032, edges=edges)
    )
    x = waves()[:3]
    inversion = Inversion(mel)
    y = inversion(mel(x))
    assert mel.frames(y.shape[1]) == mel.frames(SAMPLES) and SAMPLES - mel.window < y.shape[1] <= SAMPLES
    assert convergence(mel.power(x).sqrt(), mel.power(y).sqrt()) < 0.2
    assert_close(inversion(mel(x[1:2]))[0], y[1], rtol=1e-3, atol=1e-4)
    assert 0.7 < float(y.std() / x.std()) < 1.4, "as loud"


def test_a_spectrum_turns_into_the_wave_it_came_from() -> None:
    mel = LogMel(RATE, mels=32, window=0.032)
    inversion = Inversion(mel)
    assert_close(inversion.wave(inversion.analysed(waves())), waves(), rtol=1e-4, atol=1e-4)


@pytest.mark.slow
def test_data_sounds_as_it_was_and_nothing_is_silent(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """Log-mels without the normalisation, at the data's rate; frames of zeros, padding or a gap,
    are silent."""
    monkeypatch.setenv("SSL_LIGHTNING_CACHE", str(tmp_path))
    data = Tones(statistics=(-5.0, 3.0))
    mel = data.mel
    x = (mel(waves()[:2])[:, None] + 5) / 3
    sounds, rate = data.as_sounds(x)
    assert rate == RATE and sounds.shape == (2, SAMPLES)
    assert_close(sounds, Inversion(mel)(mel(waves()[:2])), rtol=1e-2, atol=2e-3)
    x[..., 20:40] = 0
    gap, _ = data.as_sounds(x)
    assert gap[:, 22 * 80 : 38 * 80].abs().max() < 0.05 * gap.abs().max()
    wave = torch.randn(2, 50)
    assert torch.equal(data.as_sounds(wave)[0], wave)


def test_what_is_shown_of_sounds_is_written_as_sounds(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("SSL_LIGHTNING_CACHE", str(tmp_path / "cache"))
    data = Tones(statistics=(-5.0, 3.0))
    x = (data.mel(waves()[:6])[:, None] + 5) / 3
    path = tmp_path / "pictures.png"
    sounds = {f"pictures/{caption}": path.parent / f"{caption}.wav" for caption in ("original", "noisy")}
    shown = data.show({"original": View(x), "noisy": View(x + 0.1)}, path, compare=True)
    assert shown == {"pictures": path, **sounds}
    assert sorted(path.name for path in tmp_path.iterdir() if path.is_file()) == [
        "noisy.wav",
        "original.wav",
        "pictures.png",
    ]
    wave, rate = soundfile.read(tmp_path / "original.wav")
    assert rate == RATE and len(wave) == 4 * (SAMPLES + RATE // 2), "four samples, half a second apart"
    only = tmp_path / "waves"
    shown = data.show({"original": View(waves()[:2])}, only / "pictures.png", compare=True)
    expected = {"pictures": only / "pictures.png", "pictures/original": only / "original.wav"}
    assert shown == expected, "waves over their spectrograms"
    assert sorted(path.name for path in only.iterdir()) == ["original.wav", "pictures.png"]


def test_captions_of_a_sample_are_equally_loud_and_nothing_is_clipped(tmp_path: Path) -> None:
    x = torch.randn(2, 400, generator=torch.Generator().manual_seed(0)) * torch.tensor([[7.0], [0.01]])
    save_sounds({"a": x, "b": x / 2}, 100, tmp_path)
    a, b = (torch.from_numpy(soundfile.read(tmp_path / f"{name}.wav")[0]).view(2, 450) for name in "ab")
    assert_close(a[:, :400], 0.9 * x.double() / x.abs().amax(1, keepdim=True), rtol=0, atol=1e-4)
    assert_close(b, a / 2, rtol=0, atol=1e-4)
    assert not a[:, 400:].any()


@pytest.mark.parametrize("edges", ["pad", "snip"])
def test_no_log_mels_are_no_waves(edges: Any) -> None:
    mel = LogMel(RATE, mels=32, window=0.032, edges=edges)
    inversion = Inversion(mel, steps=1)
    log_mels = mel(waves()[:2])
    assert inversion(log_mels[:0]).shape == (0, inversion(log_mels).shape[1])


@pytest.mark.parametrize("wrong", [{"steps": -1}, {"momentum": -0.1}, {"momentum": 1.5}], ids=str)
def test_settings_out_of_range_are_refused(wrong: dict[str, Any]) -> None:
    ((name, value),) = wrong.items()
    with pytest.raises(ValueError, match=rf"Inversion\({name}={value}\) must be at least 0"):
        Inversion(LogMel(RATE, mels=32, window=0.032), **wrong)
