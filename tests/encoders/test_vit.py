"""ViTEncoder: timm's vision transformers in two halves, equal to timm's own forward and to
transformers' ViTMAE."""

from __future__ import annotations

import math
from typing import Any

import pytest
import timm
import torch
from timm.models.vision_transformer import VisionTransformer
from torch import Tensor
from transformers import ViTMAEConfig, ViTMAEForPreTraining

from ssl_lightning.encoders.vit import ViTEncoder
from ssl_lightning.nn.masks.tokens import take
from ssl_lightning.plugins.rebuild import rebuild
from ssl_lightning.plugins.record import config_of
from ssl_lightning.types import Tokens, View

SMALL: dict[str, Any] = {"image_size": 32, "patch_size": 8, "dim": 24, "depth": 2, "heads": 3}
PATCHES = 16


def images(channels: int = 3, size: int = 32, samples: int = 2) -> View:
    return View(torch.randn(samples, channels, size, size, generator=torch.Generator().manual_seed(0)))


def shaken(encoder: ViTEncoder) -> ViTEncoder:
    """In eval mode, with weights that are nowhere zero or one by construction, so that none can be
    left out unseen."""
    generator = torch.Generator().manual_seed(1)
    for parameter in encoder.parameters():
        if parameter.requires_grad:
            parameter.data += 0.1 * torch.randn(parameter.shape, generator=generator)
    return encoder.eval()


# Against transformers' ViTMAE.

OF_BLOCK = {
    "attention.o_proj": "attn.proj",
    "layernorm_before": "norm1",
    "layernorm_after": "norm2",
    "mlp.fc1": "mlp.fc1",
    "mlp.fc2": "mlp.fc2",
}


def reference(encoder: ViTEncoder, mask_ratio: float) -> ViTMAEForPreTraining:
    """transformers' model with the weights of ours; its own positions are zero where a config
    builds it (5.23)."""
    config = ViTMAEConfig(
        hidden_size=24,
        num_hidden_layers=2,
        num_attention_heads=3,
        intermediate_size=96,
        image_size=32,
        patch_size=8,
        num_channels=encoder.channels,
        layer_norm_eps=1e-6,
        mask_ratio=mask_ratio,
        decoder_hidden_size=8,
        decoder_num_hidden_layers=1,
        decoder_num_attention_heads=1,
        decoder_intermediate_size=8,
    )
    theirs = ViTMAEForPreTraining(config).eval()
    ours = encoder.model.state_dict()
    copied = {"embeddings.cls_token": ours["cls_token"], "embeddings.position_embeddings": ours["pos_embed"]}
    for kind in ("weight", "bias"):
        copied[f"embeddings.patch_embeddings.projection.{kind}"] = ours[f"patch_embed.proj.{kind}"]
        copied[f"layernorm.{kind}"] = ours[f"norm.{kind}"]
        for block in range(2):
            for part, tensor in zip("qkv", ours[f"blocks.{block}.attn.qkv.{kind}"].chunk(3), strict=True):
                copied[f"layers.{block}.attention.{part}_proj.{kind}"] = tensor
            for key, value in OF_BLOCK.items():
                copied[f"layers.{block}.{key}.{kind}"] = ours[f"blocks.{block}.{value}.{kind}"]
    theirs.vit.load_state_dict(copied)
    return theirs


@pytest.mark.parametrize("channels", [1, 3])
def test_contents_are_the_patches_of_mae_and_go_back(channels: int) -> None:
    encoder, view = ViTEncoder(**SMALL, channels=channels), images(channels)
    content = encoder.content(view)
    assert torch.equal(content, reference(encoder, 0.75).patchify(view.x))
    assert content.shape == (2, PATCHES, encoder.content_dim) and encoder.grid(view) == (4, 4)
    assert torch.equal(encoder.restore(content, view), view.x)


def test_visible_tokens_alone_are_mixed_as_in_mae() -> None:
    encoder, view = shaken(ViTEncoder(**SMALL)), images()
    theirs = reference(encoder, 0.75)
    noise = torch.rand(2, PATCHES, generator=torch.Generator().manual_seed(2))
    expected = theirs.vit(view.x, noise=noise).last_hidden_state  # [2, 1 + 4, 24]
    x = encoder.tokenize(view).x
    mixed = encoder.mix(
        Tokens(torch.cat([x[:, : encoder.prefix], take(x[:, encoder.prefix :], noise.argsort(1)[:, :4])], dim=1))
    )
    assert torch.allclose(mixed, expected, atol=1e-5)
    for output in (mixed, expected):
        output.square().sum().backward()
    gradient = theirs.vit.embeddings.patch_embeddings.projection.weight.grad
    assert gradient is not None and torch.allclose(
        encoder.model.patch_embed.proj.weight.grad, gradient, rtol=1e-3, atol=1e-4
    )


