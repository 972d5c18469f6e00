"""Masks, packing and losses take any selection of samples: none of them, one, or all."""

from __future__ import annotations

from typing import Any

import pytest
import torch
from torch import Tensor
from torch.testing import assert_close

from ssl_lightning.augment.random import sample_keys
from ssl_lightning.encoders.base import pooled
from ssl_lightning.nn.attention import attention_mask
from ssl_lightning.nn.losses.contrastive import nt_xent, quantized_nce
from ssl_lightning.nn.losses.vocabulary import vocabulary_nll
from ssl_lightning.nn.masks.gaps import interpolated, random_gaps
from ssl_lightning.nn.masks.spans import others, span_masks
from ssl_lightning.nn.masks.tokens import (
    lengths,
    mean_square,
    position_keys,
    positions,
    put,
    random_masking,
    segments,
    take,
)
from ssl_lightning.nn.masks.words import TokenMasks
from ssl_lightning.nn.packing import Ragged, pack, swap_halves, unpacked
from ssl_lightning.nn.quantizer import ProductQuantizer, usage
from ssl_lightning.nn.queue import FeatureQueue
from ssl_lightning.nn.sinkhorn import sinkhorn
from ssl_lightning.nn.spread import spread
from ssl_lightning.nn.transformer import Transformer
from ssl_lightning.types import Tokens, View

TOKENS, DIM = 12, 8
LENGTHS = torch.tensor([12, 7, 1, 3])
KEY = sample_keys(0, 0, torch.arange(4))
SELECTIONS = [
    pytest.param(slice(0, 0), id="none"),
    pytest.param(slice(1, 2), id="one"),
    pytest.param(slice(0, 4), id="all"),
]


def values(*shape: int) -> Tensor:
    return torch.randn(4, *shape, generator=torch.Generator().manual_seed(0))


def rows(selection: slice) -> View:
    """A row for each sample, padding behind it."""
    length = LENGTHS[selection]
    sample = torch.arange(1, len(length) + 1)[:, None]
    ids = torch.arange(5, 5 + TOKENS).expand(4, -1)[selection]
    real = torch.arange(TOKENS) < length[:, None]
    return View(ids * real, real * sample, torch.arange(TOKENS).expand_as(ids), len(length))


def tokens(selection: slice) -> Tokens:
    view = rows(selection)
    return Tokens(values(TOKENS, DIM)[selection] * (view.segment > 0)[:, :, None], *view[1:])  # type: ignore[operator]


def masks(whole_words: bool = False) -> TokenMasks:
    return TokenMasks(40, whole_words)


def drawn(selection: slice, whole_words: bool) -> Any:
    view = rows(selection)
    return view, masks(whole_words).choose(view, KEY[selection], 0.3)


def row_by_row(selection: slice) -> list[Tensor]:
    """Results that a sample has by itself, whatever is in the batch: [S, ...] each."""
    key, length, x, view = KEY[selection], LENGTHS[selection], values(TOKENS, DIM)[selection], rows(selection)
    visible, hidden = random_masking(key, TOKENS, 0.5)
    spans = span_masks(key, length, TOKENS, 0.5, 3)
    gaps = random_gaps(key, length, TOKENS, 0.3, 2)
    trunk = Transformer(DIM, 2, 2, rotary=True)
    torch.manual_seed(0)
    for parameter in trunk.parameters():
        torch.nn.init.normal_(parameter, std=0.2)
    return [
        visible,
        hidden,
        take(x, hidden),
        put(x, hidden, torch.zeros_like(take(x, hidden))),
        *spans,
        spans.take(x),
        spans.keys(key),
        spans.hide(x, torch.ones(DIM)),
        others(key, spans.real, 5),
        gaps,
        interpolated(x[:, :, 0], gaps),
        position_keys(view, key, 1)[:, :1],
        positions(view),
        lengths(view),
        lengths(View(x)),
        segments(View(x)) > 0,
        mean_square(tokens(selection)),
        pooled(x, view),
        pooled(x, view, first=True),
        pooled(x, View(x)),
        trunk(x, view.segment, view.position),
        trunk(x),
    ]


@pytest.mark.parametrize("selection", SELECTIONS)
def test_masks_and_tokens_of_a_sample_are_those_that_it_has_in_any_batch(selection: slice) -> None:
    for some, whole in zip(row_by_row(selection), row_by_row(slice(0, 4)), strict=True):
        assert some.shape == whole[selection].shape and some.dtype == whole.dtype
        assert_close(some, whole[selection], rtol=1e-5, atol=1e-6)


