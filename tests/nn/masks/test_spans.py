"""Span masks hide as much as the paper's, and what a sample hides and compares follows from its own
key."""

from __future__ import annotations

from collections.abc import Iterator
from typing import Any

import numpy as np
import pytest
import torch
from torch import Tensor

from ssl_lightning.augment.random import sample_keys
from ssl_lightning.nn.masks.gaps import interpolated, random_gaps
from ssl_lightning.nn.masks.spans import Spans, others, span_masks
from ssl_lightning.nn.masks.words import TokenMasks
from ssl_lightning.types import View

RATIO, LENGTH = 0.65, 10


def drawn(lengths: list[int], tokens: int, seed: int = 0, index: Tensor | None = None) -> Spans:
    index = torch.arange(len(lengths)) if index is None else index
    return span_masks(sample_keys(seed, 0, index), torch.tensor(lengths), tokens, RATIO, LENGTH)


def runs_of(hidden: Tensor) -> list[int]:
    """Lengths of the runs of hidden tokens in a row."""
    words = "".join("x" if each else " " for each in hidden.tolist()).split()
    return [len(word) for word in words]


@pytest.mark.parametrize("tokens", [50, 780])
def test_as_much_is_hidden_as_transformers_hides(tokens: int) -> None:
    """About half: the mean part, its spread, and where in the row. Theirs rounds the number of
    spans once a call."""
    wav2vec2: Any = pytest.importorskip("transformers.models.wav2vec2.modeling_wav2vec2")
    np.random.seed(0)
    rows = 3000 if tokens == 50 else 600
    theirs = torch.from_numpy(
        np.concatenate([wav2vec2._compute_mask_indices((1, tokens), RATIO, LENGTH, min_masks=1) for _ in range(rows)])
    )
    ours = drawn([tokens] * rows, tokens).hidden
    share, expected = ours.float().mean(1), theirs.float().mean(1)
    assert 0.47 < share.mean() < 0.52
    error = (share.var() / rows + expected.var() / rows).sqrt()
    assert (share.mean() - expected.mean()).abs() < 4 * error, f"{share.mean()} {expected.mean()} {error}"
    torch.testing.assert_close(share.std(), expected.std(), rtol=0.15, atol=0)
    by_place = ours.float().mean(0) - theirs.float().mean(0)
    assert by_place.abs().max() < 5 * (0.5 / rows) ** 0.5


