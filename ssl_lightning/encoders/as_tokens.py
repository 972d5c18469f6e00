"""A vision transformer of timm as a token encoder with the same weights."""

from __future__ import annotations

from .base import Encoder, TokenEncoder
from .timm import TimmEncoder
from .vit import ViTEncoder


def as_token_encoder(encoder: Encoder) -> TokenEncoder:
    """The encoder itself if it has tokens; else, of a vision transformer of timm, the encoder with
    the same weights whose patches a method can mask.

    Raises:
        ValueError: it cannot be split into tokens.
    """
    if isinstance(encoder, TokenEncoder):
        return encoder
    if not isinstance(encoder, TimmEncoder):
        raise ValueError(f"a {type(encoder).__name__} is not cut into tokens, which the method needs.")
    model, given = encoder.model, encoder.init_args
    kept = {name: given[name] for name in ("image_size", "patch_size", "dynamic_image_size") if given.get(name)}
    tokens = ViTEncoder(
        given["name"],
        channels=encoder.channels,
        pooling="token" if getattr(model, "global_pool", "") == "token" else "mean",
        position=given.get("position") or "learned",
        **kept,
    )
    tokens.load_state_dict(encoder.state_dict())
    return tokens.eval()
