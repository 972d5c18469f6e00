"""Operations on log-mels [S, 1, M, F] of M bands and F frames: mixtures, crops, faders, masks."""

from __future__ import annotations

import torch
from torch import Tensor

from ..plugins.arguments import require
from .geometry import resize_matrix
from .operation import Operation, between


class Mixup(Operation):
    """Mixes in another recording as background, by energy (Niizumi et al. 2021, BYOL for Audio,
    arXiv 2103.06695, Section 3.2).

    The paper mixes with one of the latest spectrograms of the training. Here it is one of a fixed
    bank of the pretraining recordings, so that a sample's view depends on its key alone: neither on
    its batch, nor on the number of processes, nor on earlier batches.

    Args:
        bank: [N, M, F] log-mels, without normalisation, of any floating type.
        most: the background's part of the energy is uniform in [0, most).

    Raises:
        ValueError: the bank is empty, or `most` is outside [0, 1].
    """

    bank: Tensor

    def __init__(self, bank: Tensor, most: float = 0.4) -> None:
        super().__init__()
        if bank.ndim != 3 or len(bank) == 0:
            raise ValueError(f"Mixup needs a bank of spectrograms [N, M, F], got the shape {list(bank.shape)}.")
        require(self, at_least=0, at_most=1, most=most)
        self.most = most
        self.register_buffer("bank", bank, persistent=False)

    def numbers(self, key: Tensor, height: int, width: int) -> tuple[Tensor, Tensor]:
        u = self.draw(key, 2)
        return u[:, 0] * self.most, (u[:, 1] * len(self.bank)).long().clamp(max=len(self.bank) - 1)

    def change(self, x: Tensor, *numbers: Tensor) -> Tensor:
        part, which = numbers
        part = part[:, None, None, None]
        return torch.logaddexp(x + (1 - part).log(), self.bank[which][:, None].to(x.dtype) + part.log())


class RandomResizeCrop(Operation):
    """Crops a box of time and frequency and resizes it: higher or lower, faster or slower (arXiv
    2103.06695, Section 3.3).

    The box may reach beyond the spectrogram, within a larger canvas around it, which holds the
    mean, 0.

    Args:
        frequency: range of the box's height, as a part of the spectrogram's.
        time: range of its width, as a part of the spectrogram's.
        canvas: height and width of the canvas, as parts of the spectrogram's, at least 1. A box is
            never larger.

    Raises:
        ValueError: a range is empty or not positive, or the canvas is smaller than the spectrogram.
    """

    def __init__(
        self,
        frequency: tuple[float, float] = (0.6, 1.5),
        time: tuple[float, float] = (0.6, 1.5),
        canvas: tuple[float, float] = (1.0, 1.5),
    ) -> None:
        super().__init__()
        for name, values in (("frequency", frequency), ("time", time)):
            if not 0 < values[0] <= values[1]:
                raise ValueError(f"RandomResizeCrop({name}={values}) must be 0 < {name}[0] <= {name}[1].")
        if not min(canvas) >= 1:
            raise ValueError(f"RandomResizeCrop(canvas={canvas}) must be at least (1, 1).")
        self.ranges, self.canvas = (frequency, time), canvas

    def numbers(self, key: Tensor, height: int, width: int) -> tuple[Tensor, Tensor]:
        u = self.draw(key, 4)
        numbers = []
        for axis, side in enumerate((height, width)):
            whole = round(self.canvas[axis] * side)
            length = (between(*self.ranges[axis], u[:, axis]) * side).round().long().clamp(1, whole)
            start = torch.minimum((u[:, 2 + axis] * (whole - length + 1)).long(), whole - length) - (whole - side) // 2
            numbers.append(torch.stack([start, length], 1))  # in bands or frames of the spectrogram
        return numbers[0], numbers[1]

    def change(self, x: Tensor, *numbers: Tensor) -> Tensor:
        rows, columns = (
            self._matrix(stretch, side, axis)
            for axis, (stretch, side) in enumerate(zip(numbers, x.shape[-2:], strict=True))
        )
        return rows[:, None] @ (x @ columns[:, None].mT)

    def _matrix(self, stretch: Tensor, side: int, axis: int) -> Tensor:
        """[S, side, side]: without the columns of the canvas around the spectrogram, which holds 0
        there."""
        whole = round(self.canvas[axis] * side)
        before = (whole - side) // 2
        return resize_matrix(stretch[:, 0] + before, stretch[:, 1], whole, side)[:, :, before : before + side]


class LinearFader(Operation):
    """Fades linearly along time: adds a line whose ends are uniform in [-most, most) (Niizumi et
    al. 2022, BYOL-A v2, arXiv 2204.07402, Section III-B).

    Raises:
        ValueError: `most` is negative.
    """

    def __init__(self, most: float = 1.0) -> None:
        super().__init__()
        require(self, at_least=0, most=most)
        self.most = most

    def numbers(self, key: Tensor, height: int, width: int) -> tuple[Tensor, Tensor]:
        head, tail = between(-self.most, self.most, self.draw(key, 2)).unbind(1)
        return head, tail

    def change(self, x: Tensor, *numbers: Tensor) -> Tensor:
        ramp = torch.linspace(0, 1, x.shape[-1], device=x.device)
        return x.add_(torch.lerp(numbers[0][:, None], numbers[1][:, None], ramp)[:, None, None])


class SpecAugment(Operation):
    """Replaces bands and stretches of time by the mean, 0 (Park et al. 2019, SpecAugment, arXiv
    1904.08779, Section 2, without warping).

    Args:
        masks: number of bands, and of stretches.
        most: the largest height of a band, and width of a stretch, as parts of the spectrogram's.

    Raises:
        ValueError: a number of masks is negative, or a part is outside [0, 1].
    """

    def __init__(self, masks: tuple[int, int] = (1, 1), most: tuple[float, float] = (0.2, 0.2)) -> None:
        super().__init__()
        if min(masks) < 0:
            raise ValueError(f"SpecAugment(masks={masks}) must be numbers of at least 0.")
        for part in most:
            require(self, at_least=0, at_most=1, most=part)
        self.masks, self.most = masks, most

    def numbers(self, key: Tensor, height: int, width: int) -> tuple[Tensor, Tensor]:
        draws = self.draw(key, 2 * sum(self.masks)).split([2 * count for count in self.masks], 1)
        kept = []
        for u, side, most in zip(draws, (height, width), self.most, strict=True):
            length, start = u.unflatten(1, (-1, 2)).unbind(2)  # [S, masks]
            length = (length * (most * side + 1)).long().clamp(max=int(most * side))
            start = (start * (side - length + 1)).long()
            index = torch.arange(side, device=key.device)
            hidden = (index >= start[..., None]) & (index < (start + length)[..., None])  # [S, masks, side]
            kept.append(~hidden.any(1))
        return kept[0], kept[1]

    def change(self, x: Tensor, *numbers: Tensor) -> Tensor:
        return x.mul_(numbers[0][:, None, :, None]).mul_(numbers[1][:, None, None, :])
