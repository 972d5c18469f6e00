"""Vision transformers as `ViTModel` of Hugging Face transformers."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import torch
from torch import Tensor

from ...data.files.atomic import write_text
from ...encoders.transformers_model import quiet
from ...encoders.vit_huggingface import to_vit_model
from ..inputs import Inputs
from ..subject import Subject
from .base import Format, Refused
from .images import parts_of

LINES = """from transformers import ViTModel

model = ViTModel.from_pretrained("{folder}", add_pooling_layer=False)
with torch.no_grad():
    tokens = model(pixel_values=x).last_hidden_state  # [1, 1 + patches, {dim}]
features = {pooled}  # [1, {dim}]
"""
POOLED = {"token": "tokens[:, 0]", "mean": "tokens[:, 1:].mean(dim=1)"}
BILINEAR = 2
"""Pillow's number of it."""


class VisionModel(Format):
    """`ViTModel`, whose tokens the reader pools, and the image processor that crops and
    standardises."""

    name, library = "huggingface", "Hugging Face transformers (ViTModel)"

    def check(self, subject: Subject) -> None:
        pooling_of(subject)
        model_of(subject)

    def write(self, subject: Subject, folder: Path) -> None:
        with quiet():
            model_of(subject).save_pretrained(folder)
        told = subject.told
        if "mean" in told:
            write_text(folder / "preprocessor_config.json", json.dumps(processor_of(told), indent=2))

    def features(self, subject: Subject, folder: Path, inputs: Inputs) -> Tensor:
        from transformers import ViTModel

        with quiet(), torch.no_grad():
            model: Any = ViTModel.from_pretrained(folder, add_pooling_layer=False)
            tokens: Tensor = model(pixel_values=inputs.x).last_hidden_state
        return tokens[:, 0] if pooling_of(subject) == "token" else tokens[:, 1:].mean(dim=1)

    def lines(self, subject: Subject, folder: str) -> str:
        return LINES.format(folder=folder, pooled=POOLED[pooling_of(subject)], dim=subject.encoder.dim)

    def facts(self, subject: Subject) -> dict[str, Any]:
        return {"pooling": POOLED[pooling_of(subject)]}


def model_of(subject: Subject) -> Any:
    """transformers' model like the encoder's.

    Raises:
        Refused: there is none.
    """
    try:
        return to_vit_model(parts_of(subject.encoder).model)
    except ValueError as error:
        raise Refused(str(error)) from error


def pooling_of(subject: Subject) -> str:
    """How a vector is made of the normed tokens: "mean" or "token".

    Raises:
        Refused: it is not made of them.
    """
    parts = parts_of(subject.encoder)
    if parts.pooling is not None:
        return parts.pooling
    pool, norm = getattr(parts.model, "global_pool", None), getattr(parts.model, "fc_norm", None)
    if norm is None or not hasattr(parts.model, "blocks"):
        raise Refused(f"holds a {type(parts.model).__name__}, which is not a plain vision transformer")
    if pool in ("token", "avg") and isinstance(norm, torch.nn.Identity):
        return "token" if pool == "token" else "mean"
    raise Refused(f"pools its tokens ({pool!r}) before the last norm, and transformers' ViTModel norms tokens")


def processor_of(told: dict[str, Any]) -> dict[str, Any]:
    """The `preprocessor_config.json` of the run's preparation: the largest central square, resized,
    in [0, 1], standardised."""
    side, many = told["size"], told["channels"]
    return {
        "image_processor_type": "CLIPImageProcessor",
        "do_convert_rgb": many == 3,
        "do_resize": True,
        "size": {"shortest_edge": side},
        "resample": BILINEAR,
        "do_center_crop": True,
        "crop_size": {"height": side, "width": side},
        "do_rescale": True,
        "rescale_factor": 1 / 255,
        "do_normalize": True,
        "image_mean": told["mean"] * (many if len(told["mean"]) == 1 else 1),
        "image_std": told["std"] * (many if len(told["std"]) == 1 else 1),
    }
