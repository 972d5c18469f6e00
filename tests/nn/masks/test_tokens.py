"""A mask comes from its sample's key and from nothing else; every place is hidden equally often."""

from __future__ import annotations

import pytest
import torch
from torch import Tensor

from ssl_lightning.augment.random import sample_keys
from ssl_lightning.nn.masks.tokens import put, random_masking, take


def keys(samples: int, pass_: int = 0) -> Tensor:
    return sample_keys(0, pass_, torch.arange(samples))


def test_a_mask_does_not_depend_on_the_rest_of_the_batch() -> None:
    """Nor on its place in it, nor on torch's generator; equal numbers within a draw included, which
    5,000 tokens have."""
    key = keys(8)
    for tokens in (16, 5000):
        torch.manual_seed(0)
        visible, hidden = random_masking(key, tokens, 0.75)
        order = torch.tensor([5, 0, 7, 2])
        torch.manual_seed(1)
        for again, first in zip(random_masking(key[order], tokens, 0.75), (visible, hidden), strict=True):
            assert torch.equal(again, first[order])
        for sample in range(8):
            assert torch.equal(random_masking(key[sample : sample + 1], tokens, 0.75)[0][0], visible[sample])


def test_visible_and_hidden_share_the_places_out() -> None:
    visible, hidden = random_masking(keys(50), 36, 0.75)
    assert visible.shape == (50, 9) and hidden.shape == (50, 27)
    assert torch.equal(torch.cat([visible, hidden], dim=1).sort(dim=1).values, torch.arange(36).expand(50, 36))


def test_samples_and_passes_have_masks_of_their_own() -> None:
    first, second = (random_masking(keys(200, pass_), 64, 0.75)[1].sort(dim=1).values for pass_ in (0, 1))
    assert len(first.unique(dim=0)) == len(second.unique(dim=0)) == 200
    assert not (first == second).all(dim=1).any()


def test_each_place_and_each_pair_of_places_is_hidden_equally_often() -> None:
    """Chi-square over 20,000 samples; of pairs, as neighbours must not be hidden together more
    often than others."""
    samples, tokens, hidden = 20_000, 12, 9
    masked = torch.zeros(samples, tokens, dtype=torch.float64).scatter_(
        1, random_masking(keys(samples), tokens, 0.75)[1], 1.0
    )
    together = masked.T @ masked
    expected = samples * hidden / tokens
    variance = expected * (1 - hidden / tokens) * tokens / (tokens - 1)  # of counts that add up to a constant
    assert (
        together.diag() - expected
    ).square().sum() / variance < 31.3  # 99.9 % quantile of chi-square with 11 degrees of freedom
    pairs = together[torch.triu_indices(tokens, tokens, 1).unbind()]
    share = hidden * (hidden - 1) / (tokens * (tokens - 1))
    assert (pairs / samples - share).abs().max() < 4.5 * (share * (1 - share) / samples) ** 0.5


@pytest.mark.parametrize(
    ("tokens", "ratio", "visible"),
    [
        (10, 0.7, 3),
        (20, 0.9, 2),
        (100, 0.9, 10),
        (64, 0.75, 16),
        (196, 0.75, 49),
        (2, 0.5, 1),
        (2, 0.01, 1),
        (2, 0.99, 1),
        (3, 0.75, 1),
        (10, 1e-9, 9),
        (10, 1 - 1e-9, 1),
    ],
)
def test_how_many_stay_visible(tokens: int, ratio: float, visible: int) -> None:
    seen, hidden = random_masking(keys(3), tokens, ratio)
    assert (seen.shape, hidden.shape) == ((3, visible), (3, tokens - visible))


@pytest.mark.parametrize("ratio", [0.0, 1.0, 1.5, -0.5, float("nan")])
def test_ratios_out_of_range_are_refused(ratio: float) -> None:
    with pytest.raises(ValueError, match=rf"random_masking\(ratio={ratio}\) must be above 0 and below 1"):
        random_masking(keys(3), 16, ratio)


def test_a_single_token_is_refused() -> None:
    with pytest.raises(ValueError, match="at least 2 tokens a sample, got 1"):
        random_masking(keys(3), 1, 0.5)


def test_put_undoes_take() -> None:
    x = torch.randn(4, 12, 3)
    visible, hidden = random_masking(keys(4), 12, 0.75)
    assert torch.equal(take(x, hidden)[2, 5], x[2, hidden[2, 5]])
    back = put(put(torch.zeros_like(x), visible, take(x, visible)), hidden, take(x, hidden))
    assert torch.equal(back, x)
    assert put(x, hidden, take(x, hidden).bfloat16()).dtype == x.dtype
