"""The encoder as a run began: kept in the run folder, for the rows of the closing table that start
from it."""

from __future__ import annotations

import shutil
from pathlib import Path
from tempfile import TemporaryDirectory
from typing import Any

from ..data.files.atomic import write_bytes
from ..distributed import all_or_none, gather_objects, on_first, rank
from ..encoders.base import Encoder
from ..run.checkpoints.encoder_file import header_of, read_encoder, save_encoder
from ..run.folder.folder import folder_of

UNTRAINED = "untrained.safetensors"
PUBLISHED = "published"
"""The entry in the file's header where the run began from published weights, and not from noise."""


def keep_untrained(trainer: Any, pl_module: Any, folder: Path) -> None:
    """Writes the encoder when a run begins; a new run that resumes another run's checkpoint copies
    the file of that one."""
    path = folder / UNTRAINED
    if not trainer.ckpt_path:
        published = bool(pl_module.backbone.init_args.get("pretrained"))
        save_encoder(pl_module.backbone, path, **({PUBLISHED: "true"} if published else {}))
    elif not path.is_file() and (origin := folder_of(trainer.ckpt_path)) and (origin / UNTRAINED).is_file():
        shutil.copyfile(origin / UNTRAINED, path)


def untrained_of(folder: Path, pl_module: Any) -> tuple[Encoder, bool] | None:
    """The encoder with the weights that a run started from, and whether those were published ones
    (the encoder's argument `pretrained`); None: it was not saved.

    Every process must call it. Rank 0 looks for the file, and sends it to nodes that do not see the
    disk.
    """
    path, trusted = folder / UNTRAINED, [type(pl_module.backbone).__module__.partition(".")[0]]
    seen = gather_objects(path.is_file())
    if not seen[0]:
        return None
    content = b"" if all(seen) else on_first(path.read_bytes)

    def read() -> tuple[Encoder, bool]:
        if seen[rank()]:
            return read_encoder(path, trusted), PUBLISHED in header_of(path)
        with TemporaryDirectory() as elsewhere:
            copied = Path(elsewhere) / UNTRAINED
            write_bytes(copied, content)
            return read_encoder(copied, trusted), PUBLISHED in header_of(copied)

    return all_or_none(read)
