"""From texts to the view that an encoder takes."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path

import torch

from ...nn.packing import Ragged, pack
from ...types import View
from .tokenizer import load_tokenizer, ready, vocabulary_of

ROW_LENGTH = 128


class Reader:
    """Turns texts into a view, by the tokenizer of a run: `encoder(reader(["a text", "another"]))`
    gives features [2, dim].

    Args:
        path: the run folder, another folder that holds a `tokenizer.json`, or this file.
        row_length: tokens in a row; longer texts are cut off.

    Raises:
        FileNotFoundError, ValueError: there is no tokenizer, or it is none.
    """

    def __init__(self, path: str | Path, row_length: int = ROW_LENGTH) -> None:
        tokenizer = load_tokenizer(str(path))
        self.vocabulary, self.tokenizer, self.row_length = vocabulary_of(tokenizer), ready(tokenizer), row_length

    def __call__(self, texts: Sequence[str]) -> View:
        """S texts -> token ids [B, N], packed."""
        if isinstance(texts, str):
            raise TypeError("Give a list of texts; this is one: [text].")
        cls, sep = self.vocabulary.cls, self.vocabulary.sep
        encodings = self.tokenizer.encode_batch(list(texts), add_special_tokens=False)
        samples = [[cls, *encoding.ids[: self.row_length - 2], sep] for encoding in encodings]
        ids = torch.tensor([id for sample in samples for id in sample], dtype=torch.int64)
        return pack(Ragged(ids, torch.tensor([len(sample) for sample in samples], dtype=torch.int64)), self.row_length)
