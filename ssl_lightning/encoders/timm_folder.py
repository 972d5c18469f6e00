"""A model of timm from a folder, with whatever sizes it has, becomes an encoder."""

from __future__ import annotations

from typing import Any

import torch

from ..types import View
from .timm import TimmEncoder
from .timm_model import TimmModel
from .vit import ViTEncoder

SIZES = {"img_size": "image_size", "patch_size": "patch_size", "dynamic_img_size": "dynamic_image_size"}
"""timm's argument -> that of `TimmEncoder` and `ViTEncoder`."""
OF_VIT = {"embed_dim": "dim", "depth": "depth", "num_heads": "heads"}
"""Likewise, of `ViTEncoder` alone."""
POOLING = {"avg": "mean", "token": "token"}
CLOSE = 1e-5
"""Largest difference of a feature, as a part of the largest one."""


def encoder_like(architecture: str, model: Any) -> TimmModel:
    """Builds the encoder that gives a model's features, with its weights.

    Args:
        architecture: the model's name in timm's list.
        model: without a classifier, in timm's own form.

    Raises:
        ValueError: no encoder of this package gives the same features.
    """
    given = {name: value for name, value in getattr(model, "pretrained_model_args", {}).items() if value is not None}
    sizes: dict[str, Any] = {ours: given[name] for name, ours in SIZES.items() if given.get(name)}
    sizes["channels"] = int(given.get("in_chans", getattr(model, "in_chans", 3)))
    if given.keys() & OF_VIT.keys() or given.get("fc_norm") is False:
        widths = {ours: given[name] for name, ours in OF_VIT.items() if name in given}
        pooling: Any = POOLING.get(str(given.get("global_pool", "token")), "token")
        encoder: TimmModel = ViTEncoder(architecture, pooling=pooling, position="learned", **widths, **sizes)
    else:
        encoder = TimmEncoder(architecture, **sizes)
    state = model.state_dict()
    if hasattr(encoder.model, "fc_norm") and "fc_norm.weight" in encoder.model.state_dict() and "norm.weight" in state:
        state = {f"fc_{name}" if name.startswith("norm.") else name: tensor for name, tensor in state.items()}
    encoder.model.load_state_dict(state)
    _check(architecture, encoder.eval(), model.eval(), given)
    return encoder


@torch.no_grad()
def _check(architecture: str, encoder: TimmModel, model: Any, given: dict[str, Any]) -> None:
    from timm.data.config import resolve_data_config

    size = resolve_data_config({}, pretrained_cfg=model.pretrained_cfg)["input_size"]
    x = torch.randn(2, *size, generator=torch.Generator().manual_seed(0))
    there, here = model(x), encoder(View(x))
    if there.shape != here.shape or bool((there - here).abs().max() > CLOSE * there.abs().max()):
        listed = ", ".join(f"{name}={value}" for name, value in given.items())
        raise ValueError(f"its {architecture} with {listed} gives features that no encoder here gives")
