"""The encoder that holds a network, found by the shapes of its tensors."""

from __future__ import annotations

import re
from typing import Any, Literal, NamedTuple

from torch import nn

from ...encoders.base import Encoder
from ...encoders.patchwise import LayerNormResNet, PatchwiseEncoder
from ...encoders.resnet import ResNetEncoder
from ...encoders.timm import TimmEncoder
from ...encoders.timm_model import TimmModel
from ...encoders.vit import ViTEncoder
from .layout import Tensors, Traits

RESNETS: dict[tuple[str, tuple[int, ...], int, int], str] = {
    ("basic", (2, 2, 2, 2), 64, 1): "resnet18",
    ("basic", (3, 4, 6, 3), 64, 1): "resnet34",
    ("bottleneck", (3, 4, 6, 3), 64, 1): "resnet50",
    ("bottleneck", (3, 4, 23, 3), 64, 1): "resnet101",
    ("bottleneck", (3, 8, 36, 3), 64, 1): "resnet152",
    ("bottleneck", (3, 4, 6, 3), 128, 1): "wide_resnet50_2",
    ("bottleneck", (3, 4, 23, 3), 128, 1): "wide_resnet101_2",
    ("bottleneck", (3, 4, 6, 3), 4, 32): "resnext50_32x4d",
    ("bottleneck", (3, 4, 23, 3), 8, 32): "resnext101_32x8d",
}
"""timm's names by block, blocks a stage, width of a group, and groups."""
SIZES = {192: "tiny", 384: "small", 768: "base", 1024: "large"}
"""timm's names of vision transformers by the width of a token."""
HEADS = {1280: 16}
"""Heads where they are not of 64 values: ViT-Huge."""


class Wanted(NamedTuple):
    """What the user says about the architecture; None: what the file says."""

    architecture: str | None = None
    pooling: Literal["token", "mean"] | None = None
    heads: int | None = None
    max_pool: bool | None = None


def encoder_for(tensors: Tensors, traits: Traits, wanted: Wanted, pooling: str) -> Encoder:
    """Builds the encoder that has room for a network.

    Args:
        tensors: by timm's names.
        traits: what they do not say.
        wanted: what the user says.
        pooling: of a vision transformer, where the user does not say.

    Raises:
        ValueError: no encoder does, or timm does not know the architecture.
    """
    if "patch_embed.proj.weight" in tensors and "blocks.0.attn.qkv.weight" in tensors:
        return _vit(tensors, traits, wanted, wanted.pooling or pooling)
    if wanted.pooling is not None or wanted.heads is not None:
        raise ValueError("--pooling and --heads are of vision transformers, and this network is none.")
    if wanted.architecture is not None:
        return TimmEncoder(wanted.architecture, channels=_channels(tensors))
    if "conv1.weight" in tensors and "layer4.0.conv1.weight" in tensors:
        layers = [_count(tensors, f"layer{stage}") for stage in (1, 2, 3, 4)]
        if "ln1.weight" in tensors:
            encoder: Encoder = LayerNormResNet(layers, image_size=traits.patch, channels=_channels(tensors))
        else:
            encoder = _resnet(tensors, layers, traits, wanted)
        if not traits.patch:
            return encoder
        return PatchwiseEncoder(encoder, patch_size=traits.patch, step=traits.step, channels=_channels(tensors))
    raise ValueError(
        f"The network ({', '.join(list(tensors)[:4])}, ...) is neither a ResNet nor a vision transformer as timm has"
        " them; if timm knows it, name it: --architecture NAME."
    )


def _channels(tensors: Tensors) -> int:
    """The channels of the images: those of the first convolution."""
    first = next((tensor for tensor in tensors.values() if tensor.ndim == 4), None)
    return 3 if first is None else first.shape[1]


def _count(tensors: Tensors, prefix: str) -> int:
    """The number of blocks `prefix.0`, `prefix.1`, ..."""
    numbers = {match[1] for name in tensors if (match := re.match(rf"{prefix}\.(\d+)\.", name))}
    return len(numbers)


