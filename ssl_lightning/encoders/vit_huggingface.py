"""Vision transformers of timm are converted to Hugging Face transformers: `ViTModel`."""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from typing import Any

import torch
from torch import Tensor

from .transformers_model import library

PARTS = {
    "cls_token": "embeddings.cls_token",
    "pos_embed": "embeddings.position_embeddings",
    "patch_embed.proj.weight": "embeddings.patch_embeddings.projection.weight",
    "patch_embed.proj.bias": "embeddings.patch_embeddings.projection.bias",
    "norm.weight": "layernorm.weight",
    "norm.bias": "layernorm.bias",
}
LAYER = {"norm1": "layernorm_before", "norm2": "layernorm_after", "attn.proj": "attention.o_proj"}
LAYER |= {"mlp.fc1": "mlp.fc1", "mlp.fc2": "mlp.fc2"}


def to_vit_model(model: Any) -> Any:
    """The `ViTModel` with the weights of a timm model, in eval mode, without the pooler, which timm
    does not have. Its `last_hidden_state` [S, 1 + N, dim] are the normed tokens.

    Args:
        model: a `VisionTransformer` of timm; where it norms after pooling, its tokens here are
            normed by that norm.

    Raises:
        ValueError: transformers is not installed, or its model lacks a part of this one; the
            message is the reason.
    """
    from timm.models.vision_transformer import VisionTransformer

    if type(model) is not VisionTransformer:
        raise ValueError(f"holds a {type(model).__name__}, which is not a plain vision transformer")
    state = {name.replace("fc_norm.", "norm."): tensor.detach() for name, tensor in model.state_dict().items()}
    if model.cls_token is None or model.pos_embed is None:
        raise ValueError("has no class token, or no positions, which transformers' ViTModel always has")
    blocks: Any = model.blocks
    config = library("export").ViTConfig(
        hidden_size=model.embed_dim,
        num_hidden_layers=len(blocks),
        num_attention_heads=blocks[0].attn.num_heads,
        intermediate_size=blocks[0].mlp.fc1.out_features,
        hidden_act="gelu",
        layer_norm_eps=blocks[0].norm1.eps,
        image_size=_side(model.patch_embed.img_size),
        patch_size=_side(model.patch_embed.patch_size),
        num_channels=model.patch_embed.proj.in_channels,
        qkv_bias=blocks[0].attn.qkv.bias is not None,
    )
    with torch.random.fork_rng(devices=[]):
        there: Any = library("export").ViTModel(config, add_pooling_layer=False)
    names = dict(_pairs(state, len(blocks)))
    left = [name for name in state if name not in names]
    if left:
        listed = ", ".join(left[:4]) + ", ..." * (len(left) > 4)
        raise ValueError(f"has {listed} ({len(left)} tensors), which transformers' ViTModel lacks")
    tensors = {
        part: each
        for name, parts in names.items()
        for part, each in zip(parts, state[name].chunk(len(parts)), strict=True)
    }
    report = there.load_state_dict(tensors, strict=False)
    if report.missing_keys or report.unexpected_keys:
        odd = [*report.missing_keys, *report.unexpected_keys]
        raise ValueError(f"differs from transformers' ViTModel in {', '.join(odd[:4])}")
    return there.eval()


def _side(sides: tuple[int, int]) -> int | list[int]:
    return sides[0] if sides[0] == sides[1] else list(sides)


def _pairs(state: Mapping[str, Tensor], depth: int) -> Iterator[tuple[str, tuple[str, ...]]]:
    """Yields the names of tensors that both have: timm's, and those of which it is made there."""
    for name, other in PARTS.items():
        if name in state:
            yield name, (other,)
    for number in range(depth):
        for kind in ("weight", "bias"):
            qkv = f"blocks.{number}.attn.qkv.{kind}"
            if qkv in state:
                yield qkv, tuple(f"layers.{number}.attention.{each}_proj.{kind}" for each in "qkv")
            for name, other in LAYER.items():
                if f"blocks.{number}.{name}.{kind}" in state:
                    yield f"blocks.{number}.{name}.{kind}", (f"layers.{number}.{other}.{kind}",)
