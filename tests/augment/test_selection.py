"""Any selection of samples can be augmented: none of them, one, or all; and chance may choose none
of them, one, or all to change."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from typing import Any, get_args

import pytest
import torch
from torch import Tensor

from ssl_lightning.augment.colour import ColorJitter, GaussianBlur, Greyscale, Normalize, Solarize
from ssl_lightning.augment.geometry import Affine, CentralCrop, HorizontalFlip, RandomResizedCrop
from ssl_lightning.augment.image import ImagePolicy
from ssl_lightning.augment.inversion import Inversion
from ssl_lightning.augment.log_mel import LogMel
from ssl_lightning.augment.operation import Operation
from ssl_lightning.augment.random import sample_keys
from ssl_lightning.augment.sound import SoundPolicy
from ssl_lightning.augment.spectrograms import LinearFader, Mixup, RandomResizeCrop, SpecAugment
from ssl_lightning.augment.waves import Gain, Noise, Polarity, TimeShift
from ssl_lightning.augment.window import Waves
from ssl_lightning.types import Strength

IMAGES = (3, 72, 80)  # above `DENSE_PIXELS`: a CPU resizes them one by one
SMALL = (3, 20, 24)
WAVES = (1, 1, 500)
LOG_MELS = (1, 16, 30)
OPERATIONS: list[tuple[Operation, tuple[int, int, int]]] = [
    (RandomResizedCrop(8), IMAGES),
    (RandomResizedCrop(8), SMALL),
    (CentralCrop(8), IMAGES),
    (CentralCrop(8), SMALL),
    (HorizontalFlip(), SMALL),
    (Affine(20.0, 5.0), SMALL),
    (ColorJitter(0.4, 0.4, 0.4, 0.1, p=0.5), SMALL),
    (Greyscale(p=0.5), SMALL),
    (GaussianBlur((1.0, 2.0), p=0.5), SMALL),
    (Solarize(p=0.5), SMALL),
    (Normalize((0.5,), (0.25,)), SMALL),
    (Gain((-6, 6)), WAVES),
    (Polarity(), WAVES),
    (TimeShift((-0.2, 0.2)), WAVES),
    (Noise((0, 30)), WAVES),
    (Mixup(torch.randn(2, 16, 30, generator=torch.Generator().manual_seed(0))), LOG_MELS),
    (RandomResizeCrop(), LOG_MELS),
    (LinearFader(), LOG_MELS),
    (SpecAugment(), LOG_MELS),
]
CASES = [pytest.param(*case, id=f"{type(case[0]).__name__} {case[1]}") for case in OPERATIONS]
CHANCE = [case for case in OPERATIONS if hasattr(case[0], "p")]


def batch(shape: tuple[int, ...], samples: int = 4) -> Tensor:
    x = torch.rand(samples, *shape, generator=torch.Generator().manual_seed(0))
    return x - 0.5 if shape == WAVES else x


def keys(samples: int = 4, seed: int = 0) -> Tensor:
    return sample_keys(seed, 0, torch.arange(samples))


def concrete(cls: type[Any] = Operation) -> Iterator[type[Any]]:
    for below in cls.__subclasses__():
        if below.__module__.startswith("ssl_lightning.") and not getattr(below, "__abstractmethods__", ()):
            yield below
        yield from concrete(below)


def test_every_operation_is_among_the_cases() -> None:
    assert {type(operation) for operation, _ in OPERATIONS} == set(concrete())


@pytest.mark.parametrize(("operation", "shape"), CASES)
def test_none_of_the_samples_one_or_all_can_be_augmented(operation: Operation, shape: tuple[int, ...]) -> None:
    x, key = batch(shape), keys()
    whole = operation(x, key)
    for selection in (slice(0, 0), slice(2, 3), slice(0, 4)):
        out = operation(x[selection], key[selection])
        assert out.shape == whole[selection].shape and out.dtype == torch.float32
        torch.testing.assert_close(out, whole[selection])


@pytest.mark.parametrize(("operation", "shape"), [pytest.param(*case, id=type(case[0]).__name__) for case in CHANCE])
def test_chance_may_choose_none_of_the_samples_one_or_all(operation: Operation, shape: tuple[int, ...]) -> None:
    """The samples that are not chosen stay as they are, and each chosen one changes as alone."""
    x, counts = batch(shape), set()
    for key in (keys(seed=seed) for seed in range(200)):
        chosen = operation.numbers(key, *shape[1:])[0]
        if int(chosen.sum()) in counts:
            continue
        out = operation(x, key)
        for sample in range(4):
            alone = operation(x[sample : sample + 1], key[sample : sample + 1])[0]
            torch.testing.assert_close(out[sample], alone)
            assert torch.equal(out[sample], x[sample]) == (not chosen[sample])
        counts.add(int(chosen.sum()))
    assert counts == {0, 1, 2, 3, 4}


@pytest.mark.parametrize("size", [8, 72])
@pytest.mark.parametrize("varying", [False, True])
@pytest.mark.parametrize("strength", get_args(Strength))
def test_a_recipe_for_images_takes_an_empty_batch(strength: Strength, varying: bool, size: int) -> None:
    policy = ImagePolicy(rotation=10.0, shear=5.0, blur_p=0.5)
    recipe = policy.build(strength, size, varying=varying)
    for shape in (SMALL, IMAGES):
        x = (batch(shape) * 255).to(torch.uint8)
        whole, none = recipe(x, keys()), recipe(x[:0], keys(0))
        assert none.shape == (0, *whole.shape[1:]) and none.dtype == whole.dtype


@pytest.mark.parametrize("strength", get_args(Strength))
@pytest.mark.parametrize("edges", ["pad", "snip"])
@pytest.mark.parametrize("marked", [False, True])
def test_a_recipe_for_sound_takes_an_empty_batch(strength: Strength, edges: Any, marked: bool) -> None:
    """As waves and as log-mels, of windows and of rows as long as a batch needs."""
    mel = LogMel(8000, mels=16, window=0.032, edges=edges)
    bank = mel(torch.randn(2, 800, generator=torch.Generator().manual_seed(0)))
    recipes: list[Callable[[Waves, Tensor], Any]] = [
        SoundPolicy(masks=(1, 1)).build(strength, 800, mel, bank=bank),
        SoundPolicy().build(strength, 800, normalise=True),
        SoundPolicy().build(strength, None, step=80, normalise=True),
    ]
    for recipe in recipes:
        x = torch.randn(3, 800, generator=torch.Generator().manual_seed(1))
        lengths = torch.tensor([800, 200, 500]) if marked else None
        whole = recipe(Waves(x, lengths), keys(3))
        none = recipe(Waves(x[:0], None if lengths is None else lengths[:0]), keys(0))
        assert none.x.shape == (0, *whole.x.shape[1:])
        assert (none.segment is None) == (whole.segment is None)


def test_an_empty_recording_stays_silent() -> None:
    """It is all padding, so that its mean and variance are of no sample."""
    view = SoundPolicy().build("none", None, step=80, normalise=True)(
        Waves(torch.zeros(2, 80) + torch.tensor([[0.0], [1.0]]), torch.tensor([0, 80])), keys(2)
    )
    assert view.x.isfinite().all() and not view.x[0].any()


@pytest.mark.parametrize("edges", ["pad", "snip"])
@pytest.mark.parametrize("centre", [False, True])
def test_spectra_of_no_wave_and_of_waves_without_a_frame(edges: Any, centre: bool) -> None:
    mel = LogMel(8000, mels=16, window=0.032, edges=edges, centre=centre, pre_emphasis=0.9 * centre)
    assert mel(torch.zeros(0, 800)).shape == (0, 16, mel.frames(800))
    short = 40 if edges == "pad" else 200
    assert mel.frames(short) == 0 and mel(torch.ones(3, short)).shape == (3, 16, 0)
    assert mel(torch.zeros(0, short)).shape == (0, 16, 0)


@pytest.mark.parametrize("edges", ["pad", "snip"])
def test_waves_of_no_log_mel(edges: Any) -> None:
    mel = LogMel(8000, mels=16, window=0.032, edges=edges)
    inversion = Inversion(mel, steps=2)
    log_mels = mel(torch.randn(2, 800, generator=torch.Generator().manual_seed(0)))
    whole = inversion(log_mels)
    assert inversion(log_mels[:0]).shape == (0, whole.shape[1])
    torch.testing.assert_close(inversion(log_mels[1:]), whole[1:], rtol=1e-3, atol=1e-3)