def holder_of(encoder: Encoder) -> nn.Module:
    """The module of an encoder whose tensors have the names of the network's."""
    inner = encoder.encoder if isinstance(encoder, PatchwiseEncoder) else encoder
    return inner.model if isinstance(inner, TimmModel) else inner


def _resnet(tensors: Tensors, layers: list[int], traits: Traits, wanted: Wanted) -> Encoder:
    stem, inner = tensors["conv1.weight"], tensors.get("layer1.0.conv2.weight")
    width, channels, kernel, _ = stem.shape
    if kernel not in (3, 7) or inner is None:
        raise ValueError(
            f"The ResNet's first convolution has {kernel}x{kernel} pixels; 7x7 and 3x3 are known. If timm knows the"
            " model, name it: --architecture NAME."
        )
    block: Literal["basic", "bottleneck"] = "bottleneck" if "layer1.0.conv3.weight" in tensors else "basic"
    groups = max(inner.shape[0] // inner.shape[1], 1)
    group_width = max(inner.shape[0] * 64 // (width * groups), 1)
    pools = [wanted.max_pool, traits.pool, kernel == 7]
    pool = next(each for each in pools if each is not None)
    stride, padding = (2, 3) if kernel == 7 else (1, traits.padding)
    name = RESNETS.get((block, tuple(layers), group_width, groups)) if width == 64 and traits.activation else None
    if name and kernel == 7 and pool:
        return TimmEncoder(name, channels=channels)
    if name and kernel == 3 and padding == 1 and not pool:
        return TimmEncoder(name, channels=channels, small_images=True)
    return ResNetEncoder(
        block,
        layers,
        width=width,
        group_width=group_width,
        groups=groups,
        channels=channels,
        kernel=kernel,
        stride=stride,
        padding=padding,
        activation=traits.activation,
        pool=pool,
    )


def _vit(tensors: Tensors, traits: Traits, wanted: Wanted, pooling: Any) -> Encoder:
    dim, channels, rows, columns = tensors["patch_embed.proj.weight"].shape
    positions = tensors.get("pos_embed")
    if positions is None or positions.ndim != 3:
        raise ValueError("The vision transformer has no positions of its patches (pos_embed), which ViTEncoder needs.")
    registers = "reg_token" in tensors
    class_token = "cls_token" in tensors
    patches = positions.shape[1] - (class_token and not registers)
    side = round(patches**0.5)
    if side * side != patches:
        raise ValueError(f"The vision transformer has positions for {patches} patches, which are no square.")
    if not class_token and wanted.pooling == "token":
        raise ValueError("The vision transformer has no class token; --pooling mean takes the mean of its patches.")
    size: dict[str, Any] = {"image_size": (side * rows, side * columns) if rows != columns else side * rows}
    if wanted.architecture is None:
        depth, heads = _count(tensors, "blocks"), wanted.heads or traits.heads or HEADS.get(dim) or max(dim // 64, 1)
        size |= {"dim": dim, "depth": depth, "heads": heads, "patch_size": (rows, columns) if rows != columns else rows}
    return ViTEncoder(
        wanted.architecture or _name(dim, registers, class_token, "blocks.0.ls1.gamma" in tensors),
        channels=channels,
        pooling=pooling if class_token else "mean",
        position="learned",
        norm_eps=traits.norm_eps,
        **size,
    )


def _name(dim: int, registers: bool, class_token: bool, scaled: bool) -> str:
    """The model of timm with these parts; its sizes come beside."""
    if registers or scaled:
        of_scaled = SIZES.get(dim, "small").replace("tiny", "small")
        return f"vit_{of_scaled}_patch14_{'reg4_' if registers else ''}dinov2"
    if not class_token:
        return "vit_base_patch16_gap_224"
    return "vit_huge_patch14_224" if dim == 1280 else f"vit_{SIZES.get(dim, 'tiny')}_patch16_224"
