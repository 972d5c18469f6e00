"""The prediction head of a masked language model of transformers, to and from the head that a
method puts on a text encoder.

Families keep it under different names. Between the encoder and the table of tokens it is, in BERT
and in those that follow it, a linear layer, GELU and a norm; whether a model's is, is tried on a
few tokens rather than read from its config.
"""

from __future__ import annotations

import copy
from typing import Any, NamedTuple

import torch
from pytorch_lightning.utilities import rank_zero_warn
from torch import Tensor, nn
from torch.nn import functional as F

from .base import PredictionHead
from .transformers_model import config_of_model, fetched, library, quiet

TRIED = 8
"""Tokens that a model's head is tried on."""


class Parts(NamedTuple):
    """Modules of a model: the linear layer and the norm of its head, and the projection onto the
    vocabulary."""

    dense: nn.Linear
    norm: nn.LayerNorm
    decoder: nn.Linear


def published_head(name: str) -> PredictionHead | None:
    """Loads the prediction head that was published with an encoder's weights; None: there is none
    that fits, which a warning says.

    Args:
        name: of a model on the hub, or the folder of one.
    """
    auto = library("HuggingFaceText")
    config = config_of_model(name)
    if not any(each.endswith("ForMaskedLM") for each in config.get("architectures") or ()):
        return None
    settings = auto.AutoConfig.for_model(**config)
    with torch.random.fork_rng(devices=[]):
        model, report = fetched(
            auto.AutoModelForMaskedLM.from_pretrained, name, config=settings, dtype=torch.float32,
            output_loading_info=True,
        )  # fmt: skip
        parts = parts_of(model)
        head = None if parts is None or report["missing_keys"] else _head_in(parts)
    if head is None or not alike(model, head):
        rank_zero_warn(f"The prediction head of {name!r} is not like the method's, which begins anew.")
        return None
    return head


def parts_of(model: Any) -> Parts | None:
    """The parts of a model's head; None: it has others."""
    decoder, inside = model.get_output_embeddings(), {id(each) for each in model.base_model.modules()}
    rest = [each for each in model.modules() if id(each) not in inside and each is not decoder]
    dense = [each for each in rest if isinstance(each, nn.Linear)]
    norms = [each for each in rest if isinstance(each, nn.LayerNorm)]
    if not isinstance(decoder, nn.Linear) or len(dense) != 1 or len(norms) != 1:
        return None
    return Parts(dense[0], norms[0], decoder)


def _head_in(parts: Parts) -> PredictionHead:
    """A copy of the head, with zeros where the model has no bias."""
    dense, norm, decoder = parts
    layers = nn.Sequential(
        nn.Linear(dense.in_features, dense.out_features), nn.GELU(), nn.LayerNorm(dense.out_features, eps=norm.eps)
    )
    state = {"0.weight": dense.weight, "2.weight": norm.weight}
    state |= {"0.bias": _or_zeros(dense.bias, dense.out_features), "2.bias": _or_zeros(norm.bias, dense.out_features)}
    layers.load_state_dict({name: tensor.detach() for name, tensor in state.items()})
    return PredictionHead(layers, _or_zeros(decoder.bias, decoder.out_features).detach().clone())


def _or_zeros(bias: Tensor | None, size: int) -> Tensor:
    return torch.zeros(size) if bias is None else bias


@torch.no_grad()
def alike(model: Any, head: PredictionHead) -> bool:
    """Whether a model's scores are those of this head on its table of tokens."""
    training = model.training
    model.eval()
    ids = torch.arange(TRIED)[None] % model.config.vocab_size
    scores, h = model(ids).logits, model.base_model(ids).last_hidden_state
    model.train(training)
    table = model.get_input_embeddings().weight
    expected = head.layers(h) @ table.T + head.bias if head.layers[0].in_features == h.shape[-1] else None
    return (
        expected is not None
        and expected.shape == scores.shape
        and torch.allclose(scores, expected, rtol=1e-3, atol=1e-3 * max(1.0, float(scores.abs().max())))
    )


def to_masked_model(encoder: Any, head: PredictionHead) -> Any:
    """The model of transformers for masked language modelling that is an encoder and a head, in
    eval mode.

    Args:
        encoder: a `HuggingFaceText`.
        head: on its table of tokens.

    Raises:
        ValueError: transformers has no such model of the encoder's family, or its head is another.
    """
    auto, table = library("export"), encoder.embedding.weight.detach().float().cpu()
    config = {**encoder.model.config.to_dict(), "model_type": encoder.model.config.model_type}
    if "classifier_bias" in config:
        config["classifier_bias"] = True
    with quiet(), torch.random.fork_rng(devices=[]):
        try:
            model: Any = auto.AutoModelForMaskedLM.from_config(auto.AutoConfig.for_model(**config)).float()
        except ValueError as error:
            raise ValueError(f"transformers has no {config['model_type']} that predicts hidden tokens.") from error
    parts = parts_of(model)
    state = {name: tensor.detach().float().cpu() for name, tensor in encoder.model.state_dict().items()}
    model.base_model.load_state_dict(state)
    if parts is not None and parts.dense.weight.shape == head.layers[0].weight.shape:
        given = {name: tensor.detach().float().cpu() for name, tensor in head.layers.state_dict().items()}
        norm_bias, bias = given["2.bias"], head.bias.detach().float().cpu()
        parts.dense.weight.data, parts.norm.weight.data = given["0.weight"], given["2.weight"]
        if parts.dense.bias is not None:
            parts.dense.bias.data.copy_(given["0.bias"])
        if parts.norm.bias is not None:
            parts.norm.bias.data.copy_(norm_bias)
        else:  # behind the norm there is only the projection
            bias = bias + F.linear(norm_bias, table)
        of_layers = {id(parts.dense.bias), id(parts.norm.bias)}
        outside = {
            id(each): each
            for name, each in model.named_parameters(remove_duplicate=False)
            if name.partition(".")[0] != model.base_model_prefix and name.endswith("bias") and id(each) not in of_layers
        }
        for each in outside.values():  # some families have the projection's twice
            if each.shape == bias.shape:
                each.data.copy_(bias)
    model.tie_weights()
    if not alike(model, PredictionHead(copy.deepcopy(head.layers).float().cpu(), head.bias.detach().float().cpu())):
        raise ValueError(
            f"The head of transformers' {type(model).__name__} is not like the method's, so it cannot be exported; the"
            " encoder saves itself: ssl_lightning.load_encoder(run).model.save_pretrained(folder)."
        )
    return model.eval()
