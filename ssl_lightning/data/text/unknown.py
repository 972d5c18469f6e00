"""How much of the texts a tokenizer does not know: all of it becomes one token, and cannot be
learnt."""

from __future__ import annotations

import math

from pytorch_lightning.utilities import rank_zero_warn
from tokenizers import Tokenizer

from .store import Store
from .tokenizer import unknown_of

TOLD = 0.01
"""A share of unknown tokens above this is told."""


def unknown_share(store: Store, tokenizer: Tokenizer) -> float:
    """Returns the share of unknown tokens in a store."""
    token = unknown_of(tokenizer)
    return 0.0 if token is None else store.share_of(token)


def check_unknown(store: Store, tokenizer: Tokenizer, name: str, most: float = 1.0) -> None:
    """Tells the share of unknown tokens above 1 %.

    Args:
        store: the tokens.
        tokenizer: whose they are.
        name: of the documents, for messages.
        most: the largest share that is accepted.

    Raises:
        ValueError: the share is larger.
    """
    share = unknown_share(store, tokenizer)
    said = f"{name}: the tokenizer does not know {share:.1%} of the tokens, which all become one."
    if share > most:
        raise ValueError(
            f"{said} Leave out --data.tokenizer and --data.tokenizer_kind, for one that knows every text, or set"
            f" --data.max_unknown {min(1.0, math.ceil(100 * share) / 100):g}."
        )
    if share > TOLD:
        rank_zero_warn(said)
