"""What is done to log-mels, in numbers that are known."""

from __future__ import annotations

from collections.abc import Callable

import pytest
import torch
import torch.nn.functional as F

from ssl_lightning.augment.operation import Operation
from ssl_lightning.augment.random import sample_keys
from ssl_lightning.augment.spectrograms import LinearFader, Mixup, RandomResizeCrop, SpecAugment

KEY = sample_keys(0, 0, torch.arange(300))
M, FRAMES = 20, 30


def log_mels(count: int = 300, seed: int = 0) -> torch.Tensor:
    return torch.randn(count, 1, M, FRAMES, generator=torch.Generator().manual_seed(seed))


BANK = log_mels(16, seed=1)[:, 0].half()
OPERATIONS = [Mixup(BANK), RandomResizeCrop(), LinearFader(), SpecAugment((2, 2))]


@pytest.mark.parametrize("operation", OPERATIONS, ids=lambda op: type(op).__name__)
def test_a_spectrogram_changes_by_its_own_key_alone(operation: Operation) -> None:
    x = log_mels()
    before = x.clone()
    together = operation(x, KEY)
    assert torch.equal(x, before) and torch.equal(together, operation(x, KEY)) and together.shape == x.shape
    torch.testing.assert_close(operation(x[5:6], KEY[5:6])[0], together[5], rtol=1e-5, atol=1e-5)
    assert int((operation(x, sample_keys(0, 1, torch.arange(300))) != together).flatten(1).any(1).sum()) > 290


def test_energies_are_mixed_and_the_background_stays_below_its_share() -> None:
    x = log_mels()
    mixed = Mixup(BANK, 0.4)(x, KEY)
    part, which = Mixup(BANK, 0.4).numbers(KEY, M, FRAMES)
    assert set(which.tolist()) == set(range(16)) and 0 <= float(part.min()) < 0.02 and 0.38 < float(part.max()) < 0.4
    part = part[:, None, None, None]
    torch.testing.assert_close(
        mixed.exp(), (1 - part) * x.exp() + part * BANK[which][:, None].float().exp(), rtol=1e-4, atol=1e-5
    )
    torch.testing.assert_close(Mixup(BANK, 0.0)(x, KEY), x)


def test_a_crop_is_a_stretch_of_the_canvas_resized() -> None:
    """Against torch's own resizing of each one."""
    x = log_mels(40)
    crop = RandomResizeCrop((0.6, 1.5), (0.6, 1.5), (1.0, 1.5))
    made, canvas = crop(x, KEY[:40]), F.pad(x, (7, 8))
    rows, columns = crop.numbers(KEY[:40], M, FRAMES)
    for number in range(40):
        (top, height), (left, width) = rows[number].tolist(), columns[number].tolist()
        part = canvas[number : number + 1, :, top : top + height, left + 7 : left + 7 + width]
        expected = F.interpolate(part, (M, FRAMES), mode="bilinear", antialias=True)
        torch.testing.assert_close(made[number], expected[0], atol=1e-5, rtol=1e-4)
    rows, columns = crop.numbers(KEY, M, FRAMES)
    assert (
        {int(rows[:, 1].min()), int(rows[:, 1].max())} == {12, 20}
        and int(columns[:, 1].min()) == 18
        and int(columns[:, 1].max()) == 45
    )
    assert (
        int(columns[:, 0].min()) == -7 and int((columns[:, 0] + columns[:, 1]).max()) == 38
    )  # as far as the canvas reaches


def test_a_crop_of_the_whole_changes_nothing() -> None:
    torch.testing.assert_close(RandomResizeCrop((1, 1), (1, 1), (1, 1))(log_mels(), KEY), log_mels())


def test_a_fader_is_a_line() -> None:
    line = LinearFader(0.8)(log_mels(), KEY) - log_mels()
    assert float((line - line[:, :, :1]).abs().max()) < 1e-5 and float(line.diff(n=2, dim=3).abs().max()) < 1e-5
    ends = line[:, 0, 0, [0, -1]]
    assert float(ends.min()) < -0.75 and float(ends.max()) > 0.75 and float(ends.abs().max()) <= 0.8
    assert abs(float((ends[:, 0] * ends[:, 1]).mean())) < 0.05  # drawn apart


def test_masks_are_bands_and_stretches_of_bounded_size() -> None:
    kept = SpecAugment((1, 2), (0.3, 0.2))(torch.ones(300, 1, M, FRAMES), KEY)[:, 0]
    bands, stretches = kept.amax(2) == 0, kept.amax(1) == 0  # [S, M], [S, F]
    torch.testing.assert_close(kept, (~bands[:, :, None] & ~stretches[:, None]).float())
    assert int(bands.sum(1).max()) == 6 and int(stretches.sum(1).max()) in (11, 12) and int(bands.sum(1).min()) == 0
    assert int(bands.int().diff(dim=1).clamp(min=0).sum(1).max()) <= 1  # one band
    assert bool(bands.any(0).all()) and bool(stretches.any(0).all())  # anywhere


def test_what_makes_no_sense_is_refused() -> None:
    cases: list[tuple[Callable[[], Operation], str]] = [
        (lambda: Mixup(torch.empty(0, M, FRAMES)), r"Mixup needs a bank"),
        (lambda: Mixup(BANK, 1.5), r"Mixup\(most=1.5\) must be at least 0 and at most 1"),
        (lambda: RandomResizeCrop((0, 1)), r"RandomResizeCrop\(frequency=\(0, 1\)\) must be 0 <"),
        (lambda: RandomResizeCrop(canvas=(0.5, 1)), r"RandomResizeCrop\(canvas=\(0.5, 1\)\) must be at least"),
        (lambda: LinearFader(-1), r"LinearFader\(most=-1\) must be at least 0"),
        (lambda: SpecAugment((-1, 0)), r"SpecAugment\(masks=\(-1, 0\)\) must be"),
        (lambda: SpecAugment((1, 1), (2, 0)), r"SpecAugment\(most=2\) must be at least 0 and at most 1"),
    ]
    for make, message in cases:
        with pytest.raises(ValueError, match=message):
            make()
