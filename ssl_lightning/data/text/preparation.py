"""Texts are prepared as by a run, by tokenizers and torch alone: the lines for other libraries."""

from __future__ import annotations

from ...nn.vocabulary import Vocabulary
from ..preparation import Preparation
from .tokenizer import TOKENIZER

LINES = """import torch
from tokenizers import Tokenizer

tokenizer = Tokenizer.from_file("{{folder}}/{file}")
tokenizer.no_truncation()
tokenizer.no_padding()
ids = tokenizer.encode("a text", add_special_tokens=False).ids[:{room}]
x = torch.tensor([[{cls}, *ids, {sep}]])  # [1, N], at most {row}
mask = torch.ones_like(x)
"""
REMARK = (
    "Of a longer text, a run's features are the mean over windows that cover it; names of special tokens in a text"
    " ([MASK]) are unknown words to a run."
)
MADE_UP = (
    "a text",
    "another one, longer than the first.",
    "What is it?",
    "some words and more words, in 2 lines\nof text",
)


def preparation_of(row_length: int, vocabulary: Vocabulary, tokenizer: str) -> Preparation:
    """Returns the preparation of texts by the test transform of a `TextDataModule`.

    Args:
        row_length: tokens in a row.
        vocabulary: of the tokenizer.
        tokenizer: what its file holds.
    """
    ends = {"cls": vocabulary.cls, "sep": vocabulary.sep}
    lines = LINES.format(file=TOKENIZER, row=row_length, room=row_length - 2, **ends)
    return Preparation(lines, {"row_length": row_length, "tokens": len(vocabulary)}, REMARK, {TOKENIZER: tokenizer})
