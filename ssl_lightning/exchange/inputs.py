"""What an exported encoder is called with: a tensor, and a mask where samples have padding."""

from __future__ import annotations

from typing import NamedTuple

import torch
from torch import Tensor, nn

from ..encoders.base import Encoder
from ..nn.packing import unpacked
from ..types import View


class Inputs(NamedTuple):
    """A batch of S prepared samples, each in a row of its own.

    Args:
        x: images [S, C, H, W], log-mels [S, 1, M, F], waves [S, T], or token ids [S, N].
        mask: [S, N] int64, 1 for what is real and 0 for padding behind it; None: there is none.
    """

    x: Tensor
    mask: Tensor | None = None

    @property
    def tensors(self) -> tuple[Tensor, ...]:
        return (self.x,) if self.mask is None else (self.x, self.mask)

    def repeated(self, samples: int) -> Inputs:
        """The first samples of the batch, from its start again where there are not so many."""
        index = torch.arange(samples) % len(self.x)
        return Inputs(*(tensor[index] for tensor in self.tensors))

    def each(self) -> list[Inputs]:
        """Every sample as a batch of its own, without padding."""
        if self.mask is None:
            return [Inputs(row[None]) for row in self.x]
        lengths = self.mask.sum(1).tolist()
        rows = zip(self.x, self.mask, lengths, strict=True)
        return [Inputs(row[None, ..., :length], mask[None, :length]) for row, mask, length in rows]


def inputs_of(view: View, encoder: Encoder) -> Inputs:
    """The inputs that a view stands for; of samples that share rows, a row for each. An encoder
    that reads padding gets a mask, also where there is none."""
    if view.segment is None:
        rows, length = len(view.x), view.x.shape[-1]
        whole = torch.ones(rows, length, dtype=torch.int64) if encoder.reads_padding else None
        return Inputs(view.x, whole)
    if view.x.is_floating_point():
        return Inputs(view.x, (view.segment > 0).long())
    longest = unpacked(view)
    real = unpacked(view._replace(x=torch.ones_like(view.x)))
    return Inputs(longest, real)


class Callable(nn.Module):
    """An encoder that is called with tensors in place of a view: `x`, and `mask` if the encoder
    reads padding.

    Args:
        encoder: in eval mode.
    """

    def __init__(self, encoder: Encoder) -> None:
        super().__init__()
        self.encoder = encoder

    def forward(self, x: Tensor, mask: Tensor | None = None) -> Tensor:
        if mask is None:
            features: Tensor = self.encoder(View(x))
            return features
        number = torch.arange(1, x.shape[0] + 1, device=x.device)[:, None]
        return self.encoder(View(x, mask * number))
