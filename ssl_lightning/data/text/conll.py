"""Sentences with a tag for each word, from files of CoNLL's format, as tokens of a tokenizer."""

from __future__ import annotations

from collections.abc import Sequence
from hashlib import sha256
from pathlib import Path
from typing import Any, NamedTuple

import torch
from torch import Tensor

from ...nn.vocabulary import Vocabulary
from ...plugins.messages import printable
from ..tagged import Tagged
from .given import GivenDocuments
from .judged import guarded
from .tokenizer import ready, without_special

BREAK = "-DOCSTART-"
"""The word of a line between two documents, which is of no sentence."""
OVERLAP = 4
"""Pieces of a long sentence share one in so many of their tokens with the one before."""


class Sentence(NamedTuple):
    """The words of a sentence and their tags."""

    words: list[str]
    tags: list[str]


def read_conll(path: Path) -> list[Sentence]:
    """Reads a file with one word a line, its tag in the last column, between tabs or white space,
    and a blank line between two sentences.

    Raises:
        OSError: the file cannot be read.
        ValueError: it is no UTF-8, a line has another number of columns, or there is no sentence.
    """
    try:
        lines = path.read_text(encoding="utf-8-sig").splitlines()
    except UnicodeDecodeError as error:
        raise ValueError(f"{printable(path)} is not a text in UTF-8: {error.reason}; convert it.") from error
    sentences = [Sentence([], [])]
    columns = 0
    for number, line in enumerate(lines, start=1):
        cells = line.rstrip().split("\t") if "\t" in line else line.split()
        if not line.strip() or cells[0] == BREAK:
            sentences.append(Sentence([], []))
            continue
        columns = columns or len(cells)
        if len(cells) < 2 or len(cells) != columns or not (cells[0].strip() and cells[-1].strip()):
            raise ValueError(
                f"{printable(path)}, line {number}: {printable(line[:40])!r} is not a word and its tag in"
                f" {max(2, columns)} columns, as the first is; write one word a line."
            )
        sentences[-1].words.append(cells[0].strip())
        sentences[-1].tags.append(cells[-1].strip())
    if not (sentences := [each for each in sentences if each.words]):
        raise ValueError(f"{printable(path)} holds no sentence; write one word a line, and its tag behind it.")
    return sentences


def tagged(
    sentences: Sequence[Sentence], names: Sequence[str], tokenizer: Any, vocabulary: Vocabulary, row_length: int
) -> Tagged:
    """Turns sentences into pieces of tokens that an encoder reads. The words of a sentence are
    joined by spaces, as a text has them; a word's token is the first that has one of its
    characters. A sentence that is longer than a row becomes pieces that overlap by a quarter, and
    each word's token is taken where it is farthest from the ends.

    Args:
        sentences: words and tags.
        names: of all tags, whose numbers are used.
        tokenizer: of the run.
        vocabulary: of the tokenizer.
        row_length: tokens in a row, with the first and the last.
    """
    allowed = without_special(tokenizer).numpy()
    texts = [" ".join(each.words) for each in sentences]
    encoded = guarded(ready(tokenizer).encode_batch, texts, add_special_tokens=False)
    room = row_length - 2
    pieces: list[Any] = []
    places: list[Tensor] = []
    long = 0
    for number, (sentence, each) in enumerate(zip(sentences, encoded, strict=True)):
        firsts = _first_tokens(sentence.words, each.offsets)
        starts = _starts(len(each.ids), room)
        long += len(starts) > 1
        rows: list[list[list[int]]] = [[] for _ in starts]
        for word, token in enumerate(firsts):
            if token is not None:
                piece = _deepest(token, starts, len(each.ids), room)
                rows[piece].append([1 + token - starts[piece], number, word])  # behind the first token of a row
        for start, row in zip(starts, rows, strict=True):
            pieces.append(allowed[each.ids[start : start + room]])
            places.append(torch.tensor(row, dtype=torch.int64).reshape(-1, 3))
    source = GivenDocuments([""] * len(pieces), pieces, row_length, vocabulary)
    source.fingerprint = sha256("\n".join(texts).encode()).hexdigest()
    of_names = {name: number for number, name in enumerate(names)}
    tags = [torch.tensor([of_names[tag] for tag in each.tags]) for each in sentences]
    remarks = (
        f"{long:,} of {len(sentences):,} sentences are longer than a row of {row_length:,} tokens, and were read in"
        " overlapping pieces.",
    )
    return Tagged(source, places, tags, tuple(names), remarks * (long > 0))


def _first_tokens(words: Sequence[str], offsets: Sequence[tuple[int, int]]) -> list[int | None]:
    """The number of the first token that has a character of each word of a text joined by spaces;
    None where none has."""
    firsts: list[int | None] = []
    token, begin = 0, 0
    for word in words:
        end = begin + len(word)
        while token < len(offsets) and offsets[token][1] <= begin:
            token += 1
        there = token < len(offsets) and max(offsets[token][0], begin) < min(offsets[token][1], end)
        firsts.append(token if there else None)
        begin = end + 1
    return firsts


def _starts(count: int, room: int) -> list[int]:
    """Where the pieces of a sentence of so many tokens begin."""
    if count <= room:
        return [0]
    last = count - room
    return [*range(0, last, max(1, room - room // OVERLAP)), last]


def _deepest(token: int, starts: Sequence[int], count: int, room: int) -> int:
    """The piece in which a token is farthest from a cut."""

    def depth(piece: int) -> int:
        start = starts[piece]
        end = min(start + room, count)
        if not start <= token < end:
            return -1
        before = count if start == 0 else token - start
        after = count if end == count else end - 1 - token
        return min(before, after)

    return max(range(len(starts)), key=depth)
