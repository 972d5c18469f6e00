"""The names of a network's tensors in other libraries, turned into those of timm."""

from __future__ import annotations

import re

import torch

from .layout import Tensors

Rules = tuple[tuple[str, str], ...]
"""Regular expressions and what takes their place, in order."""


def by_rules(tensors: Tensors, rules: Rules) -> Tensors:
    """Renames tensors by each rule that applies."""
    renamed: Tensors = {}
    for key, tensor in tensors.items():
        name = key
        for pattern, replacement in rules:
            name = re.sub(pattern, replacement, name)
        renamed[name] = tensor
    return renamed


def joined(tensors: Tensors, parts: tuple[str, ...], whole: str) -> Tensors:
    """Concatenates what lies in several tensors: `blocks.0.attn.(q|k|v).weight` -> `qkv`."""
    result = dict(tensors)
    for key in tensors:
        if f".{parts[0]}." in key:
            names = [key.replace(f".{parts[0]}.", f".{part}.") for part in parts]
            if all(name in result for name in names):
                result[key.replace(f".{parts[0]}.", f".{whole}.")] = torch.cat([result.pop(name) for name in names])
    return result


SEQUENCES: dict[str, tuple[str, ...]] = {
    # lightly's own ResNet has no module between its first norm and its stages.
    "2": ("conv1", "bn1", "layer1", "layer2", "layer3", "layer4"),
    # torchvision's and timm's children: conv1, bn1, ReLU, max-pooling, the stages.
    "4": ("conv1", "bn1", "", "", "layer1", "layer2", "layer3", "layer4"),
}
"""The children of a ResNet in an `nn.Sequential`, by the number of the first stage; lightly's own,
which has a child 4 too, comes first."""


def first_stage(tensors: Tensors) -> str | None:
    """The number of a ResNet's first stage in an `nn.Sequential`; None: its parts have names."""
    return next((number for number in SEQUENCES if f"{number}.0.conv1.weight" in tensors), None)


def named_sequence(tensors: Tensors) -> Tensors:
    """The parts of a ResNet in an `nn.Sequential` under their names."""
    number = first_stage(tensors)
    if number is None:
        return tensors
    names = SEQUENCES[number]
    return by_rules(tensors, tuple((rf"^{index}\.", f"{name}.") for index, name in enumerate(names) if name))


OF_TORCHVISION: Rules = (
    (r"^class_token$", "cls_token"),
    (r"^conv_proj\.", "patch_embed.proj."),
    (r"^encoder\.pos_embedding$", "pos_embed"),
    (r"^encoder\.layers\.encoder_layer_", "blocks."),
    (r"^encoder\.ln\.", "norm."),
    (r"\.ln_([12])\.", r".norm\1."),
    (r"\.self_attention\.in_proj_", ".attn.qkv."),
    (r"\.self_attention\.out_proj\.", ".attn.proj."),
    (r"\.mlp\.(linear_1|0)\.", ".mlp.fc1."),
    (r"\.mlp\.(linear_2|3)\.", ".mlp.fc2."),
)
"""torchvision's `VisionTransformer`."""

OF_TRANSFORMERS: Rules = (
    (r"^embeddings\.cls_token$", "cls_token"),
    (r"^embeddings\.mask_token$", "mask_token"),
    (r"^embeddings\.register_tokens$", "register_tokens"),
    (r"^embeddings\.position_embeddings$", "pos_embed"),
    (r"^embeddings\.patch_embeddings\.projection\.", "patch_embed.proj."),
    (r"^(encoder\.layer|layers)\.(\d+)\.", r"blocks.\2."),
    (r"\.attention\.(attention\.)?(query|q_proj)\.", ".attn.q."),
    (r"\.attention\.(attention\.)?(key|k_proj)\.", ".attn.k."),
    (r"\.attention\.(attention\.)?(value|v_proj)\.", ".attn.v."),
    (r"\.attention\.(output\.dense|o_proj)\.", ".attn.proj."),
    (r"\.intermediate\.dense\.", ".mlp.fc1."),
    (r"(blocks\.\d+)\.output\.dense\.", r"\1.mlp.fc2."),
    (r"\.layernorm_before\.", ".norm1."),
    (r"\.layernorm_after\.", ".norm2."),
    (r"\.layer_scale([12])\.lambda1$", r".ls\1.gamma"),
    (r"^layernorm\.", "norm."),
)
"""transformers' `ViTModel`, `ViTMAEModel`, `Dinov2Model` and `Dinov2WithRegistersModel`, in its
files and in memory."""

OF_RESNET: Rules = (
    (r"^embedder\.embedder\.convolution\.", "conv1."),
    (r"^embedder\.embedder\.normalization\.", "bn1."),
    (r"^encoder\.stages\.0\.", "layer1."),
    (r"^encoder\.stages\.1\.", "layer2."),
    (r"^encoder\.stages\.2\.", "layer3."),
    (r"^encoder\.stages\.3\.", "layer4."),
    (r"^(layer\d)\.layers\.", r"\1."),
    (r"\.layer\.0\.convolution\.", ".conv1."),
    (r"\.layer\.0\.normalization\.", ".bn1."),
    (r"\.layer\.1\.convolution\.", ".conv2."),
    (r"\.layer\.1\.normalization\.", ".bn2."),
    (r"\.layer\.2\.convolution\.", ".conv3."),
    (r"\.layer\.2\.normalization\.", ".bn3."),
    (r"\.shortcut\.convolution\.", ".downsample.0."),
    (r"\.shortcut\.normalization\.", ".downsample.1."),
)
"""transformers' `ResNetModel`."""


def of_transformers(tensors: Tensors) -> Tensors:
    """transformers' names as timm's."""
    if any(name.startswith("embedder.") for name in tensors):
        return by_rules(tensors, OF_RESNET)
    return with_registers(joined(by_rules(tensors, OF_TRANSFORMERS), ("q", "k", "v"), "qkv"))


def with_registers(tensors: Tensors) -> Tensors:
    """DINOv2's tensors as timm's: without the mask's token, and where there are registers, with the
    class token's position added to it (as `timm.models.vision_transformer` reads them)."""
    tensors = {name: tensor for name, tensor in tensors.items() if name != "mask_token"}
    if "register_tokens" in tensors and {"cls_token", "pos_embed"} <= tensors.keys():
        positions = tensors["pos_embed"]
        tensors["reg_token"] = tensors.pop("register_tokens")
        tensors["cls_token"] = tensors["cls_token"] + positions[:, :1]
        tensors["pos_embed"] = positions[:, 1:]
    return tensors


def of_vit(tensors: Tensors) -> Tensors:
    """A vision transformer of torchvision under timm's names; one of timm as it is."""
    return by_rules(tensors, OF_TORCHVISION) if "conv_proj.weight" in tensors else tensors
