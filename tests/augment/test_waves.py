"""What is done to waves, in numbers that are known."""

from __future__ import annotations

from collections.abc import Callable

import pytest
import torch

from ssl_lightning.augment.operation import Operation
from ssl_lightning.augment.random import sample_keys
from ssl_lightning.augment.waves import Gain, Noise, Polarity, TimeShift

KEY = sample_keys(0, 0, torch.arange(400))


def waves(count: int = 400, samples: int = 1_000) -> torch.Tensor:
    return torch.randn(count, 1, 1, samples, generator=torch.Generator().manual_seed(0))


@pytest.mark.parametrize(
    "operation",
    [Gain((-6, 6)), Polarity(0.5), TimeShift((-0.2, 0.3)), Noise((0, 30))],
    ids=lambda op: type(op).__name__,
)
def test_a_wave_changes_by_its_own_key_alone(operation: Operation) -> None:
    x = waves()
    before = x.clone()
    together = operation(x, KEY)
    assert torch.equal(x, before) and torch.equal(together, operation(x, KEY))
    torch.testing.assert_close(operation(x[5:6], KEY[5:6])[0], together[5])
    assert int((operation(x, sample_keys(0, 1, torch.arange(400))) != together).flatten(1).any(1).sum()) > 100


def test_a_gain_of_some_decibels() -> None:
    decibels = 20 * (Gain((-6, 6))(waves(), KEY) / waves()).mean((1, 2, 3)).log10()
    assert -6 <= float(decibels.min()) < -5.5 and 5.5 < float(decibels.max()) <= 6
    torch.testing.assert_close(Gain((20, 20))(waves(), KEY), 10 * waves())


def test_half_of_all_waves_are_turned_upside_down() -> None:
    ratio = (Polarity(0.5)(waves(), KEY) / waves()).flatten(1)
    assert (
        bool((ratio == ratio[:, :1]).all())
        and set(ratio[:, 0].tolist()) == {1.0, -1.0}
        and 150 < int((ratio[:, 0] < 0).sum()) < 250
    )


def test_a_shift_leaves_zeros_and_turns_nothing_round() -> None:
    x = waves()
    for part, place in ((0.25, slice(250, None)), (-0.25, slice(None, -250))):
        moved = TimeShift((part, part))(x, KEY)
        kept = x[..., :-250] if part > 0 else x[..., 250:]
        assert torch.equal(moved[..., place], kept) and int((moved != 0).sum()) == int((kept != 0).sum())


def test_noise_is_so_many_decibels_below_the_sound() -> None:
    x = waves() * torch.logspace(-2, 0, 400)[:, None, None, None]
    x[::2, ..., 500:] = 0  # padding does not make the sound softer
    added = Noise((12, 12), p=1.0)(x, KEY) - x
    power = x.square().sum((1, 2, 3)) / (x != 0).sum((1, 2, 3))
    ratio = 10 * (power / added.square().mean((1, 2, 3))).log10()
    assert float((ratio - 12).abs().max()) < 1
    flat = added[:, 0, 0] / added.std(-1)[:, 0]
    assert float((flat[:200] * flat[200:]).mean(1).abs().max()) < 0.2  # each its own noise
    unchanged = Noise((12, 12), p=0.3)(x, KEY).eq(x).flatten(1).all(1)
    assert 240 < int(unchanged.sum()) < 320
    assert not Noise((12, 12), p=1.0)(torch.zeros_like(x), KEY).any()  # nothing to compare with


def test_ranges_must_not_be_empty() -> None:
    cases: list[tuple[Callable[[], Operation], str]] = [
        (lambda: Gain((1, 0)), r"Gain\(decibels=\(1, 0\)\) must be a range"),
        (lambda: Noise((1, 0)), r"Noise\(decibels=\(1, 0\)\) must be a range"),
        (lambda: TimeShift((0.2, 1.2)), r"TimeShift\(part=\(0.2, 1.2\)\) must be -1 <="),
        (lambda: Polarity(1.2), r"Polarity\(p=1.2\) must be at least 0 and at most 1"),
    ]
    for make, message in cases:
        with pytest.raises(ValueError, match=message):
            make()
