"""Crops, flips and rotations do what torchvision's do, for given parameters and in distribution."""

from __future__ import annotations

import pytest
import torch
import torchvision.transforms as reference
import torchvision.transforms.functional as functional
from torch import Tensor
from torchvision.transforms import InterpolationMode

from ssl_lightning.augment.geometry import (
    Affine,
    CentralCrop,
    Crop,
    HorizontalFlip,
    RandomResizedCrop,
    _allowed,
    crop_and_resize,
    crop_boxes,
    rotate_and_shear,
)
from ssl_lightning.augment.random import sample_keys, uniform

DRAWS = 4000


def images(count: int, channels: int, height: int, width: int) -> Tensor:
    return torch.rand(count, channels, height, width, generator=torch.Generator().manual_seed(0))


def distance(ours: Tensor, theirs: Tensor) -> float:
    """The largest gap between two empirical distribution functions (Kolmogorov-Smirnov)."""
    both = torch.cat([ours, theirs]).sort().values
    ours, theirs = ours.sort().values, theirs.sort().values
    gap = torch.searchsorted(ours, both, right=True) / len(ours) - torch.searchsorted(theirs, both, right=True) / len(
        theirs
    )
    return float(gap.abs().max())


# The tall and the wide image, and the scale of one, often exhaust the ten tries.
@pytest.mark.by_default(1)
@pytest.mark.parametrize(
    ("height", "width", "scale", "ratio"),
    [
        (32, 32, (0.08, 1.0), (3 / 4, 4 / 3)),
        (224, 320, (0.2, 1.0), (3 / 4, 4 / 3)),
        (96, 24, (0.3, 1.0), (3 / 4, 4 / 3)),
        (20, 90, (0.3, 1.0), (3 / 4, 4 / 3)),
        (8, 8, (0.6, 1.0), (0.8, 1.25)),
        (32, 32, (1.0, 1.0), (0.5, 2.0)),
    ],
)
def test_boxes_are_distributed_as_torchvisions(
    height: int, width: int, scale: tuple[float, float], ratio: tuple[float, float]
) -> None:
    u = uniform(sample_keys(0, 0, torch.arange(8 * DRAWS)), 22)
    # Every other image is of another size: those looked at are the rest.
    heights, widths = torch.tensor([height, 50]).repeat(4 * DRAWS), torch.tensor([width, 500]).repeat(4 * DRAWS)
    ours = crop_boxes(u, heights, widths, scale, ratio)[::2].float()
    image = torch.empty(1, height, width)
    with torch.random.fork_rng():
        torch.manual_seed(0)
        draws = [reference.RandomResizedCrop.get_params(image, list(scale), list(ratio)) for _ in range(DRAWS)]
    theirs = torch.tensor(draws).float()
    assert (
        (ours[:, :2] >= 0).all()
        and (ours[:, 0] + ours[:, 2] <= height).all()
        and (ours[:, 1] + ours[:, 3] <= width).all()
    )
    limit = 1.95 * (1 / DRAWS + 0.25 / DRAWS) ** 0.5  # exceeded with probability 0.001
    for name, of in {
        "top": lambda box: box[:, 0],
        "left": lambda box: box[:, 1],
        "area": lambda box: box[:, 2] * box[:, 3],
        "ratio": lambda box: box[:, 3] / box[:, 2],
    }.items():
        assert distance(of(ours), of(theirs)) < limit, name


def test_where_ten_tries_fail_the_box_is_torchvisions_central_one() -> None:
    image_sizes = [(100, 10), (10, 100), (30, 30), (31, 40)]
    for height, width in image_sizes:
        u = torch.full((1, 22), 0.999)  # the largest area and the widest ratio, ten times: never fits
        ours = crop_boxes(u, height, width, (0.99, 1.0), (1.0, 1.5))
        theirs = reference.RandomResizedCrop.get_params(torch.empty(1, height, width), [50.0, 50.0], [1.0, 1.5])
        assert tuple(ours[0].tolist()) == theirs


@pytest.mark.parametrize(
    ("channels", "height", "width", "size"),
    [(3, 32, 32, 32), (1, 28, 28, 32), (1, 8, 8, 16), (3, 40, 56, 17), (3, 90, 120, 64)],
)
def test_a_resized_crop_equals_torchvisions_antialiased_one(channels: int, height: int, width: int, size: int) -> None:
    x = images(24, channels, height, width)
    boxes = crop_boxes(uniform(sample_keys(1, 0, torch.arange(24)), 22), height, width, (0.05, 1.0), (0.5, 2.0))
    ours = crop_and_resize(x, boxes, size)
    theirs = torch.stack(
        [
            functional.resized_crop(i, *box, [size, size], antialias=True)
            for i, box in zip(x, boxes.tolist(), strict=True)
        ]
    )
    assert torch.allclose(ours, theirs, atol=1e-5)


def test_large_images_are_cropped_as_small_ones_are(monkeypatch: pytest.MonkeyPatch) -> None:
    x, key = images(6, 3, 80, 70), sample_keys(0, 0, torch.arange(6))
    one_by_one = RandomResizedCrop(40)(x, key)
    monkeypatch.setattr("ssl_lightning.augment.geometry.DENSE_PIXELS", 10**9)
    assert torch.allclose(RandomResizedCrop(40)(x, key), one_by_one, atol=1e-5)


