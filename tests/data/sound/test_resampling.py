"""Resampling keeps what both rates can hold and nothing else, and a stretch of the output needs a
stretch of the input alone."""

from __future__ import annotations

import math

import numpy as np
import pytest
import torch

from ssl_lightning.data.sound.recording import Stored
from ssl_lightning.data.sound.resampling import length_at, read_at

RATES = [
    (44_100, 16_000),
    (48_000, 16_000),
    (8_000, 16_000),
    (22_050, 8_000),
    (11_025, 16_000),
    (16_000, 44_100),
    (16_001, 1_000),
]


class Counting(Stored):
    """A recording that notes which of its frames were read."""

    def read(self, start: int, count: int) -> torch.Tensor:
        self.taken = (start, start + count)
        return super().read(start, count)


def tone(frequency: float, rate: int, seconds: float = 1.0) -> torch.Tensor:
    """A sine [T], in the same phase at any rate."""
    return torch.from_numpy(np.sin(2 * np.pi * frequency * np.arange(int(rate * seconds)) / rate)).float()


@pytest.mark.parametrize(("rate", "target"), RATES)
def test_a_tone_stays_the_same_up_to_nine_tenths_of_what_a_rate_can_hold(rate: int, target: int) -> None:
    for part in (0.1, 0.5, 0.9):
        frequency = part * min(rate, target) / 2
        sound = Stored("tone", tone(frequency, rate), rate)
        resampled, expected = read_at(sound, target, 0, length_at(sound, target)), tone(frequency, target)
        inner = slice(target // 4, -target // 4)
        torch.testing.assert_close(resampled[inner], expected[inner], atol=2e-3, rtol=0)


@pytest.mark.parametrize(("rate", "target"), [(rate, target) for rate, target in RATES if rate > target])
def test_what_the_lower_rate_cannot_hold_does_not_turn_into_another_tone(rate: int, target: int) -> None:
    for part in (1.05, 1.3):
        sound = Stored("tone", tone(part * target / 2, rate), rate)
        assert float(read_at(sound, target, target // 4, target // 2).abs().max()) < 1e-5


@pytest.mark.parametrize(("rate", "target"), RATES)
def test_a_stretch_of_the_output_is_that_of_the_whole(rate: int, target: int) -> None:
    """Wherever it begins; and little more of the recording is read than lasts as long."""
    sound = Counting("noise", torch.from_numpy(np.random.default_rng(0).standard_normal(2 * rate)).float(), rate)
    length = length_at(sound, target)
    whole = read_at(sound, target, 0, length)
    assert len(whole) == length == math.ceil(2 * rate * target / rate)
    period = rate // math.gcd(rate, target)
    for start in (0, 7, length // 3 + 1, length - 40):
        torch.testing.assert_close(read_at(sound, target, start, 40), whole[start : start + 40], atol=5e-6, rtol=0)
        first, last = sound.taken
        spare = max(2 * period, rate * 0.02 * 16_000 / min(rate, target))
        assert first > start * rate / target - spare and last < (start + 40) * rate / target + spare


def test_equal_rates_change_nothing() -> None:
    x = torch.randn(50)
    sound = Stored("noise", x, 8000)
    assert length_at(sound, 8000) == 50 and torch.equal(read_at(sound, 8000, 7, 20), x[7:27])


def test_a_rate_must_be_positive() -> None:
    with pytest.raises(ValueError, match="rate=0"):
        Stored("noise", torch.randn(50), 0)


def test_of_a_tone_just_above_what_the_rate_can_hold_nothing_is_left() -> None:
    """At 8.1 kHz, on the way from 44.1 to 16 kHz: at least 100 dB below."""
    resampled = read_at(Stored("tone", tone(8100, 44_100), 44_100), 16_000, 2_000, 12_000)
    assert 20 * math.log10(float(resampled.square().mean().sqrt()) * 2**0.5) < -100