def test_spans_are_whole_and_lie_within_the_sample() -> None:
    """For samples of every length: no run is shorter than a span, no padding is hidden, and short
    samples have spans of half of theirs."""
    lengths = [n for n in range(1, 61) for _ in range(20)]
    spans = drawn(lengths, 64)
    for n, hidden in zip(lengths, spans.hidden, strict=True):
        assert not hidden[n:].any() and hidden.any()
        assert min(runs_of(hidden)) >= min(LENGTH, max(1, n // 2)), f"{n}: {runs_of(hidden)}"
        assert n <= 2 * LENGTH or not hidden[:n].all()


@pytest.mark.parametrize("tokens", [1, 2, 3, 7, 12, 19, 25, 64, 150])
def test_places_are_the_hidden_ones_in_order(tokens: int) -> None:
    """`place` has room for all of them whatever was drawn, and as much for every batch."""
    lengths = torch.randint(1, tokens + 1, (500,), generator=torch.Generator().manual_seed(0))
    lengths[:100] = tokens
    spans = drawn(lengths.tolist(), tokens)
    assert spans.positions.shape == spans.real.shape == (500, drawn([tokens], tokens, seed=1).positions.shape[1])
    x = torch.arange(tokens).expand(500, tokens)
    for hidden, place, real in zip(spans.hidden, spans.positions, spans.real, strict=True):
        assert place[real].tolist() == hidden.nonzero()[:, 0].tolist()
        assert not real[int(real.sum()) :].any()
    assert torch.equal(spans.take(x[:, :, None])[:, :, 0], spans.positions)
    if tokens > 40:
        assert spans.positions.shape[1] < tokens, "what is not hidden is not computed"


def test_a_sample_s_mask_follows_from_its_key() -> None:
    """Not from its batch, its row, or the padding behind it: place by place, with the keys of what
    is drawn next."""
    lengths = [50, 33, 17, 50, 8]
    spans, keys = drawn(lengths, 50), sample_keys(0, 0, torch.arange(5))
    order = torch.tensor([3, 0, 4])
    for other in (
        drawn([lengths[row] for row in order], 50, index=order),
        drawn([lengths[row] for row in order], 77, index=order),
    ):
        for row, hidden, real, mine in zip(order, other.hidden, other.real, other.keys(keys[order]), strict=True):
            assert torch.equal(hidden[:50], spans.hidden[row])
            count = int(real.sum())
            assert torch.equal(mine[:count], spans.keys(keys)[row, :count])
            drawn_now, drawn_then = (
                others(keys[row, None], each[None], 6)[0, :count] for each in (real, spans.real[row])
            )
            assert torch.equal(drawn_now, drawn_then)
    assert len(spans.keys(keys)[spans.real].unique()) == int(spans.real.sum())
    assert not torch.equal(drawn(lengths, 50, seed=1).hidden, spans.hidden)


def test_others_are_other_hidden_tokens_of_the_sample() -> None:
    real = torch.arange(12) < torch.tensor([12, 5, 2])[:, None]
    other = others(sample_keys(0, 0, torch.arange(3)), real, 400)
    for sample, count in enumerate([12, 5, 2]):
        for own in range(count):
            assert set(other[sample, own].tolist()) == set(range(count)) - {own}
    assert len({tuple(row) for row in other[0, :, :20].tolist()}) == 12, "each token draws for itself"
    assert not others(sample_keys(0, 0, torch.arange(1)), torch.tensor([[True, False]]), 3).any(), (
        "there is none but itself"
    )


def test_others_are_drawn_evenly() -> None:
    """Chi-square over 10 others, 9 degrees of freedom: beyond 27.9 in one of a thousand cases."""
    other = others(sample_keys(3, 0, torch.arange(200)), torch.ones(200, 11, dtype=torch.bool), 100)
    for own in (0, 4, 10):
        counts = other[:, own].flatten().bincount(minlength=11).float()
        assert counts[own] == 0
        counts = counts[torch.arange(11) != own]
        assert (counts - 2000).square().sum() / 2000 < 27.9


@pytest.fixture(params=[torch.bfloat16, torch.float64])
def other_default(request: pytest.FixtureRequest) -> Iterator[torch.dtype]:
    """The default dtype of a step in another precision."""
    before = torch.get_default_dtype()
    yield request.param
    torch.set_default_dtype(before)


@pytest.mark.parametrize("kind", ["spans", "gaps", "words", "interpolated"])
def test_masks_do_not_depend_on_the_default_dtype(kind: str, other_default: torch.dtype) -> None:
    """Long samples: bfloat16 knows no 257."""
    lengths = torch.randint(1000, 3001, (40,), generator=torch.Generator().manual_seed(0))
    key, x = sample_keys(0, 0, torch.arange(40)), torch.randint(5, 40, (40, 3000))
    values, hidden = torch.rand(3, 3000), torch.rand(3, 3000) < 0.9
    draw: dict[str, Any] = {
        "spans": lambda: span_masks(key, lengths, 3000, 0.37, 7).hidden,
        "gaps": lambda: random_gaps(key, lengths, 3000, 0.3, 2),
        "words": lambda: torch.where((drawn := TokenMasks(40).choose(View(x), key, 0.15)).chosen, drawn.positions, -1),
        "interpolated": lambda: interpolated(values, hidden),
    }
    expected = draw[kind]()
    torch.set_default_dtype(other_default)
    assert torch.equal(draw[kind](), expected)
