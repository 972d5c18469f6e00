"""Trained tokenizers, kept between runs."""

from __future__ import annotations

import os
import tempfile

from tokenizers import Tokenizer

from ..files.cache import default_folder, key_of, writing
from .documents import Corpus
from .tokenizer import Kind, train_tokenizer


def trained_tokenizer(corpus: Corpus, kind: Kind, vocab_size: int) -> Tokenizer:
    """The tokenizer that was trained on these documents before, or is trained now.

    Raises:
        OSError: the cache folder cannot be written.
        ValueError: see `train_tokenizer`.
    """
    place = default_folder() / f"tokenizer-{key_of(corpus.identity(), kind, vocab_size)}.json"
    try:
        return Tokenizer.from_file(str(place))
    except Exception:  # none, or a damaged one: the library raises no narrower kind
        tokenizer = train_tokenizer(corpus, kind, vocab_size)
    with writing(place.parent):
        place.parent.mkdir(parents=True, exist_ok=True)
        with tempfile.NamedTemporaryFile("w", encoding="utf-8", dir=place.parent, prefix=place.stem, suffix=".tmp", delete=False) as file:
            file.write(tokenizer.to_str())
        os.replace(file.name, place)
    return Tokenizer.from_file(str(place))  # of several processes that trained one, the last one's
