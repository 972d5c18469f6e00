"""A sample's views depend on the sample and its key alone; the policy builds what its strengths
promise."""

from __future__ import annotations

from collections.abc import Callable
from typing import get_args

import pytest
import torch
from torch import Tensor

from ssl_lightning.augment.colour import ColorJitter, GaussianBlur, Greyscale, Normalize, Solarize
from ssl_lightning.augment.geometry import Affine, CentralCrop, HorizontalFlip, RandomResizedCrop, crop_and_resize
from ssl_lightning.augment.image import Augmentation, ImagePolicy
from ssl_lightning.augment.operation import Operation
from ssl_lightning.augment.random import fold, sample_keys
from ssl_lightning.types import Strength

EVERYTHING: dict[str, Callable[[], Operation]] = {
    "crop": lambda: RandomResizedCrop(24),
    "flip": HorizontalFlip,
    "affine": lambda: Affine(20.0, 10.0),
    "jitter": lambda: ColorJitter(0.8, 0.8, 0.8, 0.2, p=0.8),
    "grey": Greyscale,
    "blur": GaussianBlur,
    "solarize": Solarize,
    "normalize": lambda: Normalize((0.5,), (0.25,)),
}


def batch(count: int, channels: int = 3, height: int = 32, width: int = 32) -> tuple[Tensor, Tensor]:
    generator = torch.Generator().manual_seed(0)
    x = torch.randint(0, 256, (count, channels, height, width), dtype=torch.uint8, generator=generator)
    return x, sample_keys(0, 0, torch.arange(count))


def everything() -> Augmentation:
    return Augmentation(*(make() for make in EVERYTHING.values()))


@pytest.mark.parametrize("name", EVERYTHING)
def test_an_operation_treats_a_sample_alone_as_in_a_batch(name: str) -> None:
    operation = EVERYTHING[name]()
    x, key = batch(40)
    together = operation(x, key)
    for i in (0, 7, 39):
        assert torch.allclose(operation(x[i : i + 1], key[i : i + 1])[0], together[i], atol=1e-6)
    some = torch.tensor([31, 4, 12])
    assert torch.allclose(operation(x[some], key[some]), together[some], atol=1e-6)


@pytest.mark.parametrize(("count", "side"), [(200, 32), (17, 96), (2, 224)])
def test_a_sample_alone_is_bit_for_bit_what_it_is_in_a_batch_that_is_worked_on_in_parts(count: int, side: int) -> None:
    x, key = batch(count, 3, side, side)
    augmentation = ImagePolicy(rotation=10.0, blur_p=0.5, solarize_p=0.3).build("strong_b", side)
    together = augmentation(x, key)
    for i in {0, 1, min(63, count - 1), min(64, count - 1), count - 1}:
        assert torch.equal(augmentation(x[i : i + 1], key[i : i + 1])[0], together[i])


@pytest.mark.parametrize("name", EVERYTHING)
def test_an_operation_leaves_its_input_alone_and_takes_floats_as_well(name: str) -> None:
    operation = EVERYTHING[name]()
    x, key = batch(40)
    for floating in (x / 255, (x / 255).to(memory_format=torch.channels_last), x[:1].expand_as(x) / 255):
        before = floating.clone()
        once = operation(floating, key)
        assert torch.equal(floating, before)
        assert torch.allclose(once, operation((floating * 255).round().byte(), key), atol=1e-6)
        assert torch.allclose(once, Augmentation(operation)(floating, key), atol=1e-6)
        assert torch.equal(floating, before)


def test_each_key_gives_views_of_its_own_and_the_same_key_the_same() -> None:
    x, key = batch(30)
    same = x[:1].expand_as(x)
    out = everything()(same, key)
    assert torch.equal(out, everything()(same, key))
    assert len(out.flatten(1).unique(dim=0)) == 30
    assert not torch.isclose(out, everything()(same, fold(key, 1))).flatten(1).all(1).any()


def test_removing_one_operation_does_not_redraw_the_others() -> None:
    x, key = batch(40)
    blur = GaussianBlur(p=0.4)
    without = Augmentation(*(EVERYTHING[name]() for name in ("crop", "flip", "jitter")))(x, key)
    with_blur = Augmentation(EVERYTHING["crop"](), EVERYTHING["flip"](), EVERYTHING["jitter"](), blur)(x, key)
    equal = (without == with_blur).flatten(1).all(1)
    assert torch.equal(~equal, blur.draw(key, 1)[:, 0] < 0.4)
    first = Augmentation(Greyscale(0.3), EVERYTHING["crop"](), EVERYTHING["flip"](), EVERYTHING["jitter"]())(x, key)
    coloured = Greyscale(0.3).draw(key, 1)[:, 0] >= 0.3
    assert torch.allclose(first[coloured], without[coloured], atol=1e-6)


def test_operations_of_two_types_and_two_of_one_type_draw_apart() -> None:
    x, key = batch(2000, 1, 1, 2)
    flips = HorizontalFlip(0.5).draw(key, 1)[:, 0]
    greys = Greyscale(0.5).draw(key, 1)[:, 0]
    assert abs(float(torch.corrcoef(torch.stack([flips, greys]))[0, 1])) < 0.08
    twice = Augmentation(HorizontalFlip(), HorizontalFlip())(x, key)
    kept = (twice == x / 255).flatten(1).all(1).float().mean()
    assert float(kept) == pytest.approx(0.5, abs=0.05)  # were they one draw, all would be back


def test_augmenting_touches_no_global_generator() -> None:
    before = torch.get_rng_state()
    everything()(*batch(8))
    assert torch.equal(torch.get_rng_state(), before)


def types(augmentation: Augmentation) -> list[str]:
    return [type(operation).__name__ for operation in augmentation.operations]


