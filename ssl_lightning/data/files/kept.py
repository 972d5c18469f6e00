"""The cache folder, and values that are computed once and kept there."""

from __future__ import annotations

import hashlib
import json
import os
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import torch
from platformdirs import user_cache_path

from .atomic import atomic
from .unwritable import Unwritable, explained


def kept(name: str, make: Callable[[], Any]) -> Any:
    """What the cache folder holds under a name; else what `make` returns, tensors and plain values,
    which is kept there from then on.

    Raises:
        Unwritable: the folder cannot be written.
    """
    path = default_folder() / f"{name}.pt"
    try:
        return torch.load(path, weights_only=True)
    except Exception:  # none, or a damaged one: torch raises many kinds
        value = make()
    with writing(path.parent), atomic(path) as temporary:
        torch.save(value, temporary)
    return value


def default_folder() -> Path:
    """Caches lie in `$SSL_LIGHTNING_CACHE`, or in `ssl_lightning` where this user's caches are:
    `~/.cache` on Linux."""
    if chosen := os.environ.get("SSL_LIGHTNING_CACHE"):
        return Path(chosen).expanduser()
    return user_cache_path("ssl_lightning", appauthor=False)


@contextmanager
def writing(folder: Path) -> Iterator[None]:
    """Says which cache folder cannot be written, and how to name another."""
    try:
        with explained(folder / "a file"):
            yield
    except Unwritable as error:
        raise Unwritable(
            f"The cache folder {folder} cannot be written: {error.reason}. Name another one by the environment variable"
            " SSL_LIGHTNING_CACHE.",
            error.reason,
        ) from error


def key_of(*values: Any) -> str:
    """A hash of plain values, for the name of a file."""
    return hashlib.sha256(json.dumps(values).encode()).hexdigest()[:32]
