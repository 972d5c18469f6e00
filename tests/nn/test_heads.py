"""Heads are built as their papers' code builds them."""

from __future__ import annotations

from functools import partial

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


def test_the_end_without_parameters_is_that_of_moco_v3_or_of_byol() -> None:
    normed, bare = (mlp(6, 5, 4, last_norm=last_norm, last_affine=False) for last_norm in (True, False))
    assert layers(normed) == ["Linear", "BatchNorm1d+bias", "ReLU", "Linear", "BatchNorm1d"]
    assert normed[-1].weight is None and not normed[-1].affine
    assert layers(bare) == ["Linear", "BatchNorm1d+bias", "ReLU", "Linear"]


ENDS = [(last_norm, last_affine) for last_norm in (True, False) for last_affine in (True, False)]


@pytest.mark.parametrize("norm", ["batch", "layer", "none"])
@pytest.mark.parametrize("now", ENDS)
@pytest.mark.parametrize("then", ENDS)
def test_weights_of_a_head_with_another_end_are_loaded_with_that_end(
    norm: Norm, now: tuple[bool, bool], then: tuple[bool, bool]
) -> None:
    """Into whatever holds it; and a slow copy stays without gradient."""
    if norm == "layer" and then != now and (then == (True, False) or {then, now} == {(True, False), (False, False)}):
        pytest.skip("a LayerNorm without parameters leaves nothing in the weights to know it by")
    build = partial(mlp, 6, 5, 4, norm=norm)
    old, new = (nn.Sequential(nn.Identity(), build(last_norm=end[0], last_affine=end[1])) for end in (then, now))
    nn.init.normal_(old[1][-1].weight) if old[1][-1].weight is not None else None
    new.double().requires_grad_(False).load_state_dict(old.state_dict())
    x = torch.randn(16, 6)
    assert layers(new[1]) == layers(old[1])
    assert torch.allclose(new.eval()(x.double()).float(), old.eval()(x), atol=1e-6)
    assert not any(weight.requires_grad or weight.dtype != torch.float64 for weight in new.parameters())


def test_weights_of_another_network_are_still_refused() -> None:
    for dims in ((6, 5, 3), (6, 5, 5, 4)):
        with pytest.raises(RuntimeError, match="Error"):
            mlp(6, 5, 4, last_norm=True).load_state_dict(mlp(*dims).state_dict())


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
