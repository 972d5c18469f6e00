"""Writes the encoder of another library as the file, with its card, that every command takes."""

from __future__ import annotations

from collections.abc import Mapping
from pathlib import Path
from typing import Any

from ...data.files.atomic import atomic_folder
from ...data.images.datamodule import ImageDataModule
from ...plugins.messages import printable
from ...plugins.record import class_path
from ...run.checkpoints.encoder_file import save_encoder, write_card
from .importing import NOTHING, Choice, Imported, read_foreign


def import_encoder(file: str | Path, folder: str | Path, choice: Choice = NOTHING) -> Imported:
    """Writes `encoder.safetensors` and its card, both or none.

    Args:
        file: the checkpoint of another library.
        folder: the folder to write; it must not exist yet, or be empty.
        choice: what the user says about the file.

    Raises:
        FileNotFoundError, ValueError: as in `read_foreign`.
        FileExistsError: the folder holds something.
    """
    target = Path(folder)
    if target.exists() and (not target.is_dir() or any(target.iterdir())):
        raise FileExistsError(f"{str(target)!r} exists already; give a folder that does not exist yet, or is empty.")
    imported = read_foreign(Path(file), choice)
    with atomic_folder(target) as temporary:
        _write(imported, temporary, target)
    return imported


def images_in_words(arguments: Mapping[str, Any]) -> str:
    """How images are prepared by data with these arguments."""
    recipe = arguments["augmentation"]
    return f"{arguments['image_size']} pixels, mean {recipe['mean']}, standard deviation {recipe['std']}"


def _write(imported: Imported, folder: Path, target: Path) -> None:
    """Writes into a folder that will be called `target`."""
    encoder, images = imported.encoder, imported.images
    artifacts = ImageDataModule.of_items()(**images).artifacts()
    facts = {name.replace(" ", "_"): value for name, value in imported.facts.items()}
    reads = class_path(ImageDataModule)
    save_encoder(encoder, folder / "encoder.safetensors", artifacts, reads=reads, **facts)
    shown = {
        "encoder": type(encoder).__name__,
        "features": f"{encoder.dim} values per sample",
        **({"pooling": pooling} if isinstance(pooling := getattr(encoder, "pooling", None), str) else {}),
        "images": images_in_words(images),
        **imported.facts,
    }
    lines = (
        f'from ssl_lightning import Reader\nread = Reader("{printable(target)}")\n'
        f"features = read({ImageDataModule.example_items})  # [2, {encoder.dim}]"
    )
    write_card(folder / "encoder.md", f"{printable(target.name)}: encoder", shown, "Not evaluated here.", lines)
