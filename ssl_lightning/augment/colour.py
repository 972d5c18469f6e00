"""What pixels look like: colour jitter, greyscale, blur, solarisation, normalisation."""

from __future__ import annotations

import torch
import torch.nn.functional as F
from torch import Tensor

from ..plugins.arguments import require
from .operation import Operation, between, change_some


def grey(x: Tensor) -> Tensor:
    """Luma of RGB images (ITU-R BT.601), the mean of the channels of any other: [S, C, H, W] -> [S,
    1, H, W]."""
    if x.shape[1] != 3:
        return x.mean(1, keepdim=True)
    red, green, blue = x.split(1, 1)
    return (red * 0.2989).add_(green, alpha=0.587).add_(blue, alpha=0.114)


def adjust_brightness_(x: Tensor, factor: Tensor) -> Tensor:
    """Multiplies images in [0, 1] by their factor [S] and clamps; x is overwritten."""
    return x.mul_(factor[:, None, None, None]).clamp_(0, 1)


def adjust_contrast_(x: Tensor, factor: Tensor) -> Tensor:
    """Moves images in [0, 1] away from (factor [S] above 1) or towards the mean of their luma and
    clamps; x is overwritten."""
    weight = factor[:, None, None, None]
    mean = grey(x.mean((2, 3), keepdim=True))  # the luma of the mean is the mean of the luma
    return x.mul_(weight).add_(mean * (1 - weight)).clamp_(0, 1)


def adjust_saturation_(x: Tensor, factor: Tensor) -> Tensor:
    """Moves RGB images in [0, 1] away from (factor [S] above 1) or towards their luma and clamps; x
    is overwritten."""
    return torch.lerp(grey(x), x, factor[:, None, None, None], out=x).clamp_(0, 1)


def adjust_hue_(x: Tensor, shift: Tensor) -> Tensor:
    """Rotates the hue of RGB images in [0, 1] by `shift` [S], in turns of the colour circle; x is
    overwritten.

    Each pixel's largest and smallest channel values stay. The hue is computed in turns from red,
    and from it each channel as a trapezium between the two. There are no branches: `torch.where`
    costs a CPU as much as forty additions (200 us against 5 at 224 px).
    """
    red, green, blue = x.unbind(1)  # [S, H, W]
    high, low = torch.maximum(torch.maximum(red, green), blue), torch.minimum(torch.minimum(red, green), blue)
    chroma = high - low
    # 0 or 1, for lerp.
    is_red, is_green = (torch.eq(channel, high, out=torch.empty_like(high)) for channel in (red, green))
    hue = (red - green).add_(chroma, alpha=4)  # where blue is the largest
    hue.lerp_((blue - red).add_(chroma, alpha=2), is_green).lerp_(green - blue, is_red)
    slope = chroma * 6
    # From [-1/6, 5/6] plus the shift to [0, 1) plus whole turns, then without these.
    hue.div_(slope.clamp(min=1e-12)).add_(shift[:, None, None] + 1).frac_()
    high.add_(chroma)
    low.sub_(chroma)
    for channel, (base, sign, middle) in enumerate([(low, 1, 1 / 2), (high, -1, 1 / 3), (high, -1, 2 / 3)]):
        part = (hue - middle).abs_().clamp_(1 / 6, 1 / 3)
        x[:, channel].copy_(base).addcmul_(part, slope, value=sign)
    return x


