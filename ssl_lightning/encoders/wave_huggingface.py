"""`WaveTransformer` is converted to Hugging Face transformers: `Wav2Vec2Model`."""

from __future__ import annotations

from typing import Any

from torch import Tensor, nn

from .transformers_model import library
from .wave import GROUPS, POSITIONS, WaveTransformer


def to_wav2vec2(encoder: WaveTransformer) -> Any:
    """The `Wav2Vec2Model` with the weights of an encoder, in eval mode. Its `last_hidden_state`
    [S, N, dim] are the contextual tokens; it masks nothing in training until its config says so.

    Raises:
        ValueError: transformers is not installed.
    """
    model: Any = library("export").Wav2Vec2Model(wav2vec2_config(encoder, mask_time_prob=0.0))
    model.load_state_dict(translated(encoder.state_dict(), names_of(encoder)))
    return model.eval()


def wav2vec2_config(encoder: WaveTransformer, **settings: Any) -> Any:
    """The config of transformers' model like an encoder.

    Args:
        encoder: the encoder.
        settings: others of the config.
    """
    layer = isinstance(encoder.convolutions[-1].norm, nn.LayerNorm)
    blocks: Any = encoder.trunk.blocks
    dropout = encoder.dropout.p
    return library("export").Wav2Vec2Config(**{
        "hidden_size": encoder.dim, "num_hidden_layers": len(blocks), "num_attention_heads": blocks[0].heads,
        "intermediate_size": blocks[0].mlp[0].out_features,
        "conv_dim": [encoder.features_dim] * len(encoder.kernels), "conv_kernel": list(encoder.kernels),
        "conv_stride": list(encoder.strides),
        "feat_extract_norm": "layer" if layer else "group", "conv_bias": layer,
        "do_stable_layer_norm": blocks[0].pre, "layer_norm_eps": 1e-6,
        "num_conv_pos_embeddings": POSITIONS, "num_conv_pos_embedding_groups": GROUPS,
        "feat_extract_activation": "gelu",
        "hidden_dropout": dropout, "activation_dropout": 0.0, "attention_dropout": dropout,
        "feat_proj_dropout": dropout, "feat_quantizer_dropout": 0.0, "final_dropout": 0.0,
        "layerdrop": 0.0, **settings,
    })  # fmt: skip


def names_of(encoder: WaveTransformer) -> dict[str, list[str]]:
    """By the name of each tensor here those of transformers, of which it is made side by side."""
    pair = ("weight", "bias")
    names = {
        f"{part}.{kind}": [f"{other}.{kind}"]
        for part, other in {
            "features_norm": "feature_projection.layer_norm",
            "project": "feature_projection.projection",
        }.items()
        for kind in pair
    }
    for number, convolution in enumerate(encoder.convolutions):
        here, there = f"convolutions.{number}", f"feature_extractor.conv_layers.{number}"
        for kind in pair:
            if getattr(convolution.convolution, kind) is not None:
                names[f"{here}.convolution.{kind}"] = [f"{there}.conv.{kind}"]
            if convolution.norm is not None:
                names[f"{here}.norm.{kind}"] = [f"{there}.layer_norm.{kind}"]
    for part in ("parametrizations.weight.original0", "parametrizations.weight.original1", "bias"):
        names[f"positions.convolution.{part}"] = [f"encoder.pos_conv_embed.conv.{part}"]
    norm = "trunk.norm" if isinstance(encoder.first_norm, nn.Identity) else "first_norm"
    for kind in pair:
        names[f"{norm}.{kind}"] = [f"encoder.layer_norm.{kind}"]
        for number in range(len(encoder.trunk.blocks)):
            here, there = f"trunk.blocks.{number}", f"encoder.layers.{number}"
            names[f"{here}.norm1.{kind}"] = [f"{there}.layer_norm.{kind}"]
            names[f"{here}.norm2.{kind}"] = [f"{there}.final_layer_norm.{kind}"]
            names[f"{here}.qkv.{kind}"] = [f"{there}.attention.{each}_proj.{kind}" for each in "qkv"]
            names[f"{here}.projection.{kind}"] = [f"{there}.attention.out_proj.{kind}"]
            names[f"{here}.mlp.0.{kind}"] = [f"{there}.feed_forward.intermediate_dense.{kind}"]
            names[f"{here}.mlp.2.{kind}"] = [f"{there}.feed_forward.output_dense.{kind}"]
    return names


def translated(tensors: dict[str, Tensor], names: dict[str, list[str]]) -> dict[str, Tensor]:
    """Tensors here by transformers' names; every one has a name there."""
    return {
        name: part
        for here, tensor in tensors.items()
        for name, part in zip(names[here], tensor.chunk(len(names[here])), strict=True)
    }
