"""`ssl-lightning inspect`: what a checkpoint, an encoder's file or a run folder holds, read without
building or importing anything that it names."""

from __future__ import annotations

import argparse
import json
from collections.abc import Iterator, Mapping
from pathlib import Path
from typing import Any

from safetensors import SafetensorError, safe_open
from torch import Tensor

from ..plugins.archive import read
from ..plugins.gate import may_build, read_json
from ..plugins.moved import renamed
from ..plugins.run_record import config_in
from ..run.checkpoints.checkpoint import newest_of
from ..run.checkpoints.encoder_file import artifact_names

SHOWN = 60
"""Characters of an argument's value."""


def main(options: argparse.Namespace) -> int:
    """`ssl-lightning inspect`."""
    print(inspect(options.file))
    return 0


def inspect(path: str | Path) -> str:
    """Describes a file, or a run folder with its newest checkpoint and its encoder, in lines.

    Raises:
        FileNotFoundError: there is no such file or folder.
        ValueError: the file is damaged, or was not written by this package.
    """
    path = Path(path)
    if not path.exists():
        raise FileNotFoundError(f"There is no checkpoint, encoder or run {str(path)!r}.")
    if path.suffix == ".safetensors":
        return "\n".join(_encoder(path))
    if not path.is_dir():
        return "\n".join(_checkpoint(path))
    parts = [_encoder(file) for file in (path / "encoder.safetensors",) if file.is_file()]
    if (path / "checkpoints").is_dir() or not parts:
        parts.insert(0, _checkpoint(newest_of(path)))
    return "\n\n".join("\n".join(part) for part in parts)


def _checkpoint(path: Path) -> Iterator[str]:
    checkpoint = read(path)
    config = config_in(checkpoint, path)
    yield f"{path}: a checkpoint of {_size(path)}"
    yield from _columns(
        {
            "written by": f"ssl_lightning {checkpoint.get('ssl_lightning', 'of an unknown version')}, Lightning"
            f" {checkpoint.get('pytorch-lightning_version', 'unknown')}",
            "done": f"{checkpoint.get('global_step')} steps, {checkpoint.get('epoch')} epochs before this one",
            "planned": _plain(checkpoint.get("resolved")),
            "weights": _weights(checkpoint.get("state_dict")),
            "resumes": "yes" if checkpoint.get("optimizer_states") and checkpoint.get("loops") else "no: weights only",
            "artifacts": ", ".join(map(str, checkpoint.get("artifacts") or {})) or "none",
        }
    )
    for key in ("model", "data"):
        yield from _object(key, config.get(key))


def _encoder(path: Path) -> Iterator[str]:
    try:
        with safe_open(path, framework="pt") as file:
            header = file.metadata() or {}
            shapes = [file.get_slice(name).get_shape() for name in file.keys()]  # noqa: SIM118  it is not a dict
    except SafetensorError as error:
        raise ValueError(f"{str(path)!r} is not a whole safetensors file: {error}.") from error
    if "encoder" not in header:
        raise ValueError(f"{str(path)!r} holds no encoder config; it was not written by ssl_lightning.")
    yield f"{path}: an encoder of {_size(path)}"
    facts = {name: _plain(value) for name, value in header.items() if name not in ("encoder", "artifacts", "files")}
    values = sum(_product(shape) for shape in shapes)
    artifacts = ", ".join(artifact_names(path) or []) or "none"
    yield from _columns({**facts, "weights": f"{len(shapes)} tensors, {values:,} values", "artifacts": artifacts})
    yield from _object("encoder", renamed(read_json(header["encoder"], repr(str(path)))))


def _object(key: str, config: Any, indent: str = "") -> Iterator[str]:
    """The lines of an object: its class, whether it would be built, and its arguments."""
    if not isinstance(config, Mapping) or "class_path" not in config:
        yield f"{indent}{key}: {_plain(config)}"
        return
    path = str(config["class_path"])
    verdict = "" if may_build(path) else "  <- not installed: it would be refused"
    yield f"{indent}{key}: {_plain(path)}{verdict}"
    for name, value in (config.get("init_args") or {}).items():
        yield from _object(name, value, f"{indent}  ")


def _columns(facts: Mapping[str, str]) -> Iterator[str]:
    for name, value in facts.items():
        yield f"  {name:<12} {value}"


def _plain(value: Any) -> str:
    """A value on one line, cut where it is long, without characters that a terminal would obey."""
    text = value if isinstance(value, str) else json.dumps(value, default=str)
    text = text.encode("unicode_escape").decode() if not text.isprintable() else text
    return text if len(text) <= SHOWN else f"{text[:SHOWN]}... ({len(text):,} characters)"


def _weights(state: Any) -> str:
    tensors = [value for value in state.values() if isinstance(value, Tensor)] if isinstance(state, dict) else []
    kinds = ", ".join(sorted({str(tensor.dtype).removeprefix("torch.") for tensor in tensors}))
    return f"{len(tensors)} tensors, {sum(tensor.numel() for tensor in tensors):,} values ({kinds or 'none'})"


def _size(path: Path) -> str:
    return f"{path.stat().st_size / 1e6:,.1f} MB"


def _product(shape: list[int]) -> int:
    product = 1
    for size in shape:
        product *= size
    return product