@pytest.mark.parametrize("selection", SELECTIONS)
@pytest.mark.parametrize("whole_words", [False, True])
def test_words_are_hidden_in_any_selection(selection: slice, whole_words: bool) -> None:
    view, hidden = drawn(selection, whole_words)
    all_rows, all_hidden = drawn(slice(0, 4), whole_words)
    mask = masks(whole_words)
    for change in (mask.hide, lambda view, hidden: mask.corrupt(view, KEY[: len(view.x)], hidden)):
        assert change(view, hidden).x.shape == view.x.shape
    assert torch.equal(mask.hide(view, hidden).x, mask.hide(all_rows, all_hidden).x[selection])


@pytest.mark.parametrize("selection", SELECTIONS)
def test_any_selection_can_be_packed(selection: slice) -> None:
    length = LENGTHS[selection]
    samples = Ragged(
        torch.cat([torch.arange(1, int(n) + 1) for n in length] or [torch.empty(0, dtype=torch.int64)]), length
    )
    view = pack(samples, 16)
    assert view.samples == len(length) and int((view.x > 0).sum()) == int(length.sum())
    back = unpacked(view)
    assert len(back) == len(length)
    for row, n in zip(back, length.tolist(), strict=True):
        assert row.tolist() == [*range(1, n + 1), *[0] * (back.shape[1] - n)]
    swapped = torch.ones(len(length), dtype=torch.bool)
    assert swap_halves(view, swapped).x.sort().values.sum() == view.x.sum()


@pytest.mark.parametrize("selection", SELECTIONS)
def test_any_selection_can_be_quantized_assigned_and_queued(selection: slice) -> None:
    torch.manual_seed(0)
    quantizer = ProductQuantizer(DIM, 2, 3, 6)
    x, key = values(5, DIM), KEY[:, None] + torch.arange(5)
    whole, some = quantizer(x, 0.5, key), quantizer(x[selection], 0.5, key[selection])
    for one, other in zip(some, whole, strict=True):
        assert_close(one, other[selection])
    used = usage(some, torch.ones(x[selection].shape[:2], dtype=torch.bool))
    assert all(value.isfinite() for value in used)
    assert all(value.isfinite() for value in usage(whole, torch.zeros(4, 5, dtype=torch.bool)))  # none is real
    codes = sinkhorn(values(3)[selection].clamp(-1, 1), 0.05, 3)
    assert codes.shape == (len(x[selection]), 3) and codes.isfinite().all()
    queue = FeatureQueue(5, DIM)
    before = queue.features.clone()
    queue.enqueue(x[selection, 0])
    count = len(x[selection])
    assert torch.equal(queue.features[:count], x[selection, 0]) and torch.equal(queue.features[count:], before[count:])
    assert int(queue.place) == count


@pytest.mark.parametrize("selection", SELECTIONS)
def test_losses_that_are_sums_take_any_selection(selection: slice) -> None:
    """No sample has no loss, and its gradient is zero; one has none of what is to be told apart."""
    x, y = (values(DIM)[selection] * factor for factor in (1.0, 0.5))
    z1, z2 = x.requires_grad_(), y + 1
    loss = nt_xent(z1, z2, 0.2)
    loss.backward()
    assert loss.isfinite() and (loss == 0) == (len(x) < 2) and z1.grad is not None and z1.grad.shape == x.shape
    real = torch.ones(len(x), 3, dtype=torch.bool)
    c, q = (values(3, DIM)[selection] + shift for shift in (0.0, 1.0))
    code, other = (
        torch.arange(3).expand(len(x), 3)[:, :, None],
        torch.tensor([[1, 2], [0, 2], [0, 1]]).expand(len(x), 3, 2),
    )
    nll, correct = quantized_nce(c, q, code, other, real, 0.1)
    assert nll.isfinite() and 0 <= correct <= 3 * len(x)
    nll, correct = vocabulary_nll(
        x, torch.eye(DIM), torch.zeros(DIM), torch.zeros(len(x), dtype=torch.int64), torch.ones(len(x))
    )
    assert nll.isfinite() and (nll == 0) == (len(x) == 0)


def test_masks_of_attention_take_an_empty_batch() -> None:
    view = rows(slice(0, 0))
    mask = attention_mask(view.segment, torch.empty(0, TOKENS, DIM), causal=True)
    assert mask is not None and mask.shape == (0, 1, TOKENS, TOKENS)


def test_the_spread_of_none_that_is_real_is_zero() -> None:
    assert spread(values(DIM), torch.zeros(4, dtype=torch.bool)) == 0
