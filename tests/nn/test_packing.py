"""Packing: a plan that depends on the lengths alone, and rows that hold every token once."""

from __future__ import annotations

import pytest
import torch

from ssl_lightning import View
from ssl_lightning.encoders.base import pooled
from ssl_lightning.nn.packing import Ragged, pack, reordered, rows_of, unpacked


def ragged(lengths: list[int]) -> Ragged:
    """Samples whose tokens are all different."""
    return Ragged(torch.arange(1, sum(lengths) + 1), torch.tensor(lengths))


def realistic(count: int = 512) -> list[int]:
    """Lengths as those of short documents: log-normal, cut off at a row."""
    return (
        torch.randn(count, generator=torch.Generator().manual_seed(0))
        .mul(0.7)
        .add(3)
        .exp()
        .long()
        .clamp(3, 128)
        .tolist()
    )


def test_every_token_is_in_the_rows_once_and_in_its_place() -> None:
    samples = ragged(realistic())
    view = pack(samples, 128)
    assert view.segment is not None and view.position is not None and view.samples == 512
    assert view.x.shape == view.segment.shape == view.position.shape and view.x.shape[1] == 128
    starts = samples.lengths.cumsum(0) - samples.lengths
    real = view.segment > 0
    assert torch.equal(view.x[real], samples.x[starts[view.segment[real] - 1] + view.position[real]])
    assert torch.equal(view.x[real].sort().values, samples.x)
    assert not view.x[~real].any() and not view.position[~real].any()


def test_a_sample_lies_in_one_row_without_a_gap() -> None:
    view = pack(ragged(realistic()), 128)
    assert view.segment is not None and view.position is not None
    for number in range(1, 513):
        rows, places = (view.segment == number).nonzero(as_tuple=True)
        assert len(rows.unique()) == 1 and torch.equal(places - places[0], torch.arange(len(places)))
        assert torch.equal(view.position[rows, places], torch.arange(len(places)))


def test_the_plan_depends_on_the_lengths_alone_and_fills_rows() -> None:
    lengths = realistic()
    rows = rows_of(lengths, 128)
    assert rows == rows_of(lengths, 128) and sorted(sample for row in rows for sample in row) == list(range(512))
    assert all(sum(lengths[sample] for sample in row) <= 128 for row in rows)
    assert sum(lengths) / (128 * len(rows)) >= 0.95
    assert rows_of([100, 28, 60, 68, 128], 128) == [[4], [0, 1], [3, 2]]  # exact fits are found


@pytest.mark.parametrize("lengths", [[], [1], [128], [128, 128], [127, 1, 1]])
def test_the_smallest_and_the_longest_samples_have_rows(lengths: list[int]) -> None:
    view = pack(Ragged(torch.ones(sum(lengths), dtype=torch.int64), torch.tensor(lengths, dtype=torch.int64)), 128)
    assert view.segment is not None
    assert view.segment.flatten().bincount(minlength=1)[1:].tolist() == lengths and view.samples == len(lengths)


@pytest.mark.parametrize(("lengths", "wrong"), [([5, 129], 129), ([0, 5], 0)])
def test_what_fits_in_no_row_is_refused(lengths: list[int], wrong: int) -> None:
    with pytest.raises(ValueError, match=f"A sample of {wrong} tokens cannot be packed into a row of row_length=128"):
        pack(ragged(lengths), 128)


@pytest.mark.parametrize("lengths", [[5, 3, 2, 4, 1], [8, 8, 8], [6, 7, 8]])
def test_reordered_samples_of_packed_rows_have_the_features_of_their_new_place(lengths: list[int]) -> None:
    """Rows that several samples share, and rows of one sample each in an order of their own."""
    samples = Ragged(torch.arange(1, sum(lengths) + 1), torch.tensor(lengths))
    view, order = pack(samples, 8), torch.randperm(len(lengths), generator=torch.Generator().manual_seed(1))
    moved = reordered(view, order)
    assert torch.equal(unpacked(moved), unpacked(view)[order])
    assert moved.samples == view.samples and torch.equal((moved.segment > 0).sum(), (view.segment > 0).sum())
    embedded, table = (each.x[:, :, None].float() for each in (moved, view))
    assert torch.equal(pooled(embedded, moved), pooled(table, view)[order])


def test_reordered_rows_of_one_sample_keep_their_padding() -> None:
    lengths = torch.tensor([3, 1, 4])
    x, real = torch.rand(3, 4), torch.arange(4) < lengths[:, None]
    order = torch.tensor([2, 0, 1])
    view = View(x * real, real * torch.arange(1, 4)[:, None], torch.arange(4).expand(3, 4), 3)
    moved = reordered(view, order)
    assert torch.equal(moved.x, view.x[order]) and torch.equal(moved.segment, real[order] * torch.arange(1, 4)[:, None])
    assert torch.equal(pooled(moved.x[:, :, None], moved), pooled(view.x[:, :, None], view)[order])
    assert torch.equal(reordered(View(x), order).x, x[order]) and reordered(View(x), order).segment is None
