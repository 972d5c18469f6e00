"""What each strength does to sound, and how padding goes through it."""

from __future__ import annotations

import torch

from ssl_lightning.augment.log_mel import LogMel
from ssl_lightning.augment.random import sample_keys
from ssl_lightning.augment.sound import SoundPolicy
from ssl_lightning.augment.window import Waves
from ssl_lightning.types import Strength

KEY = sample_keys(0, 0, torch.arange(4))
BANK = torch.zeros(2, 32, 10)
MEL = LogMel(8000, mels=32, window=0.032)


def steps(strength: Strength, policy: SoundPolicy | None = None, wave: bool = False) -> list[str]:
    made = (policy or SoundPolicy()).build(strength, 800, None if wave else MEL, (0.0, 1.0), BANK)
    return [type(operation).__name__ for part in (made.waves, made.log_mels) for operation in part.operations]


def test_each_strength_is_its_recipe() -> None:
    everything = ["Gain", "TimeShift", "Polarity", "Noise", "Mixup", "Normalize", "RandomResizeCrop", "LinearFader"]
    assert steps("none") == ["Normalize"] and steps("weak") == ["Gain", "TimeShift", "Normalize"]
    assert steps("strong") == steps("strong_a") == steps("strong_b") == everything
    assert steps("strong", SoundPolicy(masks=(1, 1))) == [*everything, "SpecAugment"]
    nothing = SoundPolicy(
        gain=(0, 0),
        shift=(0, 0),
        polarity_p=0,
        noise_p=0,
        mix=0,
        crop_frequency=(1.0, 1.0),
        crop_time=(1.0, 1.0),
        fade=0,
    )
    assert steps("strong", nothing) == ["Normalize"]
    assert (steps("none", wave=True), steps("weak", wave=True), steps("strong", wave=True)) == (
        [],
        ["Gain"],
        ["Gain", "Polarity", "Noise"],
    )


def test_the_clean_view_is_the_normalised_log_mels() -> None:
    x = torch.randn(4, 800)
    none = SoundPolicy().build("none", 800, MEL, (-3.0, 2.0))
    assert not none.window.random and SoundPolicy().build("weak", 800, MEL).window.random
    torch.testing.assert_close(none(Waves(x), KEY).x, (MEL(x)[:, None] + 3) / 2)
    torch.testing.assert_close(none(Waves(x, torch.tensor([800, 5, 800, 100])), KEY).x, (MEL(x)[:, None] + 3) / 2)


def test_padding_of_waves_is_marked_and_stays_silent() -> None:
    lengths = torch.tensor([800, 300, 1, 799])
    real = torch.arange(800) < lengths[:, None]
    view = SoundPolicy(noise_p=1.0).build("strong", 800)(Waves(torch.randn(4, 800) * real, lengths), KEY)
    assert view.segment is not None and view.position is not None and view.samples == 4
    assert torch.equal(view.segment, real * torch.tensor([[1], [2], [3], [4]]))
    assert bool((view.x[~real] == 0).all()) and bool((view.x[real] != 0).all())
    assert SoundPolicy().build("strong", 800)(Waves(torch.randn(4, 800)), KEY).segment is None
