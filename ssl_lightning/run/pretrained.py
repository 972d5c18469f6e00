"""Loads pretrained encoders and methods from a run folder, a checkpoint or an encoder's file."""

from __future__ import annotations

from collections.abc import Iterable
from pathlib import Path
from typing import Any

import torch
from pytorch_lightning.utilities import rank_zero_warn

from ..encoders.base import Encoder
from ..encoders.published import is_published, published
from ..plugins.archive import is_whole, read
from ..plugins.rebuild import rebuild_for
from ..plugins.record import config_of
from ..plugins.run_record import config_in
from .checkpoints.checkpoint import find_newest, newest_of
from .checkpoints.encoder_file import artifact_names, artifacts_in, header_of, read_encoder
from .checkpoints.names import ours
from .training import Training


def load_encoder(path: str | Path, trust: Iterable[str] = ()) -> Encoder:
    """The encoder that a run learned, in eval mode on the CPU: `encoder(View(images))` gives
    features [S, dim].

    Args:
        path: a run folder, whose `encoder.safetensors` is read, or with a warning the newest
            checkpoint if the run has not ended, or has gone on since; an encoder's file
            (`.safetensors`); a checkpoint (`.ckpt`); or published weights by name,
            `timm:vit_small_patch16_224.dino`, `hf:google-bert/bert-base-uncased`, `timm:FOLDER`,
            `hf:FOLDER`.
        trust: further packages that the config inside may name; see `record.rebuild`.

    Raises:
        FileNotFoundError: none of these exists.
        ValueError: the file is damaged, was not written by a run, or names a class that is not
            trusted.
    """
    if is_published(path):
        return published(path).encoder
    path = Path(path)
    if not path.exists():
        raise FileNotFoundError(f"There is no run, checkpoint or encoder {str(path)!r}.")
    file = path / "encoder.safetensors" if path.is_dir() else path
    written = file.suffix == ".safetensors" and file.is_file()
    later = younger(file) if written and path.is_dir() else None
    if written and later is None:
        return read_encoder(file, trust)
    try:
        newest = later or newest_of(path)
    except FileNotFoundError as error:
        raise FileNotFoundError(
            f"There is no encoder.safetensors in {str(path)!r}, and no whole checkpoint; a run writes them."
        ) from error
    if (path / "checkpoints").is_dir():
        why = "an encoder.safetensors that is older" if written else "no encoder.safetensors"
        rank_zero_warn(
            f"{str(path)!r} holds {why}: its run has not ended. The encoder is that of its newest checkpoint,"
            f" {newest.name}."
        )
    encoder: Encoder = load(newest, trust).backbone
    return encoder


def younger(file: Path) -> Path | None:
    """The newest whole checkpoint beside an encoder's file, if it is younger: the run has gone on
    since."""
    name = header_of(file).get("checkpoint")
    checkpoints = ours(file.parent / "checkpoints") if name else []
    return next((path for path in checkpoints if path.name > str(name) and is_whole(path)), None)


def artifacts_of(path: str | Path) -> dict[str, str]:
    """The contents of the text files that the encoder of a run needs, by name
    (`SSLDataModule.artifacts`); empty if it needs none.

    These are those in the header of the encoder's file; else the files that it names; else those in
    the newest checkpoint; else every JSON file beside it except the run's summary and its ledger of
    the data.

    Args:
        path: as in `load_encoder`.
    """
    path = Path(path)
    folder = path if path.is_dir() else path.parent
    file = path if path.suffix == ".safetensors" else folder / "encoder.safetensors"
    if path.suffix != ".ckpt" and file.is_file() and (inside := artifacts_in(file)):
        return inside
    names = artifact_names(file) if path.suffix != ".ckpt" and file.is_file() else None
    if names is None or not all((folder / name).is_file() for name in names):
        checkpoint = path if path.suffix == ".ckpt" else find_newest(folder / "checkpoints")
        kept = read(checkpoint).get("artifacts") if checkpoint is not None else None
        if kept or path.suffix == ".ckpt":
            return dict(kept or {})
        names = [file.name for file in folder.glob("*.json") if file.name not in ("summary.json", "data.json")]
    return {name: (folder / name).read_text(encoding="utf-8") for name in names}


def load_pretrained(encoder: Encoder, path: str | Path) -> None:
    """Loads the weights that a run learned into an encoder.

    Raises:
        FileNotFoundError, ValueError: as in `load_encoder`; or the weights do not fit the
            encoder.
    """
    pretrained = load_encoder(path, trust=[type(encoder).__module__.partition(".")[0]])
    try:
        encoder.load_state_dict(pretrained.state_dict())
    except RuntimeError as error:
        raise ValueError(
            f"The weights in {str(path)!r} are those of {_described(pretrained)} and do not fit {_described(encoder)}."
            " Leave the encoder out, and it is built from the checkpoint's config."
        ) from error


def _described(encoder: Encoder) -> str:
    arguments = ", ".join(f"{name}={value!r}" for name, value in config_of(encoder)["init_args"].items())
    return f"{type(encoder).__name__}({arguments})"


def load(path: str | Path, trust: Iterable[str] = ()) -> Any:
    """The method (`SSLMethod`) of a checkpoint, rebuilt from the config inside, with its weights,
    in eval mode on the CPU.

    `load(path).backbone` is the pretrained encoder; `load(path)(view)` gives features [S, dim].

    Args:
        path: a checkpoint file, or a run folder, whose newest checkpoint is read.
        trust: further packages that the config may name; see `record.rebuild`.

    Raises:
        FileNotFoundError: there is no checkpoint.
        ValueError: the checkpoint is damaged, holds no config, or names a class that is not
            trusted.
    """
    path = newest_of(path)
    checkpoint = read(path)
    config = config_in(checkpoint, path)["model"]
    weights = checkpoint.get("state_dict")
    if not isinstance(weights, dict) or not all(isinstance(tensor, torch.Tensor) for tensor in weights.values()):
        raise ValueError(f"{str(path)!r} holds no weights (`state_dict`), so it is not a checkpoint.")
    return rebuild_for(weights, config, Training, "a method", trust, repr(str(path))).eval()
