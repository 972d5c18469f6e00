"""Heads are built as their papers' code builds them."""

from __future__ import annotations

import pytest
import torch
from torch import nn

from ssl_lightning.nn.heads import Norm, mlp


def layers(head: nn.Sequential) -> list[str]:
    return [type(layer).__name__ + ("" if getattr(layer, "bias", None) is None else "+bias") for layer in head]


def test_simclrs_head_is_that_of_its_authors() -> None:
    assert layers(mlp(6, 6, 4, last_norm=True)) == ["Linear", "BatchNorm1d+bias", "ReLU", "Linear", "BatchNorm1d"]


@pytest.mark.parametrize(
    ("norm", "last_norm", "expected"),
    [
        ("batch", False, ["Linear", "BatchNorm1d+bias", "ReLU", "Linear+bias"]),
        ("layer", True, ["Linear", "LayerNorm+bias", "ReLU", "Linear", "LayerNorm"]),
        ("none", False, ["Linear+bias", "ReLU", "Linear+bias"]),
        ("none", True, ["Linear+bias", "ReLU", "Linear+bias"]),
    ],
)
def test_a_linear_layer_has_a_bias_where_no_norm_follows(norm: Norm, last_norm: bool, expected: list[str]) -> None:
    assert layers(mlp(6, 5, 4, norm=norm, last_norm=last_norm)) == expected


@pytest.mark.parametrize("dims", [(6, 4), (6, 5, 4), (6, 5, 7, 4)])
def test_any_number_of_layers(dims: tuple[int, ...]) -> None:
    head = mlp(*dims, last_norm=True)
    out = head(torch.randn(32, dims[0]))
    assert [layer.weight.shape for layer in head if isinstance(layer, nn.Linear)] == list(
        zip(dims[1:], dims, strict=False)
    )
    assert torch.allclose(out.mean(0), torch.zeros(4), atol=1e-5) and torch.allclose(
        out.std(0, correction=0), torch.ones(4), atol=1e-2
    )


@pytest.mark.parametrize("norm", ["layer", "none"])
def test_a_head_without_batch_norm_treats_each_sample_alone(norm: Norm) -> None:
    head, x = mlp(6, 5, 4, norm=norm, last_norm=True), torch.randn(8, 6)
    assert torch.allclose(head(x), torch.cat((head(x[:3]), head(x[3:]))), atol=1e-6)


def test_mistakes_are_named() -> None:
    with pytest.raises(ValueError, match=r"dims=\(6,\)"):
        mlp(6)
    with pytest.raises(ValueError, match=r"norm='group'.*choose from batch, layer, none"):
        mlp(6, 4, norm="group")  # type: ignore[arg-type]