@pytest.mark.parametrize("pooling", ["mean", "token"])
def test_features_are_the_pooled_tokens_of_mae(pooling: str) -> None:
    encoder, view = shaken(ViTEncoder(**SMALL, pooling=pooling)), images()
    with torch.no_grad():
        tokens: Tensor = (
            reference(encoder, 0.0).vit(view.x, noise=torch.arange(float(PATCHES)).expand(2, -1)).last_hidden_state
        )
        assert torch.allclose(encoder(view), tokens[:, 1:].mean(1) if pooling == "mean" else tokens[:, 0], atol=1e-5)


def test_fixed_positions_are_those_of_mae_and_stay() -> None:
    encoder = ViTEncoder(**SMALL)
    w = [10_000 ** (-i / 6) for i in range(6)]  # a quarter of 24
    places = [
        [f(place * wi) for place in (column, row) for f in (math.sin, math.cos) for wi in w]
        for row in range(4)
        for column in range(4)
    ]
    assert torch.allclose(encoder.model.pos_embed[0], torch.tensor([[0.0] * 24, *places]), atol=1e-6)
    assert not encoder.model.pos_embed.requires_grad and encoder.model.cls_token.requires_grad
    assert ViTEncoder(**SMALL, position="learned").model.pos_embed.requires_grad


# Against timm's own forward.

FAMILIES = [
    ("vit_tiny_patch16_224", 1),
    ("vit_base_patch32_clip_224", 1),  # a norm before the blocks
    ("deit3_small_patch16_224", 1),  # no position for the class token
    ("vit_small_patch14_reg4_dinov2", 5),  # registers, and its own image size of 518
    ("vit_so150m_patch16_reg4_gap_256", 4),  # registers with positions, no class token
    ("vit_wee_patch16_reg1_gap_256", 1),  # normed after pooling
    ("vit_pwee_patch16_reg1_gap_256", 1),  # blocks of another class, with the same norm
    ("test_vit", 1),  # of any image size by itself
]


@pytest.mark.parametrize(("name", "prefix"), FAMILIES, ids=[case[0] for case in FAMILIES])
def test_the_two_halves_are_timms_forward(name: str, prefix: int) -> None:
    encoder, view = (
        shaken(ViTEncoder(name, image_size=32, patch_size=8, dim=24, depth=2, heads=3, position="learned")),
        images(),
    )
    with torch.no_grad():
        tokens = encoder.tokenize(view)
        expected = encoder.model.fc_norm(encoder.model.forward_features(view.x))
        torch.testing.assert_close(
            encoder.mix(tokens), expected, rtol=1e-5, atol=1e-5
        )  # timm by its fused attention, ours by the plain one
        torch.testing.assert_close(encoder(view), expected[:, prefix:].mean(1), rtol=1e-5, atol=1e-5)
    assert encoder.prefix == prefix and tokens.x.shape == (2, prefix + PATCHES, encoder.dim)
    fixed = ViTEncoder(name, image_size=32, patch_size=8, dim=24, depth=2, heads=3).model.pos_embed[0]
    assert torch.equal(fixed[-PATCHES:], ViTEncoder(**SMALL).model.pos_embed[0, 1:]) and not fixed[:-PATCHES].any()


@pytest.mark.slow
@pytest.mark.parametrize("family", timm.list_modules())
def test_every_name_works_or_is_refused(family: str) -> None:
    """All names of the families that have vision transformers, one of each other family."""
    names = timm.list_models(module=family)
    for name in names if "vision_transformer" in family or family in ("deit", "vitamin", "eva") else names[:1]:
        with torch.device("meta"):
            check(name)


def check(name: str) -> None:
    model = timm.create_model(name, num_classes=0)
    patches = getattr(model, "patch_embed", None)
    if type(model) is not VisionTransformer or type(patches).__name__ != "PatchEmbed" or model.attn_pool is not None:
        with pytest.raises(ValueError, match=rf"ViTEncoder\('{name}'.*{type(model).__name__}.*vit_tiny_patch16_224"):
            ViTEncoder(name)
        return
    size = 4 * patches.patch_size[0]
    encoder, view = ViTEncoder(name, image_size=size, depth=2), View(torch.empty(2, 3, size, size))
    tokens = encoder.tokenize(view).x
    assert tokens.shape == (2, encoder.prefix + PATCHES, encoder.dim) and encoder(view).shape == (2, encoder.dim)
    assert encoder.mix(Tokens(tokens[:, :-12])).shape == (2, encoder.prefix + 4, encoder.dim)
    assert encoder.restore(encoder.content(view), view).shape == view.x.shape
    assert ViTEncoder(name, image_size=size, patch_size=size // 2, depth=2).grid(view) == (2, 2)


# What does not fit.


@pytest.mark.parametrize(
    ("name", "reason"),
    [
        ("resnet18", "class ResNet"),
        ("swin_tiny_patch4_window7_224", "class SwinTransformer"),
        ("deit_tiny_distilled_patch16_224", "class VisionTransformerDistilled"),
        ("vit_relpos_small_patch16_224", "class VisionTransformerRelPos"),
        ("eva02_tiny_patch14_224", "class Eva"),  # rotary
        ("vit_base_patch16_siglip_224", "pools by attention"),
    ],
)
def test_a_model_that_does_not_keep_the_halves_is_refused_by_name(name: str, reason: str) -> None:
    with pytest.raises(ValueError, match=rf"ViTEncoder\('{name}'\).*{reason}.*choose one such as vit_tiny_patch16_224"):
        ViTEncoder(name)


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        ({"name": "vit_tny_patch16_224"}, "no model 'vit_tny_patch16_224'.*vit_tiny_patch16_224"),
        ({"channels": 0}, "channels=0"),
        ({"pooling": "max"}, "pooling='max'"),
        ({"position": "rotary"}, "position='rotary'"),
        ({"name": "vit_wee_patch16_reg1_gap_256", "pooling": "token"}, "no class token; choose pooling=mean"),
        ({"image_size": 30, "patch_size": 4}, "image_size=30, patch_size=4.*choose image_size 28 or 32"),
        ({"image_size": 8}, "image_size=8, patch_size=16.*choose image_size 16 or 32"),
        ({"dim": 100}, "dim=100, depth=None, heads=3"),
        ({"dim": 6, "heads": 3}, "dim=6"),
        ({"depth": 0}, "depth=0"),
        ({"pretrained": True}, "position=learned"),
        (
            {"name": "test_vit4", "pretrained": True, "position": "learned"},
            "pretrained=True.*No pretrained weights exist",
        ),
    ],
)
def test_an_argument_that_does_not_fit_is_named(arguments: dict[str, Any], message: str) -> None:
    with pytest.raises(ValueError, match=message):
        ViTEncoder(**arguments)


