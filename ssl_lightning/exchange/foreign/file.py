"""Reads a file of another library: its tensors and plain values. What it holds of classes becomes
`Opaque`, and no code of theirs is imported or run."""

from __future__ import annotations

import pickletools
import zipfile
from _compat_pickle import IMPORT_MAPPING, NAME_MAPPING
from collections.abc import Iterator
from pathlib import Path
from pickle import UnpicklingError
from typing import IO, Any

import torch
from safetensors import SafetensorError
from safetensors.torch import load_file

from ...plugins.archive import check_size, is_whole

PICKLES = 4
"""In a file from before torch 1.6: a magic number, a version, the system, and the checkpoint."""
MOST_NAMES = 1000
"""Classes and functions that a checkpoint may name."""


class Opaque:
    """Stands for an object of a class that a checkpoint names, such as its `argparse.Namespace`: it
    takes any state and keeps none of it."""

    def __new__(cls, *args: Any, **kwargs: Any) -> Opaque:
        return super().__new__(cls)

    def __setstate__(self, state: Any) -> None:
        pass


def read_file(path: Path) -> Any:
    """The contents of a checkpoint, or of a file of safetensors.

    torch's reader for weights only takes each name of a class or function from a list of its own;
    every name in the file that is not on it stands for `Opaque` here, so that nothing is imported.

    Raises:
        FileNotFoundError: there is no such file.
        ValueError: it is a folder, is damaged, or holds what cannot be read without running code.
    """
    if path.is_dir():
        inside = sorted(each.name for each in path.iterdir() if each.suffix in SUFFIXES)
        hint = f", such as its {inside[0]}" if inside else " with the weights"
        raise ValueError(f"{str(path)!r} is a folder; give the file{hint}.")
    if not path.is_file():
        raise FileNotFoundError(f"There is no file {str(path)!r}.")
    if path.suffix == ".safetensors":
        try:
            return load_file(path)
        except SafetensorError as error:
            raise ValueError(f"{str(path)!r} is not a whole safetensors file: {error}.") from error
    try:
        contents = _unpickled(path)
    except UnpicklingError as error:
        listed = ", ".join(named_classes(path)) or str(error).partition("\n")[0]
        raise ValueError(
            f"{str(path)!r} holds more than tensors and plain values, so it is not opened: {listed[:200]}."
        ) from error
    except Exception as error:  # a damaged file can make torch raise any error
        reason = " ".join(str(error).split())[:200] or type(error).__name__
        raise ValueError(f"{str(path)!r} is not a whole checkpoint of torch: {reason.rstrip('.')}.") from error
    check_size(contents, path)
    return contents


SUFFIXES = (".safetensors", ".pt", ".pth", ".bin", ".ckpt", ".tar", ".torch")
"""How the names of files with weights end."""


def named_classes(path: Path) -> list[str]:
    """The classes and functions that a checkpoint names, beside torch's; none is imported."""
    names = set(_names(path))
    return sorted(name for name in names if not name.startswith(("torch.", "collections.")))


def _unpickled(path: Path) -> Any:
    if zipfile.is_zipfile(path) and not is_whole(path):
        raise ValueError("it was truncated or damaged.")
    names = set(_names(path))
    if len(names) > MOST_NAMES:
        raise ValueError(f"it names {len(names):,} classes and functions, which no checkpoint does.")
    with torch.serialization.safe_globals([(Opaque, name) for name in names]):
        return torch.load(path, map_location="cpu", weights_only=True)


def _names(path: Path) -> Iterator[str]:
    if not zipfile.is_zipfile(path):
        with path.open("rb") as file:
            for _ in range(PICKLES):
                yield from _names_in(file)
        return
    with zipfile.ZipFile(path) as archive:
        for name in archive.namelist():
            if name.endswith("data.pkl"):
                with archive.open(name) as part:
                    yield from _names_in(part)


def _names_in(file: IO[bytes]) -> Iterator[str]:
    """The names in a pickle, of which no instruction is obeyed; those of Python 2 as Python 3 has
    them."""
    for instruction, argument, _ in pickletools.genops(file):
        if instruction.name == "GLOBAL":
            module, _, name = str(argument).partition(" ")
            module, name = NAME_MAPPING.get((module, name), (IMPORT_MAPPING.get(module, module), name))
            yield f"{module}.{name}"
