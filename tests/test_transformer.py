"""The trunk is timm's, and the positions are those of MAE and of transformers; other grids follow the same formula."""

from __future__ import annotations

import math
from functools import partial

import pytest
import torch
from timm.models.vision_transformer import Block
from torch import nn
from torch.nn import functional as F
from torch.testing import assert_close
from transformers.models.vit_mae.modeling_vit_mae import build_2d_sinusoidal_position_embedding

from ssl_lightning.transformer import GridPositions, Transformer, attention, sincos_positions

NAMES = {"attn.qkv": "qkv", "attn.proj": "projection", "mlp.fc1": "mlp.0", "mlp.fc2": "mlp.2", "norm1": "norm1", "norm2": "norm2"}


@pytest.mark.parametrize(("dim", "heads", "mlp_ratio"), [(24, 3, 4.0), (16, 1, 2.5)])
def test_blocks_equal_timms(dim: int, heads: int, mlp_ratio: float) -> None:
    torch.manual_seed(0)
    ours = Transformer(dim, 2, heads, mlp_ratio).double()
    theirs = nn.Sequential(*(Block(dim, heads, mlp_ratio, qkv_bias=True, norm_layer=partial(nn.LayerNorm, eps=1e-6)) for _ in range(2)))
    theirs.double()
    with torch.no_grad():
        for mine, other in zip(ours.blocks, theirs, strict=True):
            for name, of_ours in NAMES.items():
                for part in ("weight", "bias"):
                    parameter = other.get_submodule(name).get_parameter(part)
                    parameter.normal_(std=0.3)
                    mine.get_submodule(of_ours).get_parameter(part).copy_(parameter)
        ours.norm.weight.normal_()
    x = torch.randn(3, 7, dim, dtype=torch.float64)
    expected = ours.norm(theirs(x))
    assert_close(ours(x), expected, rtol=1e-10, atol=1e-10)


def test_linear_layers_start_by_xaviers_rule_and_without_bias() -> None:
    trunk = Transformer(32, 2, 4)
    for module in trunk.modules():
        if isinstance(module, nn.Linear):
            bound = math.sqrt(6 / (module.in_features + module.out_features))
            assert not module.bias.any() and 0.9 * bound < module.weight.abs().max() <= bound


@pytest.mark.parametrize(("dim", "depth", "heads"), [(10, 2, 4), (8, 0, 2), (8, 1, 0)])
def test_sizes_that_do_not_go_together_are_refused(dim: int, depth: int, heads: int) -> None:
    with pytest.raises(ValueError, match=f"heads that divide its width, got dim={dim}, depth={depth}, heads={heads}"):
        Transformer(dim, depth, heads)


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
    for places in [(i,) for i in range(9)] if len(grid) == 1 else [(i, j, k) for i in range(2) for j in range(3) for k in range(4)]:
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


def test_positions_are_computed_once_a_grid_and_follow_the_module() -> None:
    positions = GridPositions(8)
    first = positions((3, 4))
    assert positions((3, 4)) is first and "table" not in positions.state_dict()
    assert_close(positions((2, 5)), sincos_positions((2, 5), 8))
    assert positions.double()((2, 5)).dtype == torch.float64
    assert positions((3, 4)).dtype == torch.float64


@pytest.mark.parametrize("places", [5, 65, 300])
@pytest.mark.parametrize("dtype", [torch.float32, torch.bfloat16])
def test_attention_is_torchs_whichever_way_it_is_computed(places: int, dtype: torch.dtype) -> None:
    q, k, v = torch.randn(3, 2, 3, places, 8).to(dtype)
    assert_close(attention(q, k, v), F.scaled_dot_product_attention(q, k, v), rtol=2e-2, atol=2e-2)
    if dtype == torch.float32:
        assert_close(attention(q, k, v), F.scaled_dot_product_attention(q, k, v), rtol=1e-4, atol=1e-6)
