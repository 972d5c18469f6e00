"""What a run's encoder needs besides its tokenizer to read texts as the run did: `text.json`."""

from __future__ import annotations

import json
from pathlib import Path

from ...plugins.archive import read
from ...plugins.gate import read_json

TEXT = "text.json"
"""The file with the datamodule's arguments that shape a view."""
ROW_LENGTH = 128
MOST_TOKENS = 1 << 20
"""Tokens in a row; a file that gives more is damaged."""


def artifact_of(path: Path, name: str) -> str | None:
    """Returns one of the files that travel with an encoder, None if it is not there: from the
    folder, from the one in which the file lies, or out of a checkpoint."""
    if path.suffix == ".ckpt":
        inside = read(path).get("artifacts")
        text = inside.get(name) if isinstance(inside, dict) else None
        return text if isinstance(text, str) else None
    file = (path if path.is_dir() else path.parent) / name
    return file.read_text(encoding="utf-8") if file.is_file() else None


def text_json(row_length: int) -> str:
    """Returns the contents of a `text.json`."""
    return json.dumps({"row_length": row_length})


def row_length_in(text: str) -> int:
    """Returns the row length in the text of a `text.json`.

    Raises:
        ValueError: it is not such a text.
    """
    given = read_json(text, TEXT)
    length = given.get("row_length") if isinstance(given, dict) else None
    if type(length) is not int or not 3 <= length <= MOST_TOKENS:
        raise ValueError(f"{TEXT} holds no row_length between 3 and {MOST_TOKENS:,}: {str(given)[:40]!r}.")
    return length
