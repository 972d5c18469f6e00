"""Weights start as in the code of the papers."""

from __future__ import annotations

import math

import pytest
import torch
from ssl_lightning.methods.bert import BERT
from ssl_lightning.methods.mae import MAE
from torch import Tensor, nn

from ssl_lightning import TextTransformer, TimmEncoder, ViTEncoder, WaveTransformer
from ssl_lightning.nn.initial import start
from ssl_lightning.nn.positions import sincos_positions

VIT = {"image_size": 32, "patch_size": 4}


def assert_xavier(weight: Tensor, outputs: int | None = None) -> None:
    """Uniform up to the bound of a linear layer, to which a patch projection is flattened."""
    weight = weight.flatten(1)
    bound = math.sqrt(6 / ((outputs or len(weight)) + weight.shape[1]))
    assert 0.95 * bound < weight.abs().max() <= bound
    assert weight.std().item() == pytest.approx(bound / math.sqrt(3), rel=0.05)


def test_start_draws_both_ways() -> None:
    layers = nn.Sequential(nn.Linear(200, 100), nn.LayerNorm(100), nn.Linear(100, 50, bias=False))
    assert start(layers) is layers
    for layer in (layers[0], layers[2]):
        assert_xavier(layer.weight)
    assert not layers[0].bias.any()
    assert start(layers, std=0.02)[0].weight.std().item() == pytest.approx(0.02, rel=0.02)


@pytest.mark.parametrize("build", [TextTransformer, WaveTransformer])
def test_the_trunk_of_bert_and_wav2vec_starts_at_a_deviation_of_2_percent(build: type) -> None:
    for layer in build(dim=128, depth=1, heads=2).trunk.modules():
        if isinstance(layer, nn.Linear):
            assert layer.weight.std().item() == pytest.approx(0.02, rel=0.03) and not layer.bias.any()


def test_berts_head_starts_as_its_trunk() -> None:
    layer = BERT(TextTransformer(dim=128, depth=1, heads=2, vocab_size=50)).head[0]
    assert layer.weight.std().item() == pytest.approx(0.02, rel=0.03) and not layer.bias.any()


def test_mae_starts_as_its_authors_code() -> None:
    method = MAE(ViTEncoder("vit_tiny_patch16_224", depth=1, **VIT))
    model = method.encoder.model
    assert model.cls_token.std().item() == pytest.approx(0.02, rel=0.25)
    assert method.mask_token.std().item() == pytest.approx(0.02, rel=0.25)
    assert_xavier(model.patch_embed.proj.weight)
    for layer in (*model.blocks[0].modules(), *method.decoder.modules(), method.embed, method.paint):
        if isinstance(layer, nn.Linear):
            assert_xavier(layer.weight)
            assert not layer.bias.any()
    assert not model.patch_embed.proj.bias.any()


@pytest.mark.parametrize("name", ["vit_tiny_patch16_224", "deit_tiny_patch16_224"])
def test_a_vision_transformer_by_timms_name_starts_as_that_of_moco_v3(name: str) -> None:
    """Fixed positions, the patch projection as a linear layer, queries, keys and values as three
    matrices."""
    model = TimmEncoder(name, position="sincos", **VIT).model
    assert not model.pos_embed.requires_grad
    assert not model.pos_embed[:, 0].any()
    assert torch.equal(model.pos_embed[0, 1:], sincos_positions((8, 8), 192))
    assert_xavier(model.patch_embed.proj.weight)
    assert_xavier(model.blocks[0].attn.qkv.weight, outputs=192)
    assert_xavier(model.blocks[0].mlp.fc1.weight)
    assert not model.blocks[0].mlp.fc1.bias.any()
    assert model.cls_token.abs().max() < 1e-5


def test_fixed_positions_are_refused_where_there_are_none_or_weights_belong_to_others() -> None:
    with pytest.raises(ValueError, match=r"TimmEncoder\('resnet18', position='sincos'\).*leave it out"):
        TimmEncoder("resnet18", position="sincos")
    with pytest.raises(ValueError, match=r"pretrained=True.*position=learned"):
        TimmEncoder("vit_tiny_patch16_224", position="sincos", pretrained=True)
    with pytest.raises(ValueError, match=r"position='sin'.*learned or sincos"):
        TimmEncoder("resnet18", position="sin")  # type: ignore[arg-type]