class ColorJitter(Operation):
    """Random brightness, contrast, saturation and hue (Howard 2013, arXiv 1312.5402), with factors
    drawn as in torchvision.

    torchvision draws the order of the four; here it is always the one above. Images without three
    channels have neither saturation nor hue, so only the first two change.

    Args:
        brightness: factors are drawn from [max(0, 1 - brightness), 1 + brightness].
        contrast: likewise.
        saturation: likewise.
        hue: shifts are drawn from [-hue, hue], in turns of the colour circle; at most 0.5.
        p: probability that an image is changed at all.

    Raises:
        ValueError: an argument is outside its range.
    """

    def __init__(self, brightness: float, contrast: float, saturation: float, hue: float, p: float = 1.0) -> None:
        super().__init__()
        require(self, at_least=0, brightness=brightness, contrast=contrast, saturation=saturation)
        require(self, at_least=0, at_most=0.5, hue=hue)
        require(self, at_least=0, at_most=1, p=p)
        self.brightness, self.contrast, self.saturation, self.hue, self.p = brightness, contrast, saturation, hue, p

    def numbers(self, key: Tensor, height: int, width: int) -> tuple[Tensor, Tensor]:
        """Draws which images change [S], and their brightness, contrast, saturation and hue [S,
        4]."""
        u = self.draw(key, 5)
        strengths = (self.brightness, self.contrast, self.saturation)
        columns = [between(max(0.0, 1 - s), 1 + s, u[:, i + 1]) for i, s in enumerate(strengths)]
        return u[:, 0] < self.p, torch.stack([*columns, between(-self.hue, self.hue, u[:, 4])], 1)

    def change(self, x: Tensor, *numbers: Tensor) -> Tensor:
        chosen, factors = numbers
        return change_some(chosen, x, self._jitter, factors)

    def _jitter(self, x: Tensor, factors: Tensor) -> Tensor:
        brightness, contrast, saturation, hue = factors.unbind(1)
        if self.brightness:
            x = adjust_brightness_(x, brightness)
        if self.contrast:
            x = adjust_contrast_(x, contrast)
        if self.saturation and x.shape[1] == 3:
            x = adjust_saturation_(x, saturation)
        if self.hue and x.shape[1] == 3:
            x = adjust_hue_(x, hue)
        return x


class Greyscale(Operation):
    """Replaces all three channels by their luma with probability p; images without three channels
    stay."""

    def __init__(self, p: float = 0.2) -> None:
        super().__init__()
        require(self, at_least=0, at_most=1, p=p)
        self.p = p

    def numbers(self, key: Tensor, height: int, width: int) -> tuple[Tensor]:
        return (self.draw(key, 1)[:, 0] < self.p,)

    def change(self, x: Tensor, *numbers: Tensor) -> Tensor:
        return change_some(numbers[0], x, lambda images: images.copy_(grey(images))) if x.shape[1] == 3 else x


BLOCK = 16
"""Pixels of a line that are blurred at once: at 224 px and a filter of 23 pixels, 0.47 ms an image
against 0.55 with 32, 1.5 with the whole line and 1.6 with a grouped convolution."""