def test_images_that_do_not_fit_name_both_sides() -> None:
    encoder = ViTEncoder(**SMALL)
    for half in (encoder.tokenize, encoder.content):
        with pytest.raises(ValueError, match="3 channels, got images with 1"):
            half(images(channels=1))
        with pytest.raises(
            ValueError, match=r"32x32 pixels, got 16x16: set its image_size=16.*local views.*dynamic_image_size=true"
        ):
            half(images(size=16))


# Other sizes, and what the core asks of an encoder.


def test_local_views_are_taken_with_interpolated_positions() -> None:
    encoder, still = shaken(ViTEncoder(**SMALL, dynamic_image_size=True)), ViTEncoder(**SMALL).eval()
    still.load_state_dict(encoder.state_dict())
    local = images(size=16)
    with torch.no_grad():
        assert torch.equal(encoder(images()), still(images()))
        expected = encoder.model.forward_features(local.x)
        assert torch.equal(encoder.mix(encoder.tokenize(local)), expected) and expected.shape == (2, 1 + 4, 24)
    assert encoder.grid(local) == (2, 2)
    assert torch.equal(encoder.restore(encoder.content(local), local), local.x)
    with pytest.raises(ValueError, match="patches of 8x8 pixels, which 20x20"):
        encoder(images(size=20))


def test_a_rebuilt_encoder_is_the_same_and_downloads_nothing() -> None:
    encoder = shaken(ViTEncoder(**SMALL, channels=1, pooling="token", position="learned"))
    config = config_of(encoder)
    again = rebuild(config).eval()
    again.load_state_dict(encoder.state_dict())
    assert torch.equal(again(images(1)), encoder(images(1))) and again.pooling == "token"
    config["init_args"]["pretrained"] = True
    assert rebuild(config).init_args == {**config["init_args"], "pretrained": False}


def test_it_says_of_itself_what_methods_and_optimizers_ask() -> None:
    encoder = ViTEncoder(
        "vit_small_patch14_reg4_dinov2", image_size=32, patch_size=8, dim=24, depth=2, heads=3, drop_path_rate=0.2
    )
    assert encoder.no_weight_decay() == {"model.pos_embed", "model.cls_token", "model.reg_token"}
    assert encoder.patch_embedding is encoder.model.patch_embed
    assert encoder.model.patch_embed.proj.weight.is_contiguous(memory_format=torch.channels_last)
    assert encoder.model.blocks[-1].drop_path1.drop_prob == pytest.approx(0.2)
    assert all(block.attn.fused_attn for block in encoder.model.blocks)
    layered = {parameter for layer in encoder.layer_groups() for parameter in layer}
    assert len(encoder.layer_groups()) >= 3 and layered == set(encoder.parameters())


def test_rectangles_are_cut_into_rectangular_patches() -> None:
    encoder = ViTEncoder(
        "vit_tiny_patch16_224", channels=1, image_size=(64, 100), patch_size=(16, 10), dim=32, depth=1, heads=2
    ).eval()
    view = View(torch.randn(2, 1, 64, 100))
    content = encoder.content(view)
    assert (
        encoder.grid(view) == (4, 10)
        and content.shape == (2, 40, 160)
        and encoder.tokenize(view).x.shape == (2, 41, 32)
    )
    assert torch.equal(content[1, 13], view.x[1, 0, 16:32, 30:40].flatten())
    assert torch.equal(encoder.restore(content, view), view.x) and encoder(view).shape == (2, 32)
    with pytest.raises(ValueError, match=r"image_size=100, patch_size=16\): .* not a whole number of patches"):
        ViTEncoder(image_size=(64, 100), channels=1)