@pytest.mark.parametrize("p", [0.0, 0.3, 1.0])
def test_as_many_images_are_flipped_as_asked_and_the_others_stay(p: float) -> None:
    x = images(1, 3, 4, 6).expand(DRAWS, -1, -1, -1)
    out = HorizontalFlip(p)(x, sample_keys(0, 0, torch.arange(DRAWS)))
    flipped = (out == x.flip(-1)).all((1, 2, 3))
    assert (flipped | (out == x).all((1, 2, 3))).all()
    assert float(flipped.float().mean()) == pytest.approx(p, abs=0.03 if 0 < p < 1 else 0)


@pytest.mark.parametrize(("height", "width"), [(16, 16), (12, 20)])
def test_rotation_and_shear_equal_torchvisions(height: int, width: int) -> None:
    x = images(5, 2, height, width)
    angle, shear = torch.tensor([0.0, 15.0, -30.0, 0.0, 70.0]), torch.tensor([0.0, 0.0, 10.0, -20.0, 5.0])
    theirs = torch.stack(
        [
            functional.affine(i, a, [0, 0], 1.0, [s, 0.0], InterpolationMode.BILINEAR)
            for i, a, s in zip(x, angle.tolist(), shear.tolist(), strict=True)
        ]
    )
    assert torch.allclose(rotate_and_shear(x, angle, shear), theirs, atol=1e-4)


def test_angles_and_slants_fill_their_ranges(monkeypatch: pytest.MonkeyPatch) -> None:
    drawn: list[Tensor] = []
    monkeypatch.setattr(
        "ssl_lightning.augment.geometry.rotate_and_shear", lambda x, *numbers: drawn.extend(numbers) or x
    )
    Affine(10.0, 4.0)(images(1, 1, 2, 2).expand(DRAWS, -1, -1, -1), sample_keys(0, 0, torch.arange(DRAWS)))
    for numbers, limit in zip(drawn, (10.0, 4.0), strict=True):
        assert distance(numbers, torch.linspace(-limit, limit, DRAWS)) < 0.03
    assert abs(float(torch.corrcoef(torch.stack(drawn))[0, 1])) < 0.06


@pytest.mark.parametrize(("height", "width"), [(40, 50), (51, 36), (24, 24), (20, 27), (90, 70)])
def test_the_clean_crop_is_torchvisions_resized_central_square(height: int, width: int) -> None:
    x, side = images(2, 3, height, width), min(height, width)
    theirs = functional.resize(
        x[..., (height - side) // 2 :, (width - side) // 2 :][..., :side, :side], [24, 24], antialias=True
    )
    assert torch.allclose(CentralCrop(24)(x, torch.zeros(2, dtype=torch.int64)), theirs, atol=1e-6)


def test_the_clean_crop_of_a_square_of_the_right_size_changes_no_bit() -> None:
    x = images(2, 3, 24, 24)
    assert torch.equal(CentralCrop(24)(x, torch.zeros(2, dtype=torch.int64)), x)


SIZES = [(32, 32), (224, 320), (96, 24), (20, 90), (1, 7), (500, 375)]


@pytest.mark.parametrize("crop", [RandomResizedCrop(16, (0.2, 1.0)), CentralCrop(16)], ids=["random", "central"])
def test_images_of_many_sizes_get_the_boxes_that_each_gets_alone(crop: Crop) -> None:
    height, width = torch.tensor(SIZES * 50).T
    key = sample_keys(0, 0, torch.arange(len(height)))
    together = crop.boxes(key, height, width)
    alone = [crop.boxes(key[i : i + 1], *SIZES[i % len(SIZES)]) for i in range(len(key))]
    assert together.dtype == torch.int64 and torch.equal(together, torch.cat(alone))


def test_impossible_arguments_are_named() -> None:
    with pytest.raises(ValueError, match=r"scale\[0\] <= scale\[1\]"):
        RandomResizedCrop(32, scale=(0.5, 1.5))
    with pytest.raises(ValueError, match="ratio"):
        RandomResizedCrop(32, ratio=(2.0, 1.0))
    with pytest.raises(ValueError, match=r"HorizontalFlip\(p=1\.5\) must be at least 0 and at most 1"):
        HorizontalFlip(1.5)


@pytest.mark.parametrize("ratio", [(3 / 4, 4 / 3), (0.5, 2.0), (0.3, 1.7), (1.0, 1.0)])
def test_the_largest_allowed_sides_are_those_of_float64_for_one_size_and_for_many(ratio: tuple[float, float]) -> None:
    """Ties included: sizes whose limit lies between two pixels are rounded to the even one."""
    sides = torch.arange(1, 3000)
    many = _allowed(sides, sides, ratio)
    assert all(isinstance(each, torch.Tensor) for each in many)
    one = [_allowed(side, side, ratio) for side in sides.tolist()]
    assert [list(pair) for pair in one] == torch.stack([torch.as_tensor(each) for each in many], 1).tolist()
    exact = [sides.double() / ratio[0], sides.double() * ratio[1]]
    assert torch.equal(torch.tensor(one), torch.stack(exact, 1).round().long())
