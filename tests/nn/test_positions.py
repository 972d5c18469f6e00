"""Positions are those of MAE and of transformers; other grids follow the same formula."""

from __future__ import annotations

import math

import pytest
import torch
from torch.testing import assert_close
from transformers import LlamaConfig
from transformers.models.llama.modeling_llama import LlamaRotaryEmbedding, apply_rotary_pos_emb
from transformers.models.vit_mae.modeling_vit_mae import build_2d_sinusoidal_position_embedding

from ssl_lightning.nn.positions import GridPositions, rotary_angles, rotate, sincos_positions


@pytest.mark.parametrize("grid", [(4, 4), (3, 5), (1, 7)])
def test_positions_on_rows_and_columns_are_those_of_mae(grid: tuple[int, int]) -> None:
    """Its authors' code, and the weights they published, have the columns first."""
    rows_first = build_2d_sinusoidal_position_embedding(*grid, embed_dim=24)
    assert_close(sincos_positions(grid, 24), rows_first.roll(12, dims=1), rtol=0, atol=1e-6)


@pytest.mark.parametrize("grid", [(9,), (2, 3, 4)], ids=["one axis", "three axes"])
def test_positions_on_any_number_of_axes_follow_the_formula(grid: tuple[int, ...]) -> None:
    dim = 24
    share = dim // (2 * len(grid))
    expected = []
    for places in (
        [(i,) for i in range(9)]
        if len(grid) == 1
        else [(i, j, k) for i in range(2) for j in range(3) for k in range(4)]
    ):
        row: list[float] = []
        for place in reversed(places):
            angles = [place / 10_000 ** (d / share) for d in range(share)]
            row += [math.sin(angle) for angle in angles] + [math.cos(angle) for angle in angles]
        expected.append(row)
    assert_close(sincos_positions(grid, dim), torch.tensor(expected), rtol=0, atol=1e-6)
    assert len(sincos_positions(grid, dim).unique(dim=0)) == math.prod(grid)


def test_a_width_that_the_axes_cannot_share_is_refused() -> None:
    with pytest.raises(ValueError, match="Positions on 2 axes need a width that is a multiple of 4, got 10"):
        sincos_positions((4, 4), 10)


def test_positions_of_any_grid_come_from_one_table_that_follows_the_module() -> None:
    """Grids of varying length, shorter ones too, move nothing to the device; values are equal."""
    positions = GridPositions(24)
    for grid in ((5,), (3,), (8,), (6, 4), (7, 2), (3, 5, 2), (4, 1)):
        assert torch.equal(positions(grid), sincos_positions(grid, 24)), grid
    assert positions((17,)).shape == (17, 24) and len(positions.table) == 32
    table = positions.table
    for length in (1, 18, 32):
        assert torch.equal(positions((length,)), sincos_positions((length,), 24))
    assert positions.table is table and "table" not in positions.state_dict()
    assert positions.double()((2, 5)).dtype == torch.float64
    assert positions((3, 4)).dtype == torch.float64


def test_rotary_positions_are_those_of_transformers() -> None:
    torch.manual_seed(0)
    q, k = torch.randn(2, 3, 4, 7, 8)
    position = torch.stack([torch.arange(7) for _ in range(3)]) + torch.tensor([[0], [2], [90]])
    theirs = LlamaRotaryEmbedding(LlamaConfig(hidden_size=32, num_attention_heads=4, head_dim=8))
    expected = apply_rotary_pos_emb(q, k, *theirs(q, position))
    angles = rotary_angles(position, 8)
    assert_close((rotate(q, angles), rotate(k, angles)), expected, rtol=1e-5, atol=1e-5)
