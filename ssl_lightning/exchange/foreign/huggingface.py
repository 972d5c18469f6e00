"""Hugging Face transformers: ViT, ViT-MAE, DINOv2 with and without registers, ResNet."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import replace
from typing import Any

from .layout import Format, Found, Layout, Traits, first_of, plain, state_at
from .naming import of_transformers

PREFIX = r"(vit\.|deit\.|dinov2\.|dinov2_with_registers\.|resnet\.)?"
CONFIG, PREPROCESSOR = "config.json", "preprocessor_config.json"
EPS = {"vit": 1e-12, "vit_mae": 1e-12, "dinov2": 1e-6, "dinov2_with_registers": 1e-6}
"""The defaults of transformers' configs."""


def _traits(network: Found) -> Traits:
    config, images = (network.settings.get(name, {}) for name in (CONFIG, PREPROCESSOR))
    if any(name.startswith("embedder.") for name in network.tensors):
        _check(config, hidden_act="relu", downsample_in_first_stage=False, downsample_in_bottleneck=False)
        return _with_images(Traits(), images)
    _check(config, hidden_act="gelu", use_swiglu_ffn=False)
    assumed: tuple[str, ...] = ()
    if not config:
        assumed = (f"no {CONFIG} beside the file: heads of 64 values, norms with transformers' default epsilon",)
    default = 1e-6 if any("layer_scale" in name for name in network.tensors) else 1e-12
    eps = float(config.get("layer_norm_eps", EPS.get(str(config.get("model_type")), default)))
    return _with_images(Traits(heads=config.get("num_attention_heads"), norm_eps=eps, assumed=assumed), images)


def _check(config: Mapping[str, Any], **needed: Any) -> None:
    for name, value in needed.items():
        if config.get(name, value) != value:
            raise ValueError(
                f"The model's {CONFIG} has {name}={config[name]!r}; only {name}={value!r} can be held by an encoder of"
                " ssl_lightning."
            )


def _with_images(traits: Traits, images: Mapping[str, Any]) -> Traits:
    """Adds how a model's image processor prepares images."""
    size = images.get("crop_size") or images.get("size")
    if isinstance(size, dict):
        size = size.get("height") or size.get("shortest_edge")
    mean, std = images.get("image_mean"), images.get("image_std")
    if not images:
        note = f"no {PREPROCESSOR} beside the file: mean and deviation of ImageNet, where many models have 0.5"
        return replace(traits, assumed=(*traits.assumed, note))
    given = isinstance(mean, list) and isinstance(std, list) and bool(images.get("do_normalize", True))
    return replace(
        traits,
        image_size=size if isinstance(size, int) else None,
        mean=tuple(mean) if given and mean else None,
        std=tuple(std) if given and std else None,
    )


FORMAT = Format(
    library="Hugging Face transformers",
    layouts=(
        Layout(
            "a vision transformer",
            {"model": rf"{PREFIX}(?=embeddings\.|encoder\.|layers\.|layernorm\.|pooler\.)"},
            marks=(rf"{PREFIX}embeddings\.patch_embeddings\.projection\.",),
            heads=(r"classifier\.", r"decoder\."),
            inside=(r"pooler\.", r"embeddings\.mask_token$"),
        ),
        Layout(
            "a ResNet",
            {"model": rf"{PREFIX}(?=embedder\.|encoder\.)"},
            marks=(rf"{PREFIX}embedder\.embedder\.convolution\.",),
            heads=(r"classifier\.",),
        ),
    ),
    state=first_of(plain, state_at("state_dict")),
    renamed=of_transformers,
    traits=_traits,
    settings=(CONFIG, PREPROCESSOR),
)
