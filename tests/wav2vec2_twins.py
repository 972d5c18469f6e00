"""transformers' wav2vec 2.0 with the weights of ours, for the proofs of encoder and method."""

from __future__ import annotations

from typing import Any

import torch
from torch import Tensor

from ssl_lightning.encoders.wave import WaveTransformer
from ssl_lightning.encoders.wave_huggingface import names_of, translated, wav2vec2_config

STEM: dict[str, Any] = {"maps": 12, "kernels": [10, 3, 3, 2], "strides": [5, 2, 2, 2]}
"""A token each 40 samples."""


def config_like(encoder: WaveTransformer, **settings: Any) -> Any:
    """The config of transformers' model like an encoder, with masks and without dropout."""
    none = dict.fromkeys(("hidden_dropout", "attention_dropout", "feat_proj_dropout"), 0.0)
    return wav2vec2_config(encoder, mask_time_prob=0.1, **none, **settings)


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
