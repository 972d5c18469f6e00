"""What a method needs to know about a tokenizer's tokens."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any

import torch
from torch import Tensor

SPECIAL = ("[PAD]", "[UNK]", "[CLS]", "[SEP]", "[MASK]")
"""The first tokens of every tokenizer that is trained here, in the order of their ids."""


@dataclass(frozen=True)
class Vocabulary:
    """V tokens by id.

    Args:
        special: [V] bool, tokens that stand for no text, such as those below.
        continues: [V] bool, tokens that continue the word of the token before.
        pad, cls, sep, mask: ids of the padding, of the tokens that begin and end a sample, and of
            the one that hides a token.
    """

    special: Tensor
    continues: Tensor
    pad: int = 0
    cls: int = 2
    sep: int = 3
    mask: int = 4

    def __len__(self) -> int:
        return len(self.special)

    @classmethod
    def plain(cls, size: int) -> Vocabulary:
        """The vocabulary of a tokenizer that was trained here, in which every token is a word.

        Raises:
            ValueError: the size leaves no token besides the special ones.
        """
        if size <= len(SPECIAL):
            raise ValueError(
                f"A vocabulary of {size} tokens has none besides the special ones {', '.join(SPECIAL)}; give more."
            )
        return cls(torch.arange(size) < len(SPECIAL), torch.zeros(size, dtype=torch.bool))


def introduce(method: Any, vocabulary: Vocabulary) -> None:
    """Tells a method which tokens its data has, where it defines `read_vocabulary(vocabulary)`.

    Raises:
        ValueError: the encoder's `embedding` has fewer rows than there are tokens.
    """
    encoder = method.encoder
    known = getattr(getattr(encoder, "embedding", None), "num_embeddings", None)
    if known is not None and known < len(vocabulary):
        raise ValueError(
            f"{type(encoder).__name__} knows {known:,} tokens, the data's tokenizer has {len(vocabulary):,}:"
            f" set --model.encoder.vocab_size {len(vocabulary)}, or give the tokenizer that belongs to the encoder,"
            " --data.tokenizer."
        )
    if hasattr(method, "read_vocabulary"):
        method.read_vocabulary(vocabulary)
