"""What is kept between runs: where, and trained tokenizers."""

from __future__ import annotations

import json
import os
import tempfile
from collections.abc import Iterator
from contextlib import contextmanager
from hashlib import sha256
from pathlib import Path
from typing import Any

from tokenizers import Tokenizer

from ..files.cache import default_folder
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


@contextmanager
def writing(folder: Path) -> Iterator[None]:
    """Says which folder cannot be written, and how to name another."""
    try:
        yield
    except OSError as error:
        reason = error.strerror or str(error)
        raise type(error)(
            f"The cache folder {folder} cannot be written: {reason}. Name another one by the environment variable SSL_LIGHTNING_CACHE."
        ) from error


def key_of(*values: Any) -> str:
    """A hash of plain values, for the name of a file."""
    return sha256(json.dumps(values).encode()).hexdigest()[:32]
