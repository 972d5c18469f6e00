"""Colours change as torchvision changes them, for given factors and in distribution."""

from __future__ import annotations

import pytest
import torch
import torchvision.transforms as reference
import torchvision.transforms.functional as functional
from torch import Tensor

from ssl_lightning.augment.colour import (
    ColorJitter,
    GaussianBlur,
    Greyscale,
    Normalize,
    Solarize,
    adjust_brightness_,
    adjust_contrast_,
    adjust_hue_,
    adjust_saturation_,
    gaussian_blur,
)
from ssl_lightning.augment.random import sample_keys

DRAWS = 4000
KEYS = sample_keys(0, 0, torch.arange(DRAWS))


def pictures() -> Tensor:
    """Noise, and the pixels where a hue is easily wrong: ties between channels, grey, black, white,
    pure colours."""
    x = torch.rand(10, 3, 9, 8, generator=torch.Generator().manual_seed(0))
    levels = torch.tensor([0.0, 0.5, 1.0])
    x[:, :, :3, :] = 0.25
    x[:, :, :3, :].flatten(2)[:, :, :24] = torch.cartesian_prod(levels, levels, levels).T[:, :24]
    x[:, :, 3] = torch.cartesian_prod(levels, levels, levels).T[:, 19:27]
    return x


@pytest.mark.parametrize(
    ("ours", "theirs", "factors"),
    [
        (adjust_brightness_, functional.adjust_brightness, torch.linspace(0, 2, 10)),
        (adjust_contrast_, functional.adjust_contrast, torch.linspace(0, 2, 10)),
        (adjust_saturation_, functional.adjust_saturation, torch.linspace(0, 2, 10)),
        (adjust_hue_, functional.adjust_hue, torch.linspace(-0.5, 0.5, 10)),
    ],
    ids=["brightness", "contrast", "saturation", "hue"],
)
def test_each_adjustment_equals_torchvisions(ours, theirs, factors: Tensor) -> None:  # type: ignore[no-untyped-def]
    x = pictures()
    expected = torch.stack([theirs(image, factor) for image, factor in zip(x, factors.tolist(), strict=True)])
    assert torch.allclose(ours(x.clone(), factors), expected, atol=2e-6)


@pytest.mark.parametrize("adjust", ["brightness", "contrast"])
def test_grey_images_are_adjusted_as_torchvisions(adjust: str) -> None:
    x, factors = pictures()[:, :1], torch.linspace(0.2, 1.8, 10)
    ours = {"brightness": adjust_brightness_, "contrast": adjust_contrast_}[adjust](x.clone(), factors)
    theirs = getattr(functional, f"adjust_{adjust}")
    assert torch.allclose(
        ours, torch.stack([theirs(i, f) for i, f in zip(x, factors.tolist(), strict=True)]), atol=1e-6
    )


def test_jitter_factors_are_distributed_as_torchvisions() -> None:
    jitter = ColorJitter(0.8, 0.4, 1.5, 0.2, p=0.8)
    chosen, ours = jitter.numbers(KEYS, 9, 8)
    theirs = reference.ColorJitter(0.8, 0.4, 1.5, 0.2)
    for column, name in enumerate(["brightness", "contrast", "saturation", "hue"]):
        low, high = getattr(theirs, name)
        expected = torch.linspace(low, high, DRAWS)
        assert (ours[:, column].sort().values - expected).abs().max() < 0.04 * (high - low), name
    assert float(chosen.float().mean()) == pytest.approx(0.8, abs=0.03)
    together = torch.corrcoef(torch.cat([chosen[:, None].float(), ours], 1).T) - torch.eye(5)
    assert together.abs().max() < 0.06


def test_jitter_applies_its_own_factors_in_the_documented_order() -> None:
    jitter, x = ColorJitter(0.8, 0.8, 0.8, 0.2, p=0.5), pictures()
    out = jitter(x, KEYS[:10])
    chosen, factors = jitter.numbers(KEYS[:10], 9, 8)
    assert 0 < int(chosen.sum()) < 10
    for image, result, changed, (b, c, s, h) in zip(x, out, chosen.tolist(), factors.tolist(), strict=True):
        expected = functional.adjust_contrast(functional.adjust_brightness(image, b), c)
        expected = functional.adjust_hue(functional.adjust_saturation(expected, s), h)
        assert torch.allclose(result, expected if changed else image, atol=1e-5)


