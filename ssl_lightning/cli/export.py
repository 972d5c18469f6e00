"""`ssl-lightning export`: writes a trained method in the format of another library."""

from __future__ import annotations

import argparse
from pathlib import Path

from ..data.files.atomic import atomic_folder
from ..method import SSLMethod
from ..run.pretrained import artifacts_of, load


def main(options: argparse.Namespace) -> int:
    """`ssl-lightning export`."""
    print(export(options.run, options.to))
    return 0


def export(source: str | Path, folder: str | Path) -> str:
    """Writes a folder by the method's own `export`, whole or not at all.

    Args:
        source: a run folder, whose newest checkpoint is read, or a checkpoint file.
        folder: the folder to write; it must not exist yet, or be empty.

    Returns:
        The lines of code that load the exported model.

    Raises:
        FileNotFoundError: there is no such run.
        FileExistsError: the folder is not empty.
        ValueError: the method cannot be exported, or not with its encoder.
    """
    target = Path(folder)
    if target.exists() and (not target.is_dir() or any(target.iterdir())):
        raise FileExistsError(f"{str(target)!r} exists already; give a folder that does not exist yet, or is empty.")
    method = load(source)
    if type(method).export is SSLMethod.export:
        raise ValueError(
            f"{str(source)!r} is a run of {type(method).__name__}, which cannot be exported to another library. The"
            " encoder of any run is loaded from its folder, which holds encoder.safetensors:"
            " ssl_lightning.load_encoder(folder)."
        )
    with atomic_folder(target) as temporary:
        lines: str = method.export(temporary, artifacts_of(source))
    return lines.replace(str(temporary), str(target))
