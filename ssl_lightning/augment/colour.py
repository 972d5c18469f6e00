"""What pixels look like: colour jitter, greyscale, blur, solarisation, normalisation."""

from __future__ import annotations

import torch
import torch.nn.functional as F
from torch import Tensor

from .operation import Operation, as_float, change_some, check_probability, spread


def grey(x: Tensor) -> Tensor:
    """Luma of an RGB image (ITU-R BT.601), the mean of the channels of any other: [S, C, H, W] -> [S, 1, H, W]."""
    if x.shape[1] != 3:
        return x.mean(1, keepdim=True)
    red, green, blue = x.split(1, 1)
    return (red * 0.2989).add_(green, alpha=0.587).add_(blue, alpha=0.114)


def adjust_brightness(x: Tensor, factor: Tensor) -> Tensor:
    """Images in [0, 1] times their factor [S], clamped."""
    return (x * factor[:, None, None, None]).clamp_(0, 1)


def adjust_contrast(x: Tensor, factor: Tensor) -> Tensor:
    """Images in [0, 1] moved away from (factor [S] above 1) or towards the mean of their luma, clamped."""
    return _blend(x, grey(x).mean((2, 3), keepdim=True), factor)


def adjust_saturation(x: Tensor, factor: Tensor) -> Tensor:
    """RGB images in [0, 1] moved away from (factor [S] above 1) or towards their own luma, clamped."""
    return _blend(x, grey(x), factor)


def _blend(x: Tensor, to: Tensor, factor: Tensor) -> Tensor:
    weight = factor[:, None, None, None]
    return (x * weight).add_(to * (1 - weight)).clamp_(0, 1)


def adjust_hue(x: Tensor, shift: Tensor) -> Tensor:
    """RGB images in [0, 1] turned around the colour circle by `shift` [S], in turns.

    The hue moves and each pixel's largest and smallest channel values stay: hue in sixths of a turn from red, and from it each
    channel as a trapezium between the two. Without branches, since `torch.where` costs a CPU as much as thirty additions.
    """
    red, green, blue = x.unbind(1)  # [S, H, W]
    high, low = torch.maximum(torch.maximum(red, green), blue), torch.minimum(torch.minimum(red, green), blue)
    chroma = high - low
    is_red = torch.eq(red, high, out=torch.empty_like(high))
    is_green = torch.eq(green, high, out=torch.empty_like(high)).mul_(1 - is_red)
    is_blue = 1 - is_red - is_green
    hue = (green - blue).mul_(is_red).addcmul_(blue - red, is_green).addcmul_(red - green, is_blue)
    hue.div_(chroma.clamp(min=1e-12)).add_(is_green, alpha=2).add_(is_blue, alpha=4).add_(6 * shift[:, None, None])
    hue.sub_((hue / 6).floor_(), alpha=6)  # [0, 6)
    out = torch.empty_like(x)
    for channel, (sign, offset, middle) in enumerate([(1, -1, 3), (-1, 2, 2), (-1, 2, 4)]):
        part = (hue - middle).abs_().mul_(sign).add_(offset).clamp_(0, 1)
        torch.addcmul(low, part, chroma, out=out[:, channel])
    return out


