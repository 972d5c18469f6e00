"""transformers' wav2vec 2.0 with the weights of ours, for the proofs of encoder and method."""

from __future__ import annotations

from typing import Any

import torch
from torch import Tensor, nn

from ssl_lightning.encoders.wave import GROUPS, POSITIONS, WaveTransformer

STEM: dict[str, Any] = {"maps": 12, "kernels": [10, 3, 3, 2], "strides": [5, 2, 2, 2]}
"""A token each 40 samples."""


def config_like(encoder: WaveTransformer, **settings: Any) -> Any:
    """The config of transformers' model like an encoder."""
    from transformers import Wav2Vec2Config

    layer = isinstance(encoder.convolutions[-1].norm, nn.LayerNorm)
    blocks: Any = encoder.trunk.blocks
    return Wav2Vec2Config(
        hidden_size=encoder.dim, num_hidden_layers=len(blocks), num_attention_heads=blocks[0].heads,
        intermediate_size=4 * encoder.dim,
        conv_dim=[encoder.features_dim] * len(encoder.kernels), conv_kernel=list(encoder.kernels),
        conv_stride=list(encoder.strides),
        feat_extract_norm="layer" if layer else "group", conv_bias=layer, do_stable_layer_norm=blocks[0].pre,
        layer_norm_eps=1e-6,
        num_conv_pos_embeddings=POSITIONS, num_conv_pos_embedding_groups=GROUPS, feat_extract_activation="gelu",
        hidden_dropout=0.0, activation_dropout=0.0, attention_dropout=0.0, feat_proj_dropout=0.0,
        feat_quantizer_dropout=0.0, final_dropout=0.0,
        layerdrop=0.0, mask_time_prob=0.1, **settings,
    )  # fmt: skip


def names_of(encoder: WaveTransformer) -> dict[str, list[str]]:
    """By the name of each of our tensors those of transformers, of which ours is made side by
    side."""
    names = {
        f"{part}.{kind}": [f"{theirs}.{kind}"]
        for part, theirs in {
            "features_norm": "feature_projection.layer_norm",
            "project": "feature_projection.projection",
        }.items()
        for kind in ("weight", "bias")
    }
    for number, convolution in enumerate(encoder.convolutions):
        ours, theirs = f"convolutions.{number}", f"feature_extractor.conv_layers.{number}"
        for kind in ("weight", "bias"):
            if getattr(convolution.convolution, kind) is not None:
                names[f"{ours}.convolution.{kind}"] = [f"{theirs}.conv.{kind}"]
            if convolution.norm is not None:
                names[f"{ours}.norm.{kind}"] = [f"{theirs}.layer_norm.{kind}"]
    for place in ("parametrizations.weight.original0", "parametrizations.weight.original1", "bias"):
        names[f"positions.convolution.{place}"] = [f"encoder.pos_conv_embed.conv.{place}"]
    norm = "trunk.norm" if isinstance(encoder.first_norm, nn.Identity) else "first_norm"
    for kind in ("weight", "bias"):
        names[f"{norm}.{kind}"] = [f"encoder.layer_norm.{kind}"]
        for number in range(len(encoder.trunk.blocks)):
            ours, theirs = f"trunk.blocks.{number}", f"encoder.layers.{number}"
            names[f"{ours}.norm1.{kind}"] = [f"{theirs}.layer_norm.{kind}"]
            names[f"{ours}.norm2.{kind}"] = [f"{theirs}.final_layer_norm.{kind}"]
            names[f"{ours}.qkv.{kind}"] = [f"{theirs}.attention.{each}_proj.{kind}" for each in "qkv"]
            names[f"{ours}.projection.{kind}"] = [f"{theirs}.attention.out_proj.{kind}"]
            names[f"{ours}.mlp.0.{kind}"] = [f"{theirs}.feed_forward.intermediate_dense.{kind}"]
            names[f"{ours}.mlp.2.{kind}"] = [f"{theirs}.feed_forward.output_dense.{kind}"]
    return names


def translated(tensors: dict[str, Tensor], names: dict[str, list[str]]) -> dict[str, Tensor]:
    """Ours by transformers' names; every tensor of ours has one."""
    return {
        name: part
        for ours, tensor in tensors.items()
        for name, part in zip(names[ours], tensor.chunk(len(names[ours])), strict=True)
    }


def twin(encoder: WaveTransformer) -> Any:
    """transformers' model with the weights of an encoder, in eval mode."""
    from transformers import Wav2Vec2Model

    model: Any = Wav2Vec2Model(config_like(encoder))
    model = model.to(next(encoder.parameters()).dtype).eval()
    state = translated(encoder.state_dict(), names_of(encoder))
    state["masked_spec_embed"] = model.state_dict()["masked_spec_embed"]  # of no use without its masks
    model.load_state_dict(state)
    return model


def recordings(lengths: list[int], row: int, loud: float = 30.0) -> tuple[Tensor, Tensor]:
    """Waves in rows, behind which it is loud, and which samples are real: float64 [S, row] and
    bool."""
    x = torch.randn(len(lengths), row, generator=torch.Generator().manual_seed(0), dtype=torch.float64)
    real = torch.arange(row) < torch.tensor(lengths)[:, None]
    return torch.where(real, x, loud), real


def pretraining_twin(method: Any) -> tuple[Any, dict[str, list[str]]]:
    """transformers' model for pretraining with the weights of a method, in training mode, and its
    names of our parameters."""
    from transformers import Wav2Vec2ForPreTraining

    quantizer = method.quantizer
    groups, entries, part = quantizer.codebooks.shape
    settings = {
        "num_codevector_groups": groups, "num_codevectors_per_group": entries, "codevector_dim": groups * part,
        "proj_codevector_dim": groups * part,
        "contrastive_logits_temperature": method.temperature, "diversity_loss_weight": method.diversity,
        "num_negatives": method.negatives,
    }  # fmt: skip
    model: Any = Wav2Vec2ForPreTraining(config_like(method.encoder, **settings))
    model = model.to(method.mask_token.dtype).train()
    names = {
        f"encoder.{ours}": [f"wav2vec2.{each}" for each in theirs] for ours, theirs in names_of(method.encoder).items()
    }
    names |= {"mask_token": ["wav2vec2.masked_spec_embed"], "quantizer.codebooks": ["quantizer.codevectors"]}
    for ours, theirs in {
        "quantizer.score": "quantizer.weight_proj",
        "target": "project_q",
        "predict": "project_hid",
    }.items():
        names |= {f"{ours}.{kind}": [f"{theirs}.{kind}"] for kind in ("weight", "bias")}
    state = translated(method.state_dict(), names)
    state["quantizer.codevectors"] = quantizer.codebooks.flatten(0, 1)[None]
    model.load_state_dict(state)
    return model, names
