"""The tensors of BERT here, and their counterparts in Hugging Face transformers."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass

from ..nn.transformer import NormPlace

Names = dict[str, tuple[str, ...]]
"""Tensor here -> those of transformers, whose concatenation along the rows it is. `#` is the index
of a block, `*` is `weight` and `bias`."""

ENCODER: Names = {
    "encoder.words.weight": ("embeddings.word_embeddings.weight",),
    "encoder.places.weight": ("embeddings.position_embeddings.weight",),
    "encoder.norm.*": ("embeddings.LayerNorm.*",),
    "encoder.trunk.blocks.#.qkv.*": tuple(
        f"encoder.layer.#.attention.self.{part}.*" for part in ("query", "key", "value")
    ),
    "encoder.trunk.blocks.#.projection.*": ("encoder.layer.#.attention.output.dense.*",),
    "encoder.trunk.blocks.#.mlp.0.*": ("encoder.layer.#.intermediate.dense.*",),
    "encoder.trunk.blocks.#.mlp.2.*": ("encoder.layer.#.output.dense.*",),
}
TOKEN_TYPES = "embeddings.token_type_embeddings.weight"


@dataclass(frozen=True)
class Layout:
    """How transformers stores a BERT.

    Args:
        norm: of `TextTransformer`.
        model_type: transformers' name for it.
        base: beginning of the names of the encoder's tensors.
        norms: those of the encoder, beside `ENCODER`.
        head: the prediction head's tensors.
        decoder: the projection onto the vocabulary, tied to the table of tokens and to the bias.
        after_padding: whether positions are counted from the id of the padding token on.
    """

    norm: NormPlace
    model_type: str
    base: str
    norms: Names
    head: Names
    decoder: str
    after_padding: bool

    def pairs(self, depth: int) -> Iterator[tuple[str, tuple[str, ...]]]:
        """Yields the name of every tensor of a model of `depth` blocks, and the names of its
        counterparts in transformers."""
        encoder = {
            name: tuple(f"{self.base}.{part}" for part in parts) for name, parts in (ENCODER | self.norms).items()
        }
        for names in ((name, *parts) for name, parts in (encoder | self.head).items()):
            for block in range(depth) if "#" in names[0] else range(1):
                for kind in ("weight", "bias") if "*" in names[0] else ("",):
                    name, *parts = (each.replace("#", str(block)).replace("*", kind) for each in names)
                    yield name, tuple(parts)


LAYOUTS: dict[NormPlace, Layout] = {
    "post": Layout(
        norm="post",
        model_type="bert",
        base="bert",
        norms={
            "encoder.trunk.blocks.#.norm1.*": ("encoder.layer.#.attention.output.LayerNorm.*",),
            "encoder.trunk.blocks.#.norm2.*": ("encoder.layer.#.output.LayerNorm.*",),
        },
        head={
            "head.0.*": ("cls.predictions.transform.dense.*",),
            "head.2.*": ("cls.predictions.transform.LayerNorm.*",),
            "bias": ("cls.predictions.bias",),
        },
        decoder="cls.predictions.decoder",
        after_padding=False,
    ),
    "pre": Layout(
        norm="pre",
        model_type="roberta-prelayernorm",
        base="roberta_prelayernorm",
        norms={
            "encoder.trunk.blocks.#.norm1.*": ("encoder.layer.#.attention.LayerNorm.*",),
            "encoder.trunk.blocks.#.norm2.*": ("encoder.layer.#.intermediate.LayerNorm.*",),
            "encoder.trunk.norm.*": ("LayerNorm.*",),
        },
        head={"head.0.*": ("lm_head.dense.*",), "head.2.*": ("lm_head.layer_norm.*",), "bias": ("lm_head.bias",)},
        decoder="lm_head.decoder",
        after_padding=True,
    ),
}
