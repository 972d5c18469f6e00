"""What is found of recordings once, and kept in the cache folder."""

from __future__ import annotations

import hashlib
import json
import os
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import torch

from .atomic import atomic


def kept(name: str, make: Callable[[], Any]) -> Any:
    """What lies in the cache folder under a name; else what `make` gives, tensors and plain values,
    which lies there then.

    Raises:
        OSError: the folder cannot be written.
    """
    place = default_folder() / f"{name}.pt"
    try:
        return torch.load(place, weights_only=True)
    except Exception:  # none, or a damaged one: torch raises many kinds
        found = make()
    with writing(place.parent), atomic(place) as temporary:
        torch.save(found, temporary)
    return found


def default_folder() -> Path:
    if own := os.environ.get("SSL_LIGHTNING_CACHE"):
        return Path(own).expanduser()
    return Path(os.environ.get("XDG_CACHE_HOME") or Path("~/.cache").expanduser()) / "ssl_lightning"


@contextmanager
def writing(folder: Path) -> Iterator[None]:
    """Says which folder cannot be written, and how to name another."""
    try:
        yield
    except OSError as error:
        reason = error.strerror or str(error)
        raise type(error)(
            f"The cache folder {folder} cannot be written: {reason}. Name another one by the environment variable"
            " SSL_LIGHTNING_CACHE."
        ) from error


def key_of(*values: Any) -> str:
    """A hash of plain values, for the name of a file."""
    return hashlib.sha256(json.dumps(values).encode()).hexdigest()[:32]
