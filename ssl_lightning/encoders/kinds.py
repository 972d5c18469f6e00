"""The kinds of encoders, as the annotation of a method's argument names them."""

from __future__ import annotations

import re
from typing import Any

from ..plugins.arguments import parameters
from .base import Encoder, SequenceEncoder, TextEncoder, TokenEncoder, WaveEncoder

KINDS: dict[str, type[Any]] = {
    "TextEncoder": TextEncoder,
    "WaveEncoder": WaveEncoder,
    "SequenceEncoder": SequenceEncoder,
    "TokenEncoder": TokenEncoder,
    "Encoder": Encoder,
}
"""Of encoders, as a method's annotation names them."""
REMEDIES = {
    "TokenEncoder": "vit, with the name of a vision transformer of timm: --model.encoder vit_tiny_patch16_224",
    "TextEncoder": "text: --model.encoder text",
    "SequenceEncoder": "frames: --model.encoder frames",
    "WaveEncoder": "wav: --model.encoder wav",
}


def needed_encoder(method: type) -> str:
    """The kind of encoder that a method class asks for: a name of `KINDS`."""
    parameter = parameters(method).get("encoder")
    named = re.findall(r"\w+", str(parameter.annotation)) if parameter else []
    return next((kind for kind in KINDS if kind in named), "Encoder")
