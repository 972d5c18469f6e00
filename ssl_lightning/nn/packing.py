"""Short samples are packed into rows of equal length, without padding between them."""

from __future__ import annotations

from bisect import bisect_left, insort
from typing import NamedTuple

import torch
from torch import Tensor
from torch.nn import functional as F

from ..types import View
from .masks.tokens import positions, segments


class Ragged(NamedTuple):
    """Samples of varying length, concatenated.

    Args:
        x: [T] int64, their tokens.
        lengths: [S] int64, number of tokens of each.
    """

    x: Tensor
    lengths: Tensor

    @property
    def sample(self) -> Tensor:
        """[T] index of the sample that each token belongs to."""
        return torch.arange(len(self.lengths), device=self.x.device).repeat_interleave(
            self.lengths, output_size=len(self.x)
        )

    @property
    def position(self) -> Tensor:
        """[T] each token's position within its sample, from 0."""
        starts = self.lengths.cumsum(0) - self.lengths
        return torch.arange(len(self.x), device=self.x.device) - starts.repeat_interleave(
            self.lengths, output_size=len(self.x)
        )


def rows_of(lengths: list[int], row_length: int) -> list[list[int]]:
    """Assigns samples to rows by best fit decreasing: the longest first, each into the fullest row
    that has room for it (Johnson 1973, Near-optimal bin packing algorithms). It is a pure function
    of the lengths, so that a resume needs no state of it.

    Args:
        lengths: of the samples, at least 1 each.
        row_length: N, tokens of a row.

    Returns:
        The indices of the samples in each row.

    Raises:
        ValueError: a sample is empty, or longer than a row.
    """
    if lengths and not 1 <= min(lengths) <= max(lengths) <= row_length:
        wrong = min(lengths) if min(lengths) < 1 else max(lengths)
        raise ValueError(
            f"A sample of {wrong} tokens cannot be packed into a row of row_length={row_length}; cut it before."
        )
    rows: list[list[int]] = []
    room: list[tuple[int, int]] = []  # (tokens left, row), ascending
    for sample in sorted(range(len(lengths)), key=lambda each: -lengths[each]):
        length = lengths[sample]
        fit = bisect_left(room, (length, -1))
        if fit < len(room):
            left, row = room.pop(fit)
        else:
            left, row = row_length, len(rows)
            rows.append([])
        rows[row].append(sample)
        if left > length:
            insort(room, (left - length, row))
    return rows


def pack(samples: Ragged, row_length: int) -> View:
    """Packs samples into token ids [B, N], in as few rows as `rows_of` needs, with segment and
    position; padding has the id 0."""
    rows = rows_of(samples.lengths.tolist(), row_length)
    order = torch.tensor([sample for row in rows for sample in row], dtype=torch.int64)
    firsts = torch.zeros(len(samples.lengths), dtype=torch.int64)
    lengths = samples.lengths.cpu()
    ends = lengths[order].cumsum(0)
    counts = torch.tensor([len(row) for row in rows], dtype=torch.int64)
    row = torch.arange(len(rows)).repeat_interleave(counts)
    before = torch.cat([ends.new_zeros(1), ends[counts.cumsum(0) - 1]])[:-1] if rows else ends  # tokens in earlier rows
    firsts[order] = ends - lengths[order] - before[row] + row * row_length
    sample, position = samples.sample, samples.position
    index = firsts.to(sample.device)[sample] + position
    shape = (len(rows), row_length)
    x, segment, packed_position = (
        samples.x.new_zeros(shape).flatten().index_copy_(0, index, values).view(shape)
        for values in (samples.x, sample + 1, position)
    )
    return View(x, segment, packed_position, len(lengths))


def unpacked(view: View) -> Tensor:
    """Unpacks the token ids [B, N] of a view: a row for each sample, [S, longest], padded with
    0."""
    if view.segment is None:
        return view.x
    samples = len(view.x) if view.samples is None else view.samples
    real, position = view.segment > 0, positions(view)
    rows = view.x.new_zeros(samples, int(position.max()) + 1 if position.numel() else 0)
    rows[view.segment[real] - 1, position[real]] = view.x[real]
    return rows


def reordered(view: View, order: Tensor) -> View:
    """Puts the samples of a view into another order.

    Rows that hold one sample each change their places. Where samples share rows, the rows stay and
    the samples get other numbers (`View.segment`), by which an encoder returns their features.

    Args:
        view: S samples.
        order: [S] sample i of the result is sample `order[i]` of the view.
    """
    samples = len(view.x) if view.samples is None else view.samples
    if len(view.x) == samples:
        view = view.each(lambda part: part[order])
    if view.segment is None:
        return view
    numbers = F.pad(order.argsort() + 1, (1, 0))  # [S + 1] the new number of each old one; 0 is padding
    return view._replace(segment=numbers[view.segment])


def swap_halves(view: View, swapped: Tensor) -> View:
    """Swaps the two halves of some samples, between their first and last tokens, which stay.

    Args:
        view: token ids [B, N].
        swapped: [S] bool.
    """
    segment, position = segments(view), positions(view)
    count = torch.zeros(len(swapped) + 1, dtype=torch.int64, device=view.x.device)
    count.index_add_(0, segment.flatten(), torch.ones_like(segment).flatten())
    inner = count[segment] - 2  # tokens between first and last
    moves = torch.cat([swapped.new_zeros(1), swapped])[segment] & (position > 0) & (position <= inner)
    # The second half comes first.
    source = torch.where(moves, 1 + (position - 1 + (inner + 1) // 2) % inner.clamp(min=1), position)
    index = torch.arange(view.x.shape[1], device=view.x.device) - position + source
    return view._replace(x=view.x.gather(1, index))
