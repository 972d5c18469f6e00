"""The file of a pretrained encoder: its weights as safetensors, its config in the header, and a
card beside it."""

from __future__ import annotations

import json
from collections.abc import Iterable, Mapping
from hashlib import sha256
from pathlib import Path
from typing import Any

import torch
from safetensors import SafetensorError, safe_open
from safetensors.torch import load_file, save_file

from ...data.files.atomic import atomic, write_text
from ...encoders.base import Encoder
from ...plugins.gate import read_json
from ...plugins.moved import renamed
from ...plugins.rebuild import rebuild_for
from ...plugins.record import config_of


def save_encoder(encoder: Encoder, path: str | Path, artifacts: Mapping[str, str] | None = None, **facts: str) -> None:
    """Writes an encoder's weights and, in the header, the config that `load_encoder` needs; the
    file is written whole or not at all.

    Args:
        encoder: the encoder to write.
        path: the file.
        artifacts: the contents of the text files, by name, that the encoder needs; they stand in
            the header too.
        facts: further entries of the header.
    """
    tensors = {name: tensor.detach().cpu().contiguous().clone() for name, tensor in encoder.state_dict().items()}
    needed = dict(sorted((artifacts or {}).items()))
    header = {"encoder": json.dumps(config_of(encoder)), "artifacts": json.dumps(list(needed)), **facts}
    if needed:
        header["files"] = json.dumps(needed)
    with atomic(path) as temporary:
        save_file(tensors, temporary, metadata=header)
        sort_header(temporary)


def sort_header(path: Path) -> None:
    """Sorts the entries of a safetensors file's header, which are written in an order that differs
    from process to process: equal encoders shall have equal files."""
    with path.open("r+b") as file:
        size = int.from_bytes(file.read(8), "little")
        header = json.loads(file.read(size))
        header["__metadata__"] = dict(sorted(header["__metadata__"].items()))
        text = json.dumps(header, separators=(",", ":"), ensure_ascii=False).encode()
        if len(text) <= size:
            file.seek(8)
            file.write(text.ljust(size))


def header_of(path: Path) -> dict[str, str]:
    """The entries of an encoder file's header.

    Raises:
        ValueError: the file is damaged.
    """
    try:
        with safe_open(path, framework="pt") as file:
            return file.metadata() or {}
    except SafetensorError as error:
        raise ValueError(f"{str(path)!r} is not a whole safetensors file: {error}.") from error


def artifact_names(path: Path) -> list[str] | None:
    """The names of the files that an encoder needs beside its own, from its header; None: the
    header does not list them.

    Raises:
        ValueError: the file is damaged.
    """
    text = header_of(path).get("artifacts")
    names = None if text is None else read_json(text, repr(str(path)))
    if names is not None and not (isinstance(names, list) and all(isinstance(name, str) for name in names)):
        raise ValueError(f"{str(path)!r} does not list its artifacts by their names.")
    return None if names is None else [name for name in names if Path(name).name == name]


def artifacts_in(path: Path) -> dict[str, str]:
    """The contents of the files that an encoder needs beside its own, from its header; empty: the
    header does not hold them.

    Raises:
        ValueError: the file is damaged.
    """
    try:
        files = json.loads(header_of(path).get("files", "{}"))
    except (ValueError, RecursionError) as error:
        raise ValueError(f"{str(path)!r} does not hold its artifacts as JSON: {error}.") from error
    if not isinstance(files, dict) or not all(isinstance(text, str) for text in files.values()):
        raise ValueError(f"{str(path)!r} does not hold its artifacts by their names.")
    return {name: text for name, text in files.items() if Path(name).name == name}


def read_encoder(path: Path, trust: Iterable[str] = ()) -> Encoder:
    """The encoder of a file, in eval mode on the CPU.

    Args:
        path: the file.
        trust: further packages that its config may name; see `record.rebuild`.

    Raises:
        ValueError: the file is damaged, was not written by `save_encoder`, or names a class that is
            not trusted.
    """
    text = header_of(path).get("encoder")
    try:
        tensors = load_file(path)
    except SafetensorError as error:
        raise ValueError(f"{str(path)!r} is not a whole safetensors file: {error}.") from error
    if text is None:
        raise ValueError(f"{str(path)!r} holds no encoder config; it was not written by ssl_lightning.")
    config = renamed(read_json(text, repr(str(path))))
    encoder: Encoder = rebuild_for(tensors, config, Encoder, "an encoder", trust, repr(str(path)))
    return encoder.eval()


def digest_of(encoder: Encoder) -> str:
    """A hash of an encoder's weights, by which vectors are known to be its."""
    digest = sha256()
    for name, tensor in sorted(encoder.state_dict().items()):
        digest.update(name.encode())
        digest.update(tensor.detach().cpu().contiguous().flatten().view(torch.uint8).numpy())
    return digest.hexdigest()[:32]


def write_card(path: str | Path, title: str, facts: dict[str, Any], table: str, lines: str) -> None:
    """Writes the encoder's card: a page in Markdown with its facts, its evaluation, and the lines
    of code that load it."""
    listed = "\n".join(f"| {name} | {value} |" for name, value in facts.items())
    write_text(
        path,
        f"# {title}\n\n| | |\n| --- | --- |\n{listed}\n\n## How good\n\n```\n{table}\n```\n\n## How to load"
        f" it\n\n```python\n{lines}\n```\n",
    )
