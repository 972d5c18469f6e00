"""The recipe of image augmentation, and the operations in order."""

from __future__ import annotations

from collections import Counter
from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from typing import ClassVar, cast

from torch import Tensor, nn

from ..types import Strength
from .colour import ColorJitter, GaussianBlur, Greyscale, Normalize, Solarize
from .geometry import Affine, CentralCrop, Crop, HorizontalFlip, RandomResizedCrop
from .operation import Operation, as_float
from .random import fold

SMALL = 64
"""Up to this side, in pixels, images are not blurred by default (arXiv 2002.05709, Appendix
B.9)."""


CHUNK_BYTES = 3 << 18
"""A CPU processes this much at a time, so that an image stays in its cache from the first operation
to the last."""


class Augmentation(nn.Module):
    """Runs operations in order. Two of one type draw different random numbers: the second's
    occurrence is folded into the key.

    Args:
        operations: what `forward` runs.
        cut: a crop that comes before them, which `forward` does not run: images of many sizes are
            cropped where they are read.
    """

    entries: ClassVar[tuple[str, ...]] = ("_run",)
    """What `torch.compile` makes faster. The random numbers are drawn outside of it, so that they
    are the same bit for bit."""

    def __init__(self, *operations: Operation, cut: Crop | None = None) -> None:
        super().__init__()
        self.operations = nn.ModuleList(operations)
        self.cut = cut

    def forward(self, x: Tensor, key: Tensor) -> Tensor:
        """Images [S, C, H, W], uint8 or floating in [0, 1], and keys [S] int64 -> float32 images
        [S, C, size, size]."""
        numbers = self._numbers(key, *x.shape[-2:])  # of all samples at once: these are many small calls
        if x.device.type != "cpu" or x.numel() == 0:
            return self._run(x, numbers)
        chunk = max(1, CHUNK_BYTES // (4 * x[0].numel()))
        out = x.new_empty(0)
        for start in range(0, len(x), chunk):
            part = slice(start, start + chunk)
            done = self._run(x[part], [[values[part] for values in drawn] for drawn in numbers])
            if start == 0:
                out = done.new_empty(len(x), *done.shape[1:])
            out[part] = done
        return out

    @property
    def _ordered(self) -> Iterable[Operation]:
        return cast("Iterable[Operation]", self.operations)

    def _numbers(self, key: Tensor, height: int, width: int) -> list[Sequence[Tensor]]:
        numbers: list[Sequence[Tensor]] = []
        seen: Counter[type] = Counter()
        for operation in self._ordered:
            occurrence = seen[type(operation)]
            numbers.append(operation.numbers(fold(key, occurrence) if occurrence else key, height, width))
            seen[type(operation)] += 1
            if isinstance(operation, Crop):
                height = width = operation.size
        return numbers

    def _run(self, x: Tensor, numbers: Sequence[Sequence[Tensor]]) -> Tensor:
        x = as_float(x)
        for operation, drawn in zip(self._ordered, numbers, strict=True):
            x = operation.change(x, *drawn)
        return x


@dataclass(frozen=True)
class ImagePolicy:
    """The settings of image augmentation; SimCLR's recipe for small images by default.

    Chen et al. 2020, arXiv 2002.05709: Appendix A, with the colour strength 0.5 and no blur that
    Appendix B.9 gives for CIFAR-10. An image without three channels is jittered in brightness and
    contrast only.

    Args:
        crop_scale: area of a full crop, as a part of the image's.
        local_crop_scale: area of a local crop (DINO, arXiv 2104.14294, Section 3.1: below one
            half).
        crop_ratio: width / height of a crop.
        flip: probability of a horizontal flip.
        rotation: largest angle, in degrees; 0: none.
        shear: largest horizontal shear, in degrees; 0: none.
        jitter: strengths of brightness, contrast, saturation and hue.
        jitter_p: probability of the jitter.
        grey_p: probability of losing the colour.
        blur_p: probability of a blur; None: 0.5 for views above 64 pixels and 0 for others. Where
            it is not 0, `strong_a` blurs with probability 1.0 and `strong_b` with 0.1 instead.
        blur_sigma: range of the blur's standard deviation, in pixels.
        solarize_p: probability of solarisation in `strong_b`; no other strength solarises.
        mean: of each channel, or one for all.
        std: likewise.
    """

    crop_scale: tuple[float, float] = (0.08, 1.0)
    local_crop_scale: tuple[float, float] = (0.05, 0.4)
    crop_ratio: tuple[float, float] = (3 / 4, 4 / 3)
    flip: float = 0.5
    rotation: float = 0.0
    shear: float = 0.0
    jitter: tuple[float, float, float, float] = (0.4, 0.4, 0.4, 0.1)
    jitter_p: float = 0.8
    grey_p: float = 0.2
    blur_p: float | None = None
    blur_sigma: tuple[float, float] = (0.1, 2.0)
    solarize_p: float = 0.2
    mean: tuple[float, ...] = (0.5,)
    std: tuple[float, ...] = (0.5,)

    def build(self, strength: Strength, size: int, local: bool = False, varying: bool = False) -> Augmentation:
        """Builds the augmentation of one view.

        Args:
            strength: `none` crops the largest central square, resizes and normalises; `weak` crops,
                flips, rotates and shears; `strong` is the whole recipe; `strong_a` and `strong_b`
                differ in blur and solarisation, as BYOL's pair (arXiv 2006.07733, Table 6, whose
                jitter of saturation is 0.2).
            size: side of the view, in pixels.
            local: whether the view is a small crop.
            varying: whether the images differ in size and are cropped where they are read: the crop
                is then the `cut` of the augmentation. The random numbers are the same.
        """
        crop: Crop = CentralCrop(size)
        operations: list[Operation] = []
        if strength != "none":
            crop = RandomResizedCrop(size, self.local_crop_scale if local else self.crop_scale, self.crop_ratio)
            if self.flip:
                operations.append(HorizontalFlip(self.flip))
            if self.rotation or self.shear:
                operations.append(Affine(self.rotation, self.shear))
            if strength != "weak":
                operations += self._colour(strength, size)
        operations.append(Normalize(self.mean, self.std))
        return Augmentation(*operations, cut=crop) if varying else Augmentation(crop, *operations)

    def _colour(self, strength: Strength, size: int) -> list[Operation]:
        operations: list[Operation] = []
        if self.jitter_p and any(self.jitter):
            operations.append(ColorJitter(*self.jitter, p=self.jitter_p))
        if self.grey_p:
            operations.append(Greyscale(self.grey_p))
        blur_p = (0.5 if size > SMALL else 0.0) if self.blur_p is None else self.blur_p
        if blur_p:
            operations.append(GaussianBlur(self.blur_sigma, {"strong_a": 1.0, "strong_b": 0.1}.get(strength, blur_p)))
        if self.solarize_p and strength == "strong_b":
            operations.append(Solarize(p=self.solarize_p))
        return operations
