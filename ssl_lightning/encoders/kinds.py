"""The kinds of encoders, as the annotation of a method's argument `encoder` names them."""

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
"""The contracts by name, the narrowest first."""
EXAMPLES = {
    "TextEncoder": "TextTransformer",
    "WaveEncoder": "WaveTransformer",
    "SequenceEncoder": "FrameTransformer",
    "TokenEncoder": "ViTEncoder",
    "Encoder": "ConvEncoder",
}
"""An encoder of each kind that ships with the package."""
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


def check_encoder(method: type, encoder: object) -> None:
    """Refuses an encoder that is not of the kind which the constructor of a method class annotates.

    Raises:
        TypeError: the encoder is of another kind; the message names both, and one that fits.
    """
    kind = needed_encoder(method)
    if not isinstance(encoder, KINDS[kind]):
        raise TypeError(
            f"{method.__name__} needs an ssl_lightning.{kind}, such as {EXAMPLES[kind]}, got a"
            f" {type(encoder).__qualname__}."
        )
