"""Geometric operations: crops, random or central, and their resizing; flips, rotation and shear."""

from __future__ import annotations

import math
from abc import abstractmethod

import torch
import torch.nn.functional as F
from torch import Tensor

from ..plugins.arguments import require
from .operation import Operation, between, change_some, on_whole_batch

TRIES = 10
"""Number of boxes drawn for a sample before the central one is taken, as in torchvision."""
DENSE_PIXELS = 64 * 64
"""Up to this many pixels a CPU resizes a batch faster by dense matrices (5 us an image of 32x32
against 20); beyond it, one by one."""


def crop_boxes(
    u: Tensor, height: int | Tensor, width: int | Tensor, scale: tuple[float, float], ratio: tuple[float, float]
) -> Tensor:
    """Computes boxes of random area and aspect ratio, distributed exactly as those of torchvision's
    `RandomResizedCrop.get_params`.

    Of ten candidates the first that fits is taken; where none does, the largest central box whose
    ratio is allowed.

    Args:
        u: [S, 22] uniform numbers: ten areas, ten ratios, two positions.
        height: of the images in pixels; int64 [S] where they differ.
        width: likewise.
        scale: range of the box's area, as a part of the image's.
        ratio: range of width / height, drawn on a logarithmic scale.

    Returns:
        [S, 4] int64: top, left, height, width.
    """
    limit = _sizes(u.device, height, width)  # [S or 1, 2]
    area = between(*scale, u[:, :TRIES]) * limit.prod(1, keepdim=True)
    aspect = between(math.log(ratio[0]), math.log(ratio[1]), u[:, TRIES : 2 * TRIES]).exp()
    sides = torch.stack([(area / aspect).sqrt().round(), (area * aspect).sqrt().round()], -1).long()  # [S, TRIES, 2]
    fits = ((sides > 0) & (sides <= limit[:, None])).all(-1)
    first = fits.byte().argmax(1)[:, None, None].expand(-1, 1, 2)
    sides = sides.gather(1, first).squeeze(1)  # [S, 2]
    start = torch.minimum((u[:, 2 * TRIES :] * (limit - sides + 1)).long(), limit - sides)

    central = _central(limit, torch.minimum(limit, _sizes(u.device, *_allowed(height, width, ratio))))
    return torch.where(fits.any(1)[:, None], torch.cat([start, sides], 1), central)


def _allowed(
    height: int | Tensor, width: int | Tensor, ratio: tuple[float, float]
) -> tuple[int | Tensor, int | Tensor]:
    """The largest height and width whose ratio is allowed, in images of the given size. Where sizes
    differ they are on the CPU, which cuts the images: not every device has float64."""
    return (
        (width.double() / ratio[0]).round().long() if isinstance(width, Tensor) else round(width / ratio[0]),
        (height.double() * ratio[1]).round().long() if isinstance(height, Tensor) else round(height * ratio[1]),
    )


def _sizes(device: torch.device, height: int | Tensor, width: int | Tensor) -> Tensor:
    """Stacks height and width, int64 [S or 1, 2], on the device, so that the host does not wait for
    a copy."""
    return torch.stack(
        [side if isinstance(side, Tensor) else torch.full((1,), side, device=device) for side in (height, width)], 1
    )


