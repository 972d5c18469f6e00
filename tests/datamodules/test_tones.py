"""Generated sounds: each follows from its number, and its class is how it moves."""

from __future__ import annotations

import torch
from ssl_lightning.datamodules.tones import CLASSES, TEST, TRAIN, Tones, generate


def test_a_sound_follows_from_its_number_alone() -> None:
    together = generate(torch.arange(40))
    assert bool(together.isfinite().all()) and float(together.abs().max()) <= 1 and together.shape == (40, 9600)
    for number in (3, 17, 38):
        torch.testing.assert_close(generate(torch.tensor([number]))[0], together[number], atol=1e-5, rtol=1e-4)
    assert len({round(float(wave.std()), 6) for wave in together}) == 40


def test_classes_move_as_they_are_called() -> None:
    """By the place of the strongest bin of each eighth of a second, and by the loudness there."""
    sounds = generate(torch.arange(400)).view(40, 10, 9600)
    spectra = torch.fft.rfft(sounds.unflatten(2, (-1, 960))).abs()  # [40, 10, 10, K]
    slope = spectra.argmax(3).float()[..., 1:].median(2).values - spectra.argmax(3).float()[..., :3].median(2).values
    change = {
        name: float((slope[:, kind] > 0).float().mean() - (slope[:, kind] < 0).float().mean())
        for kind, name in enumerate(CLASSES)
    }
    assert change["rising"] > 0.9 and change["falling"] < -0.9 and abs(change["tone"]) < 0.3
    envelope = sounds.unflatten(2, (-1, 160)).square().mean(3).sqrt()
    sway = dict(zip(CLASSES, (envelope.std(2) / envelope.mean(2)).mean(0).tolist(), strict=True))
    assert min(sway[name] for name in ("tremolo", "beeps", "clicks", "bell")) > 2 * max(
        sway[name] for name in ("tone", "rising", "vibrato")
    )


def test_train_and_test_share_no_sound() -> None:
    data = Tones()
    train, test = data.split("train"), data.split("test")
    assert train is not None and test is not None and train.labels is not None and test.labels is not None
    assert (
        (len(train), len(test)) == (TRAIN, TEST)
        and set(train.labels.bincount().tolist()) == {200}
        and set(test.labels.bincount().tolist()) == {50}
    )
    assert not torch.isin(test.waves.std(1), train.waves.std(1)).any()  # type: ignore[attr-defined]
