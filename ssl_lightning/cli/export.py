"""`ssl-lightning export`: a trained method as another library takes it."""

from __future__ import annotations

from pathlib import Path

from ..data.files.atomic import atomic_folder
from ..method import SSLMethod
from ..run.pretrained import artifacts_of, load


def export(source: str | Path, folder: str | Path) -> str:
    """Writes a folder by the method's own `export`, whole or not at all.

    Args:
        source: a run folder, whose newest checkpoint is taken, or a checkpoint file.
        folder: where to; it is not there yet, or empty.

    Returns:
        how to load it.

    Raises:
        FileNotFoundError, FileExistsError: there is no such run, or the folder holds something.
        ValueError: the method cannot be exported, or not with its encoder.
    """
    target = Path(folder)
    if target.exists() and (not target.is_dir() or any(target.iterdir())):
        raise FileExistsError(f"{str(target)!r} is there already; give the name of a folder that is not.")
    method = load(source)
    if type(method).export is SSLMethod.export:
        raise ValueError(
            f"{str(source)!r} is a run of {type(method).__name__}, which has no other form to be exported to. The"
            " encoder of any run is loaded from its folder, which holds encoder.safetensors:"
            " ssl_lightning.load_encoder(folder)."
        )
    with atomic_folder(target) as temporary:
        lines: str = method.export(temporary, artifacts_of(source))
    return lines.replace(str(temporary), str(target))