def _central(limit: Tensor, sides: Tensor) -> Tensor:
    """The box of given sides [S, 2] in the middle of images of the size `limit` [S, 2]: [S, 4]."""
    return torch.cat([(limit - sides) // 2, sides], 1)


def resize_matrix(start: Tensor, length: Tensor, source: int, size: int) -> Tensor:
    """The matrix of antialiased linear interpolation of a stretch of a line: a triangle filter as
    wide as the reduction.

    Args:
        start: [S] first pixel of the stretch.
        length: [S] pixels of the stretch.
        source: pixels of the whole line.
        size: pixels of the result.

    Returns:
        [S, size, source], rows summing to one; equal to torch's `interpolate(mode="bilinear",
        antialias=True)`.
    """
    step = length.float() / size  # [S]
    pixel = torch.arange(source, device=start.device)
    centre = start[:, None] + step[:, None] * (torch.arange(size, device=start.device) + 0.5) - 0.5  # [S, size]
    weight = (centre[:, :, None] - pixel).abs_().mul_(-1 / step.clamp(min=1)[:, None, None]).add_(1).clamp_(min=0)
    inside = (pixel >= start[:, None]) & (pixel < (start + length)[:, None])  # [S, source]
    weight *= inside[:, None].float()
    return weight.div_(weight.sum(-1, keepdim=True))


def crop_and_resize(x: Tensor, boxes: Tensor, size: int) -> Tensor:
    """Crops each image [S, C, H, W] to its box [S, 4] and resizes it with antialiasing: [S, C,
    size, size]."""
    samples, channels, height, width = x.shape
    if samples and height * width > DENSE_PIXELS and not on_whole_batch(x):
        crops = [
            image[None, :, t : t + h, left : left + w] for image, (t, left, h, w) in zip(x, boxes.tolist(), strict=True)
        ]
        return torch.cat([F.interpolate(crop, size=(size, size), mode="bilinear", antialias=True) for crop in crops])
    top, left, box_height, box_width = boxes.unbind(1)
    rows = resize_matrix(top, box_height, height, size)  # [S, size, H]
    columns = resize_matrix(left, box_width, width, size)  # [S, size, W]
    x = x.flatten(1, 2) @ columns.mT  # [S, C * H, size]
    return rows[:, None] @ x.unflatten(1, (channels, height))


class Crop(Operation):
    """Cuts a box out of each image and resizes it to a square of `size` pixels.

    The box is a function of key and image size alone, so that whatever reads an image from a file
    can crop it there.
    """

    def __init__(self, size: int) -> None:
        super().__init__()
        require(self, at_least=1, size=size)
        self.size = size

    @abstractmethod
    def boxes(self, key: Tensor, height: int | Tensor, width: int | Tensor) -> Tensor:
        """Computes boxes, int64 [S, 4] (top, left, height, width), from keys [S] and the images'
        height and width (of all, or int64 [S])."""

    def numbers(self, key: Tensor, height: int, width: int) -> tuple[Tensor]:
        return (self.boxes(key, height, width),)

    def change(self, x: Tensor, *numbers: Tensor) -> Tensor:
        return crop_and_resize(x, numbers[0], self.size)


class RandomResizedCrop(Crop):
    """Crops a random box of the image and resizes it to a square (Szegedy et al. 2014, arXiv
    1409.4842), as torchvision does on floats.

    Args:
        size: side of the square, in pixels.
        scale: range of the box's area, as a part of the image's.
        ratio: range of the box's width / height.

    Raises:
        ValueError: a range is empty, or not positive, or an area exceeds the image's.
    """

    def __init__(
        self, size: int, scale: tuple[float, float] = (0.08, 1.0), ratio: tuple[float, float] = (3 / 4, 4 / 3)
    ) -> None:
        super().__init__(size)
        if not 0 < scale[0] <= scale[1] <= 1:
            raise ValueError(f"RandomResizedCrop(scale={scale}) must be 0 < scale[0] <= scale[1] <= 1.")
        if not 0 < ratio[0] <= ratio[1]:
            raise ValueError(f"RandomResizedCrop(ratio={ratio}) must be 0 < ratio[0] <= ratio[1].")
        self.scale, self.ratio = scale, ratio

    def boxes(self, key: Tensor, height: int | Tensor, width: int | Tensor) -> Tensor:
        return crop_boxes(self.draw(key, 2 * TRIES + 2), height, width, self.scale, self.ratio)


class CentralCrop(Crop):
    """Crops the largest central square and resizes it: the test transform, without chance."""

    def boxes(self, key: Tensor, height: int | Tensor, width: int | Tensor) -> Tensor:
        limit = _sizes(key.device, height, width)
        return _central(limit, limit.amin(1, keepdim=True).expand(-1, 2)).expand(len(key), -1)


class HorizontalFlip(Operation):
    """Mirrors left and right with probability p."""

    def __init__(self, p: float = 0.5) -> None:
        super().__init__()
        require(self, at_least=0, at_most=1, p=p)
        self.p = p

    def numbers(self, key: Tensor, height: int, width: int) -> tuple[Tensor]:
        return (self.draw(key, 1)[:, 0] < self.p,)

    def change(self, x: Tensor, *numbers: Tensor) -> Tensor:
        return change_some(numbers[0], x, lambda images: images.flip(-1))


def rotate_and_shear(x: Tensor, angle: Tensor, shear: Tensor) -> Tensor:
    """Rotates by `angle` [S] and shears by `shear` [S], both in degrees, about the centre, with
    bilinear interpolation; what comes in from outside is black.

    Equal to torchvision's `functional.affine(x, angle, [0, 0], 1.0, [shear, 0.0], BILINEAR)`.
    """
    if len(x) == 0:
        return x  # `affine_grid` refuses it
    height, width = x.shape[-2:]
    turn, slant = torch.deg2rad(angle), torch.deg2rad(shear).tan()
    cos, sin = turn.cos(), turn.sin()
    zero = torch.zeros_like(cos)
    across = torch.stack([cos - sin * slant, (cos * slant + sin) * (height / width), zero], -1)
    down = torch.stack([-sin * (width / height), cos, zero], -1)
    grid = F.affine_grid(torch.stack([across, down], 1), list(x.shape), align_corners=False)
    return F.grid_sample(x, grid, mode="bilinear", padding_mode="zeros", align_corners=False)


class Affine(Operation):
    """A random rotation and horizontal shear, for images where these keep the meaning (digits).

    Args:
        degrees: angles are drawn from [-degrees, degrees].
        shear: shears are drawn from [-shear, shear], in degrees.
    """

    def __init__(self, degrees: float, shear: float = 0.0) -> None:
        super().__init__()
        self.degrees, self.shear = degrees, shear

    def numbers(self, key: Tensor, height: int, width: int) -> tuple[Tensor, Tensor]:
        angle, shear = self.draw(key, 2).unbind(1)
        return between(-self.degrees, self.degrees, angle), between(-self.shear, self.shear, shear)

    def change(self, x: Tensor, *numbers: Tensor) -> Tensor:
        return rotate_and_shear(x, *numbers)
