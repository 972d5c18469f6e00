"""Log-mels are those of librosa and of Kaldi, clip by clip."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest
import torch
from numpy.typing import NDArray

from ssl_lightning.augment.log_mel import EPSILON, LogMel

librosa = pytest.importorskip("librosa")
RATE = 16_000
Floats = NDArray[np.float32]


def waves(count: int = 3, seconds: float = 0.4) -> Floats:
    """Chirps over noise."""
    random = np.random.default_rng(0)
    time = np.arange(int(RATE * seconds)) / RATE
    chirps = np.sin(2 * np.pi * (300 + 4000 * time * random.random((count, 1))) * time)
    return (0.3 * chirps + 0.01 * random.standard_normal(chirps.shape)).astype(np.float32)


def by_librosa(wave: Floats, window: int, hop: int, size: int, mels: int, low: float) -> Floats:
    sides = (window - hop) // 2 + (size - window) // 2  # librosa puts a window into the middle of its frame
    return librosa.feature.melspectrogram(
        y=np.pad(wave, (sides, sides + 1)),
        sr=RATE,
        n_fft=size,
        hop_length=hop,
        win_length=window,
        window="hann",
        center=False,
        htk=True,
        norm=None,
        n_mels=mels,
        fmin=low,
    )


CASES = [(0.025, 0.01, 512, 64, 0.0), (0.064, 0.01, 1024, 64, 60.0), (0.032, 0.016, 512, 40, 0.0)]
GOLDEN = np.load(Path(__file__).with_name("librosa.npz"))
"""What librosa says of the first wave: importing it takes a quarter of a minute in a new
environment. `made_by_librosa` makes it."""


def made_by_librosa() -> dict[str, Floats]:
    """The golden values: `np.savez_compressed("tests/augment/librosa.npz",
    **made_by_librosa())`."""
    wave, made = waves()[0], {}
    for number, (window, hop, size, mels, low) in enumerate(CASES):
        mel = LogMel(RATE, mels=mels, window=window, hop=hop, low=low)
        made[f"power {number}"] = by_librosa(wave, mel.window, mel.hop, size, mels, low)[:, : mel.frames(len(wave))]
    return made


@pytest.mark.slow
def test_the_golden_values_are_librosas() -> None:
    made = made_by_librosa()
    assert made.keys() == set(GOLDEN)
    for name, values in made.items():
        np.testing.assert_allclose(GOLDEN[name], values, rtol=1e-5, atol=1e-9)


@pytest.mark.parametrize("number", range(len(CASES)))
def test_the_power_of_mel_bands_is_librosas(number: int) -> None:
    window, hop, _, mels, low = CASES[number]
    x = waves()
    mel = LogMel(RATE, mels=mels, window=window, hop=hop, low=low)
    ours = mel.power(torch.from_numpy(x))
    assert ours.shape == (3, mels, x.shape[1] // round(hop * RATE)) and mel.frames(x.shape[1]) == ours.shape[2]
    np.testing.assert_allclose(ours[0].numpy(), GOLDEN[f"power {number}"], rtol=1e-4, atol=1e-9)
    assert torch.equal(mel(torch.from_numpy(x)), ours.clamp(min=1e-6).log())


def test_a_clip_in_a_large_batch_is_the_clip_alone() -> None:
    x = torch.from_numpy(waves(40))
    mel = LogMel(RATE)
    together = mel(x)
    for number in (0, 17, 39):
        torch.testing.assert_close(mel(x[number : number + 1])[0], together[number], rtol=1e-5, atol=1e-5)


def by_kaldi(wave: Floats, mels: int) -> Floats:
    """Window by window, as Kaldi's feature-fbank computes it."""
    n = np.arange(400)
    povey = (0.5 - 0.5 * np.cos(2 * np.pi * n / 399)) ** 0.85
    mel = lambda f: 1127 * np.log(1 + f / 700)  # noqa: E731
    corners = np.linspace(mel(20), mel(RATE / 2), mels + 2)
    bins = mel(np.arange(256) * RATE / 512)
    frames = []
    for start in range(0, len(wave) - 399, 160):
        frame = wave[start : start + 400].astype(np.float64)
        frame = frame - frame.mean()
        frame = frame - 0.97 * np.concatenate([frame[:1], frame[:-1]])
        power = np.abs(np.fft.rfft(frame * povey, 512)[:256]) ** 2
        up = (bins - corners[:-2, None]) / (corners[1:-1] - corners[:-2])[:, None]
        down = (corners[2:, None] - bins) / (corners[2:] - corners[1:-1])[:, None]
        frames.append(np.log(np.maximum(np.minimum(up, down).clip(0) @ power, EPSILON)))
    return np.stack(frames, 1)


def test_kaldis_log_mels_are_kaldis() -> None:
    x = waves(2)
    ours = LogMel.kaldi(RATE)(torch.from_numpy(x)).numpy()
    for wave, found in zip(x, ours, strict=True):
        np.testing.assert_allclose(found, by_kaldi(wave, 80), atol=1e-3)


def test_kaldis_log_mels_are_those_of_transformers() -> None:
    audio = pytest.importorskip("transformers.audio_utils")
    wave = waves(1)[0]
    bank = audio.mel_filter_bank(
        num_frequency_bins=257,
        num_mel_filters=80,
        min_frequency=20,
        max_frequency=RATE / 2,
        sampling_rate=RATE,
        mel_scale="kaldi",
        triangularize_in_mel_space=True,
    )
    expected = audio.spectrogram(
        wave,
        audio.window_function(400, "povey", periodic=False),
        frame_length=400,
        hop_length=160,
        fft_length=512,
        power=2.0,
        center=False,
        preemphasis=0.97,
        mel_filters=bank,
        log_mel="log",
        mel_floor=EPSILON,
        remove_dc_offset=True,
    )
    np.testing.assert_allclose(LogMel.kaldi(RATE)(torch.from_numpy(wave)[None])[0], expected, atol=1e-3)


def test_autocast_does_not_touch_the_spectrum() -> None:
    x = torch.from_numpy(waves()[:1])
    mel = LogMel(RATE)
    with torch.autocast("cpu", torch.bfloat16):
        inside = mel(x)
    assert torch.equal(inside, mel(x))


def test_what_cannot_be_made_is_refused() -> None:
    with pytest.raises(
        ValueError, match=r"mels=128\): the lowest bands are narrower than a bin of the spectrum, 31.25 Hz"
    ):
        LogMel(8000, mels=128)
    with pytest.raises(ValueError, match=r"high=9000\): needs 0 <= low < high <= 8000 Hz"):
        LogMel(RATE, high=9000)
    with pytest.raises(ValueError, match="a hop is at least a sample"):
        LogMel(RATE, hop=0.05)
