"""From texts to the view that an encoder reads."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path

import torch

from ...nn.packing import Ragged, pack
from ...types import View
from .judged import guarded
from .tokenizer import load_tokenizer, ready, vocabulary_of

ROW_LENGTH = 128


class Reader:
    """Turns texts into a view, by the tokenizer of a run: `encoder(reader(["a text", "another"]))`
    gives features [2, dim].

    Args:
        path: the run folder, another folder that contains a `tokenizer.json`, or this file.
        row_length: tokens in a row; longer texts are truncated.

    Raises:
        FileNotFoundError, ValueError: there is no such file, or it is not a tokenizer.
    """

    def __init__(self, path: str | Path, row_length: int = ROW_LENGTH) -> None:
        tokenizer = load_tokenizer(str(path))
        self.vocabulary, self.tokenizer, self.row_length = vocabulary_of(tokenizer), ready(tokenizer), row_length

    def __call__(self, texts: Sequence[str]) -> View:
        """Turns S texts into token ids [B, N], packed."""
        if isinstance(texts, str):
            raise TypeError("This is one text, not a list of them; give [text].")
        cls, sep = self.vocabulary.cls, self.vocabulary.sep
        encodings = guarded(self.tokenizer.encode_batch, list(texts), add_special_tokens=False)
        samples = [[cls, *encoding.ids[: self.row_length - 2], sep] for encoding in encodings]
        ids = torch.tensor([id for sample in samples for id in sample], dtype=torch.int64)
        return pack(Ragged(ids, torch.tensor([len(sample) for sample in samples], dtype=torch.int64)), self.row_length)
