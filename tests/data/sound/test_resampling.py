"""Resampling equals SciPy's, and a stretch of the output needs a stretch of the input alone."""

from __future__ import annotations

import numpy as np
import pytest
import torch
from scipy.signal import resample_poly

from ssl_lightning.data.sound.resampling import Resampler

RATES = [
    (44_100, 16_000),
    (48_000, 16_000),
    (8_000, 16_000),
    (22_050, 8_000),
    (11_025, 16_000),
    (16_000, 44_100),
    (16_001, 1_000),
]


def stretch(resampler: Resampler, x: np.ndarray, starts: list[int], count: int) -> torch.Tensor:
    """What files would be read for, and what becomes of it."""
    read = []
    for wave, start in zip(x, starts, strict=True):
        first, frames = resampler.needs(start, count)
        padded = np.pad(wave, (5000, 60_000))
        assert first + 5000 >= 0
        read.append(torch.from_numpy(padded[first + 5000 : first + 5000 + frames]))
    return resampler(torch.stack(read), torch.tensor(starts), count)


@pytest.mark.parametrize(("rate", "target"), RATES)
def test_it_is_scipys_polyphase_filter(rate: int, target: int) -> None:
    x = np.random.default_rng(rate).standard_normal((2, rate // 10 + 7)).astype(np.float32)
    resampler = Resampler(rate, target)
    expected = resample_poly(x.astype(np.float64), resampler.up, resampler.down, axis=1)
    assert resampler.length(x.shape[1]) == expected.shape[1]
    whole = stretch(resampler, x, [0, 0], expected.shape[1])
    np.testing.assert_allclose(whole, expected, atol=3e-6)


@pytest.mark.parametrize(("rate", "target"), RATES)
def test_a_stretch_of_the_output_is_that_of_the_whole(rate: int, target: int) -> None:
    """Wherever it begins, and for samples of a batch that begin elsewhere."""
    x = np.random.default_rng(0).standard_normal((3, rate // 5)).astype(np.float32)
    resampler = Resampler(rate, target)
    length = resampler.length(x.shape[1])
    whole = stretch(resampler, x, [0] * 3, length)
    starts = [0, length // 3 + 1, length - 40]
    cut = stretch(resampler, x, starts, 40)
    for row, start in enumerate(starts):
        torch.testing.assert_close(cut[row], whole[row, start : start + 40], atol=1e-6, rtol=1e-5)


def test_equal_rates_change_nothing() -> None:
    x = torch.randn(2, 50)
    assert Resampler(8000, 8000).needs(7, 50) == (7, 50)
    assert torch.equal(Resampler(8000, 8000)(x, torch.tensor([7, 3]), 50), x)


def test_a_rate_must_be_positive() -> None:
    with pytest.raises(ValueError, match="got 0 and 16000 Hz"):
        Resampler(0, 16_000)
