"""The trunk is timm's and torch's."""

from __future__ import annotations

import math
from functools import partial
from typing import Any

import pytest
import torch
from timm.models.vision_transformer import Block
from torch import nn
from torch.testing import assert_close

from ssl_lightning.nn.attention import attention
from ssl_lightning.nn.transformer import Transformer

NAMES = {
    "attn.qkv": "qkv",
    "attn.proj": "projection",
    "mlp.fc1": "mlp.0",
    "mlp.fc2": "mlp.2",
    "norm1": "norm1",
    "norm2": "norm2",
}


@pytest.mark.parametrize(("dim", "heads", "mlp_ratio"), [(24, 3, 4.0), (16, 1, 2.5)])
def test_blocks_equal_timms(dim: int, heads: int, mlp_ratio: float) -> None:
    torch.manual_seed(0)
    ours = Transformer(dim, 2, heads, mlp_ratio).double()
    theirs = nn.Sequential(
        *(Block(dim, heads, mlp_ratio, qkv_bias=True, norm_layer=partial(nn.LayerNorm, eps=1e-6)) for _ in range(2))
    )
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


@pytest.mark.parametrize(
    ("dim", "depth", "heads", "message"),
    [
        (10, 2, 4, r"Transformer\(dim=10\) must be a multiple of heads=4"),
        (8, 0, 2, r"Transformer\(depth=0\) must be at least 1"),
        (8, 1, 0, r"Transformer\(heads=0\) must be at least 1"),
    ],
)
def test_sizes_that_do_not_go_together_are_refused(dim: int, depth: int, heads: int, message: str) -> None:
    with pytest.raises(ValueError, match=message):
        Transformer(dim, depth, heads)


# The kinds of blocks that texts may have.


def test_post_norm_blocks_are_torchs() -> None:
    torch.manual_seed(0)
    ours = Transformer(12, 1, 3, 2.0, norm="post").double()
    theirs = nn.TransformerEncoderLayer(
        12, 3, 24, dropout=0.0, activation="gelu", layer_norm_eps=1e-6, batch_first=True
    ).double()
    names = {
        "qkv": "self_attn.in_proj",
        "projection": "self_attn.out_proj",
        "mlp.0": "linear1",
        "mlp.2": "linear2",
        "norm1": "norm1",
        "norm2": "norm2",
    }
    with torch.no_grad():
        for mine, other in names.items():
            for part in ("weight", "bias"):
                name = f"{other}_{part}" if mine == "qkv" else f"{other}.{part}"
                parameter = dict(theirs.named_parameters())[name]
                parameter.normal_(std=0.4)
                ours.blocks[0].get_submodule(mine).get_parameter(part).copy_(parameter)
    assert isinstance(ours.norm, nn.Identity), "the last norm is the last block's"
    x = torch.randn(2, 6, 12, dtype=torch.float64)
    assert_close(ours(x), theirs(x), rtol=1e-10, atol=1e-12)
    causal = nn.Transformer.generate_square_subsequent_mask(6, dtype=torch.float64)
    ours.causal = True
    assert_close(ours(x), theirs(x, src_mask=causal, is_causal=True), rtol=1e-10, atol=1e-12)


def test_rotary_positions_are_relative() -> None:
    """The same shift of all positions changes no attention; positions of a packed row are the
    samples'."""
    torch.manual_seed(0)
    trunk, x = Transformer(16, 2, 2, rotary=True).double(), torch.randn(2, 9, 16, dtype=torch.float64)
    positions = torch.arange(9).expand(2, 9)
    assert_close(trunk(x, position=positions), trunk(x), rtol=1e-12, atol=1e-12)
    assert_close(trunk(x, position=positions + 31), trunk(x), rtol=1e-4, atol=1e-5)
    assert (trunk(x, position=2 * positions) - trunk(x)).abs().max() > 1e-3


def test_geglu_is_equation_6_and_as_large_as_gelu() -> None:
    trunk = Transformer(12, 1, 3, activation="geglu").double()
    mlp: Any = trunk.blocks[0].mlp
    x = torch.randn(5, 12, dtype=torch.float64)
    gate, value = (mlp[0].weight @ x.T).T.split(32, dim=1)
    expected = (gate * (1 + torch.erf(gate / math.sqrt(2))) / 2 * value) @ mlp[2].weight.T
    assert_close(mlp(x), expected, rtol=1e-10, atol=1e-12)
    sizes = [sum(p.numel() for p in Transformer(48, 1, 3, activation=kind).parameters()) for kind in ("gelu", "geglu")]
    assert abs(sizes[1] / sizes[0] - 1) < 0.01


def test_dropout_is_of_the_training_alone_and_keeps_the_mean() -> None:
    torch.manual_seed(0)
    q, k = torch.randn(2, 1, 1, 12, 4)
    v = torch.randn(1, 1, 12, 3)
    whole = attention(q, k, v)
    dropped = torch.stack([attention(q, k, v, dropout=0.4) for _ in range(3000)])
    assert (dropped - whole).abs().max() > 0.1
    assert ((dropped.mean(dim=0) - whole).abs() < 5 * dropped.std(dim=0) / 3000**0.5).all()
    trunk, x = Transformer(8, 2, 2, dropout=0.5), torch.randn(1, 5, 8)
    assert not torch.equal(trunk(x), trunk(x))
    trunk.eval()
    assert torch.equal(trunk(x), trunk(x))


@pytest.mark.parametrize(
    ("init_args", "message"),
    [
        ({"norm": "both"}, "norm='both'.*pre or post"),
        ({"activation": "relu"}, "activation='relu'.*gelu or geglu"),
        ({"dropout": 1.0}, r"dropout=1\.0.*below 1"),
        ({"dropout": -0.1}, r"dropout=-0\.1"),
        ({"rotary": True, "heads": 4}, "dim=12 / heads=4 has an odd number"),
    ],
)
def test_arguments_that_are_unknown_or_out_of_range_are_refused(init_args: dict[str, Any], message: str) -> None:
    with pytest.raises(ValueError, match=message):
        Transformer(**{"dim": 12, "depth": 1, "heads": 2, **init_args})