class ColorJitter(Operation):
    """Random brightness, contrast, saturation and hue (Howard 2013, arXiv 1312.5402), factors drawn as torchvision's.

    torchvision draws the order of the four; here it is always the one above. Images without three channels have neither
    saturation nor hue, and get the first two alone.

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
        if min(brightness, contrast, saturation) < 0 or not 0 <= hue <= 0.5:
            raise ValueError(
                "ColorJitter needs no negative strength and a hue of at most 0.5, got "
                f"brightness={brightness}, contrast={contrast}, saturation={saturation}, hue={hue}."
            )
        self.brightness, self.contrast, self.saturation, self.hue = brightness, contrast, saturation, hue
        self.p = check_probability("ColorJitter", p)

    def factors(self, key: Tensor) -> tuple[Tensor, Tensor]:
        """Which images change [S], and their brightness, contrast, saturation and hue [S, 4]."""
        u = self.draw(key, 5)
        strengths = (self.brightness, self.contrast, self.saturation)
        columns = [spread(max(0.0, 1 - s), 1 + s, u[:, i + 1]) for i, s in enumerate(strengths)]
        return u[:, 0] < self.p, torch.stack([*columns, spread(-self.hue, self.hue, u[:, 4])], 1)

    def forward(self, x: Tensor, key: Tensor) -> Tensor:
        chosen, factors = self.factors(key)
        return change_some(chosen, as_float(x), self._jitter, factors)

    def _jitter(self, x: Tensor, factors: Tensor) -> Tensor:
        brightness, contrast, saturation, hue = factors.unbind(1)
        if self.brightness:
            x = adjust_brightness(x, brightness)
        if self.contrast:
            x = adjust_contrast(x, contrast)
        if self.saturation and x.shape[1] == 3:
            x = adjust_saturation(x, saturation)
        if self.hue and x.shape[1] == 3:
            x = adjust_hue(x, hue)
        return x


class Greyscale(Operation):
    """Replaces all three channels by their luma with probability p; images without three channels stay."""

    def __init__(self, p: float = 0.2) -> None:
        super().__init__()
        self.p = check_probability("Greyscale", p)

    def forward(self, x: Tensor, key: Tensor) -> Tensor:
        if x.shape[1] != 3:
            return as_float(x)
        return change_some(self.draw(key, 1)[:, 0] < self.p, as_float(x), lambda some: grey(some).expand_as(some))


def gaussian_blur(x: Tensor, sigma: Tensor, kernel: int) -> Tensor:
    """Blurs each image by its own Gaussian, of `sigma` [S] pixels and cut to `kernel` (odd) pixels; borders are mirrored."""
    count = len(x)
    half = kernel // 2
    offset = torch.arange(-half, half + 1, device=x.device)
    weight = (-0.5 * (offset / sigma[:, None]) ** 2).exp()
    weight /= weight.sum(1, keepdim=True)  # [S, kernel]
    x = F.pad(x, (half, half, half, half), mode="reflect").transpose(0, 1)  # [C, S, ...]: one filter a sample
    x = F.conv2d(x, weight.view(count, 1, 1, kernel), groups=count)
    return F.conv2d(x, weight.view(count, 1, kernel, 1), groups=count).transpose(0, 1).contiguous()


class GaussianBlur(Operation):
    """A Gaussian blur of random width (Chen et al. 2020, arXiv 2002.05709, Appendix A).

    Args:
        sigma: range of the standard deviation, in pixels.
        p: probability that an image is blurred.
        kernel: side of the filter as a part of the image's shorter side; made odd, and at least 3 pixels.

    Raises:
        ValueError: the range of sigma is empty or not positive, or p is no probability.
    """

    def __init__(self, sigma: tuple[float, float] = (0.1, 2.0), p: float = 0.5, kernel: float = 0.1) -> None:
        super().__init__()
        if not 0 < sigma[0] <= sigma[1]:
            raise ValueError(f"GaussianBlur needs 0 < sigma[0] <= sigma[1], got {sigma}.")
        self.sigma, self.kernel = sigma, kernel
        self.p = check_probability("GaussianBlur", p)

    def forward(self, x: Tensor, key: Tensor) -> Tensor:
        u = self.draw(key, 2)
        kernel = max(3, int(self.kernel * min(x.shape[-2:])) | 1)
        blur = lambda some, sigma: gaussian_blur(some, sigma, kernel)  # noqa: E731
        return change_some(u[:, 0] < self.p, as_float(x), blur, spread(*self.sigma, u[:, 1]))


class Solarize(Operation):
    """Inverts the values at or above a threshold with probability p (Grill et al. 2020, arXiv 2006.07733, Appendix B)."""

    def __init__(self, threshold: float = 0.5, p: float = 0.2) -> None:
        super().__init__()
        self.threshold = threshold
        self.p = check_probability("Solarize", p)

    def forward(self, x: Tensor, key: Tensor) -> Tensor:
        solarize = lambda some: torch.where(some >= self.threshold, 1 - some, some)  # noqa: E731
        return change_some(self.draw(key, 1)[:, 0] < self.p, as_float(x), solarize)


class Normalize(Operation):
    """Subtracts the mean of each channel and divides by its standard deviation; one value serves any number of channels.

    Raises:
        ValueError: a standard deviation is not positive, or the numbers of values differ.
    """

    mean: Tensor
    scale: Tensor

    def __init__(self, mean: tuple[float, ...], std: tuple[float, ...]) -> None:
        super().__init__()
        if len(mean) != len(std) or min(std, default=0) <= 0:
            raise ValueError(f"Normalize needs as many means as positive standard deviations, got mean={mean}, std={std}.")
        self.register_buffer("mean", torch.tensor(mean)[:, None, None], persistent=False)
        self.register_buffer("scale", 1 / torch.tensor(std)[:, None, None], persistent=False)

    def forward(self, x: Tensor, key: Tensor) -> Tensor:
        if len(self.mean) not in (1, x.shape[1]):
            raise ValueError(f"Normalize has {len(self.mean)} means for images of {x.shape[1]} channels; give one each, or one for all.")
        return (as_float(x) - self.mean).mul_(self.scale)