@pytest.mark.parametrize("channels", [1, 2, 4])
def test_images_without_three_channels_lose_no_channel_to_colour(channels: int) -> None:
    x = torch.rand(40, channels, 5, 5, generator=torch.Generator().manual_seed(0))
    assert torch.equal(Greyscale(1.0)(x, KEYS[:40]), x)
    assert torch.equal(ColorJitter(0, 0, 0.9, 0.5)(x, KEYS[:40]), x)
    assert not torch.equal(ColorJitter(0.5, 0, 0, 0)(x, KEYS[:40]), x)
    assert not torch.equal(ColorJitter(0, 0.5, 0, 0)(x, KEYS[:40]), x)


def test_greyscale_equals_torchvisions_at_its_rate() -> None:
    x = pictures()[:1].expand(DRAWS, -1, -1, -1)
    out = Greyscale(0.2)(x, KEYS)
    lost = torch.isclose(out, functional.rgb_to_grayscale(x[:1], 3), atol=1e-6).all((1, 2, 3))
    assert (lost | (out == x).all((1, 2, 3))).all()
    assert float(lost.float().mean()) == pytest.approx(0.2, abs=0.03)


@pytest.mark.parametrize("kernel", [3, 7])
def test_blur_equals_torchvisions(kernel: int) -> None:
    x, sigma = pictures(), torch.linspace(0.1, 2.0, 10)
    expected = torch.stack(
        [functional.gaussian_blur(i, [kernel, kernel], [s, s]) for i, s in zip(x, sigma.tolist(), strict=True)]
    )
    assert torch.allclose(gaussian_blur(x, sigma, kernel), expected, atol=1e-6)


def test_blur_takes_its_width_from_its_range_and_its_filter_from_the_image(monkeypatch: pytest.MonkeyPatch) -> None:
    seen: list[tuple[Tensor, int]] = []
    monkeypatch.setattr(
        "ssl_lightning.augment.colour.gaussian_blur", lambda x, sigma, kernel: seen.append((sigma, kernel)) or x
    )
    for side, kernel in [(8, 3), (32, 3), (96, 9), (224, 23)]:
        GaussianBlur((0.1, 2.0), p=0.3)(
            torch.zeros(1, 1, side, side).expand(DRAWS if side == 8 else 10, -1, -1, -1),
            KEYS[: DRAWS if side == 8 else 10],
        )
        assert seen[-1][1] == kernel
    sigma = seen[0][0]
    assert len(sigma) == pytest.approx(0.3 * DRAWS, abs=0.03 * DRAWS)
    assert (sigma.sort().values - torch.linspace(0.1, 2.0, len(sigma))).abs().max() < 0.1


@pytest.mark.parametrize("threshold", [0.5, 1.0])
def test_solarize_equals_torchvisions_at_its_rate(threshold: float) -> None:
    x = pictures()[:1].expand(DRAWS, -1, -1, -1)
    out = Solarize(threshold, p=0.2)(x, KEYS)
    inverted = (out == functional.solarize(x[:1], threshold)).all((1, 2, 3))
    assert (inverted | (out == x).all((1, 2, 3))).all()
    assert float(inverted.float().mean()) == pytest.approx(0.2, abs=0.03)


def test_normalize_equals_torchvisions() -> None:
    x, mean, std = pictures(), (0.4, 0.5, 0.6), (0.1, 0.2, 0.3)
    assert torch.allclose(Normalize(mean, std)(x, KEYS[:10]), functional.normalize(x, list(mean), list(std)), atol=1e-5)
    assert torch.allclose(Normalize((0.5,), (0.25,))(x, KEYS[:10]), (x - 0.5) / 0.25, atol=1e-6)


def test_impossible_arguments_are_named() -> None:
    with pytest.raises(ValueError, match=r"hue=0\.7"):
        ColorJitter(0.1, 0.1, 0.1, 0.7)
    with pytest.raises(ValueError, match="sigma"):
        GaussianBlur((0.0, 1.0))
    with pytest.raises(ValueError, match="std"):
        Normalize((0.5,), (0.0,))
    with pytest.raises(ValueError, match="3 means for images of 1 channels"):
        Normalize((0.5,) * 3, (0.5,) * 3)(torch.zeros(1, 1, 4, 4), KEYS[:1])