def gaussian_blur(x: Tensor, sigma: Tensor, kernel: int) -> Tensor:
    """Blurs each image by a Gaussian of `sigma` [S] pixels, cut to `kernel` (odd) pixels; borders
    are mirrored.

    Along each side the lines are cut into blocks, and a block with `kernel // 2` pixels around it
    is multiplied by a banded matrix.
    """
    half = kernel // 2
    for side in (3, 2):
        length = x.shape[side]
        blocks = -(-length // BLOCK)
        block = -(-length // blocks)
        pad = [half, half + blocks * block - length]
        padded = F.pad(x, [*pad, 0, 0] if side == 3 else [0, 0, *pad], mode="reflect")
        windows = padded.unfold(side, block + 2 * half, block)
        band = _gaussian_band(sigma, half, block)
        if side == 3:  # windows [S, C, H, blocks, block + 2 half]
            x = (windows.flatten(1, 3) @ band.mT).view(*windows.shape[:3], blocks * block)
        else:  # [S, C, blocks, W, block + 2 half]
            x = (band[:, None, None] @ windows.mT).flatten(2, 3)
        x = x.narrow(side, 0, length)
    return x


def _gaussian_band(sigma: Tensor, half: int, block: int) -> Tensor:
    """Gaussians of `sigma` [S] around each pixel of a block, cut beyond `half` pixels: [S, block,
    block + 2 half]."""
    pixel = torch.arange(-half, block + half, device=sigma.device)
    distance = pixel - torch.arange(block, device=sigma.device)[:, None]
    weight = (-0.5 * (distance / sigma[:, None, None]) ** 2).exp_().mul_(distance.abs() <= half)
    return weight.div_(weight.sum(-1, keepdim=True))


class GaussianBlur(Operation):
    """A Gaussian blur of random width (Chen et al. 2020, arXiv 2002.05709, Appendix A).

    Args:
        sigma: range of the standard deviation, in pixels.
        p: probability that an image is blurred.
        kernel: side of the filter as a part of the image's shorter side; made odd, and at least 3
            pixels.

    Raises:
        ValueError: the range of sigma is empty or not positive, or p is not a probability.
    """

    def __init__(self, sigma: tuple[float, float] = (0.1, 2.0), p: float = 0.5, kernel: float = 0.1) -> None:
        super().__init__()
        if not 0 < sigma[0] <= sigma[1]:
            raise ValueError(f"GaussianBlur(sigma={sigma}) must be 0 < sigma[0] <= sigma[1].")
        require(self, at_least=0, at_most=1, p=p)
        self.sigma, self.kernel, self.p = sigma, kernel, p

    def numbers(self, key: Tensor, height: int, width: int) -> tuple[Tensor, Tensor]:
        u = self.draw(key, 2)
        return u[:, 0] < self.p, between(*self.sigma, u[:, 1])

    def change(self, x: Tensor, *numbers: Tensor) -> Tensor:
        kernel = max(3, int(self.kernel * min(x.shape[-2:])) | 1)
        chosen, sigma = numbers
        return change_some(chosen, x, lambda images, sigma: gaussian_blur(images, sigma, kernel), sigma)


class Solarize(Operation):
    """Inverts the values at or above a threshold with probability p (Grill et al. 2020, arXiv
    2006.07733, Appendix B)."""

    def __init__(self, threshold: float = 0.5, p: float = 0.2) -> None:
        super().__init__()
        require(self, at_least=0, at_most=1, p=p)
        self.threshold, self.p = threshold, p

    def numbers(self, key: Tensor, height: int, width: int) -> tuple[Tensor]:
        return (self.draw(key, 1)[:, 0] < self.p,)

    def change(self, x: Tensor, *numbers: Tensor) -> Tensor:
        return change_some(numbers[0], x, self._solarize)

    def _solarize(self, x: Tensor) -> Tensor:
        # The weights are 0 or 1: exact, and faster than `where`.
        return x.lerp_(1 - x, torch.ge(x, self.threshold, out=torch.empty_like(x)))


class Normalize(Operation):
    """Subtracts the mean of each channel and divides by its standard deviation; one value serves
    any number of channels.

    Raises:
        ValueError: a standard deviation is not positive, or there are not as many as means.
    """

    mean: Tensor
    scale: Tensor

    def __init__(self, mean: tuple[float, ...], std: tuple[float, ...]) -> None:
        super().__init__()
        if len(mean) != len(std) or min(std, default=0) <= 0:
            raise ValueError(
                f"Normalize(mean={mean}, std={std}) must be as many means as standard deviations, which are positive."
            )
        self.register_buffer("mean", torch.tensor(mean)[:, None, None], persistent=False)
        self.register_buffer("scale", 1 / torch.tensor(std)[:, None, None], persistent=False)

    def numbers(self, key: Tensor, height: int, width: int) -> tuple[()]:
        return ()

    def change(self, x: Tensor, *numbers: Tensor) -> Tensor:
        if len(self.mean) not in (1, x.shape[1]):
            raise ValueError(
                f"Normalize has {len(self.mean)} means for images of {x.shape[1]} channels; give one each, or one for"
                " all."
            )
        return x.sub_(self.mean).mul_(self.scale)
