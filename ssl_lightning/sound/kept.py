"""What is found of recordings once, and kept in the cache folder."""

from __future__ import annotations

import os
import tempfile
from collections.abc import Callable
from typing import Any

import torch

from ..files.cache import default_folder, writing
from ..sources import Source, Subset
from .source import SoundSource


def kept(name: str, make: Callable[[], Any]) -> Any:
    """What lies in the cache folder under a name; else what `make` gives, tensors and plain values, which lies there then.

    Raises:
        OSError: the folder cannot be written.
    """
    place = default_folder() / f"{name}.pt"
    try:
        return torch.load(place, weights_only=True)
    except Exception:  # none, or a damaged one: torch raises many kinds
        found = make()
    with writing(place.parent):
        place.parent.mkdir(parents=True, exist_ok=True)
        with tempfile.NamedTemporaryFile(dir=place.parent, prefix=place.stem, suffix=".tmp", delete=False) as file:
            torch.save(found, file)
        os.replace(file.name, place)
    return found


def recordings_of(source: Source) -> SoundSource:
    """The source itself, or the one that it is a part of.

    Raises:
        TypeError: it has no recordings.
    """
    while isinstance(source, Subset):
        source = source.source
    if not isinstance(source, SoundSource):
        raise TypeError(f"A datamodule for sound needs a SoundSource, got a {type(source).__name__}.")
    return source