def test_the_default_policy_is_simclrs_for_small_images() -> None:
    policy = ImagePolicy()
    assert types(policy.build("none", 32)) == ["CentralCrop", "Normalize"]
    assert types(policy.build("weak", 32)) == ["RandomResizedCrop", "HorizontalFlip", "Normalize"]
    assert types(policy.build("strong", 32)) == [
        "RandomResizedCrop",
        "HorizontalFlip",
        "ColorJitter",
        "Greyscale",
        "Normalize",
    ]
    assert types(policy.build("strong_a", 32)) == types(policy.build("strong", 32))
    assert types(policy.build("strong_b", 32))[-2:] == ["Solarize", "Normalize"]
    assert "GaussianBlur" not in types(policy.build("strong_b", 64))


@pytest.mark.parametrize(
    ("strength", "blur", "solarize"), [("strong", 0.5, None), ("strong_a", 1.0, None), ("strong_b", 0.1, 0.2)]
)
def test_large_images_get_byols_pair(strength: Strength, blur: float, solarize: float | None) -> None:
    built = {type(operation): operation for operation in ImagePolicy().build(strength, 224).operations}
    assert built[GaussianBlur].p == blur
    assert (built[Solarize].p if Solarize in built else None) == solarize


def test_a_policy_without_blur_or_solarisation_has_none_in_any_strength() -> None:
    policy = ImagePolicy(blur_p=0.0, solarize_p=0.0)
    for strength in get_args(Strength):
        assert not {"GaussianBlur", "Solarize"} & set(types(policy.build(strength, 224)))


def test_a_local_view_takes_smaller_crops() -> None:
    policy = ImagePolicy(crop_scale=(0.4, 1.0), local_crop_scale=(0.1, 0.4))
    assert policy.build("strong", 32).operations[0].scale == (0.4, 1.0)
    assert policy.build("strong", 16, local=True).operations[0].scale == (0.1, 0.4)


def test_a_crop_after_another_draws_its_boxes_for_what_the_first_leaves() -> None:
    x, key = batch(20, 3, 90, 40)
    first, second = CentralCrop(20), RandomResizedCrop(10, (0.5, 1.0))
    assert torch.allclose(Augmentation(first, second)(x, key), second(first(x, key), key), atol=1e-6)


def test_an_accelerator_makes_views_without_the_host_reading_a_value() -> None:
    """The meta device has no values, so that whatever reads one raises."""
    x, key = batch(4)
    out = everything().to("meta")(x.to("meta"), key.to("meta"))
    assert out.shape == (4, 3, 24, 24) and out.dtype == torch.float32


@pytest.mark.parametrize("strength", get_args(Strength))
@pytest.mark.parametrize("local", [False, True])
def test_cutting_first_and_running_the_rest_is_the_whole(strength: Strength, local: bool) -> None:
    x, key = batch(40, 3, 60, 50)
    policy = ImagePolicy(rotation=10.0, blur_p=0.5)
    whole, parts = policy.build(strength, 24, local), policy.build(strength, 24, local, varying=True)
    assert parts.cut is not None and whole.cut is None
    cut = crop_and_resize(x / 255, parts.cut.boxes(key, torch.full((40,), 60), torch.full((40,), 50)), parts.cut.size)
    assert torch.allclose(parts(cut, key), whole(x, key), atol=1e-5)


DIGITS = ImagePolicy(crop_scale=(0.6, 1.0), flip=0.0, rotation=10.0, shear=10.0, grey_p=0.0, solarize_p=0.0)


@pytest.mark.parametrize("strength", get_args(Strength))
@pytest.mark.parametrize(
    ("policy", "channels", "height", "width", "size"),
    [
        (DIGITS, 1, 8, 8, 8),
        (DIGITS, 1, 8, 8, 16),
        (ImagePolicy(), 1, 28, 28, 32),
        (ImagePolicy(), 3, 32, 32, 32),
        (ImagePolicy(), 3, 90, 120, 80),
    ],
)
def test_every_strength_serves_digits_grey_and_colour(
    policy: ImagePolicy, channels: int, height: int, width: int, size: int, strength: Strength
) -> None:
    x, key = batch(5, channels, height, width)
    out = policy.build(strength, size)(x, key)
    assert out.shape == (5, channels, size, size) and out.dtype == torch.float32 and out.isfinite().all()
    assert out.abs().max() <= 1 + 1e-5  # mean 0.5 and std 0.5


def test_the_clean_view_of_an_image_of_the_right_size_is_the_image() -> None:
    x, key = batch(3)
    assert torch.allclose(ImagePolicy().build("none", 32)(x, key), x / 255 * 2 - 1, atol=1e-6)


def test_what_is_no_batch_of_images_is_refused() -> None:
    with pytest.raises(ValueError, match=r"uint8.*\[3, 32, 32\]"):
        ImagePolicy().build("strong", 32)(torch.zeros(3, 32, 32), torch.zeros(3, dtype=torch.int64))
    with pytest.raises(ValueError, match=r"got torch\.int64"):
        ImagePolicy().build("strong", 32)(
            torch.zeros(3, 1, 32, 32, dtype=torch.int64), torch.zeros(3, dtype=torch.int64)
        )


@pytest.mark.skipif(not torch.cuda.is_available(), reason="needs a GPU")
def test_a_gpu_makes_the_views_that_a_cpu_makes() -> None:
    x, key = batch(64)
    # Without solarisation, whose threshold turns a rounding difference into a visible one.
    augmentation = Augmentation(*(make() for name, make in EVERYTHING.items() if name != "solarize"))
    assert torch.allclose(augmentation.cuda()(x.cuda(), key.cuda()).cpu(), augmentation.cpu()(x, key), atol=1e-3)
