"""From texts to the view that an encoder reads."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path

import torch
from pytorch_lightning.utilities import rank_zero_warn

from ...nn.packing import Ragged, pack
from ...types import View
from .judged import guarded
from .settings import ROW_LENGTH, TEXT, artifact_of, row_length_in
from .tokenizer import load_tokenizer, ready, vocabulary_of


class Reader:
    """Turns texts into a view, by the tokenizer of a run: `encoder(reader(["a text", "another"]))`
    gives features [2, dim].

    Args:
        path: the run folder, another folder that contains a `tokenizer.json`, this file, or a
            checkpoint.
        row_length: tokens in a row; longer texts are truncated, and a warning counts them. None:
            that of the run, by its `text.json`; without one 128.

    Raises:
        FileNotFoundError, ValueError: there is no such file, or it is not a tokenizer.
    """

    def __init__(self, path: str | Path, row_length: int | None = None) -> None:
        tokenizer = load_tokenizer(str(path))
        if row_length is None:
            text = artifact_of(Path(path).expanduser(), TEXT)
            row_length = ROW_LENGTH if text is None else row_length_in(text)
        self.vocabulary, self.tokenizer, self.row_length = vocabulary_of(tokenizer), ready(tokenizer), row_length

    def __call__(self, texts: Sequence[str]) -> View:
        """Turns S texts into token ids [B, N], packed."""
        if isinstance(texts, str):
            raise TypeError("This is one text, not a list of them; give [text].")
        cls, sep = self.vocabulary.cls, self.vocabulary.sep
        encodings = guarded(self.tokenizer.encode_batch, list(texts), add_special_tokens=False)
        if long := sum(len(encoding.ids) > self.row_length - 2 for encoding in encodings):
            rank_zero_warn(
                f"{long:,} of {len(encodings):,} texts are longer than row_length={self.row_length} tokens and cut off."
            )
        samples = [[cls, *encoding.ids[: self.row_length - 2], sep] for encoding in encodings]
        ids = torch.tensor([id for sample in samples for id in sample], dtype=torch.int64)
        return pack(Ragged(ids, torch.tensor([len(sample) for sample in samples], dtype=torch.int64)), self.row_length)
