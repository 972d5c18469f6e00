"""The encoder as a run began: kept in the run folder, for the rows of the closing table that start
from it. Where it began with weights that something had learned, an encoder with random ones stands
beside it."""

from __future__ import annotations

import shutil
from pathlib import Path
from tempfile import TemporaryDirectory
from typing import Any

import torch
from pytorch_lightning.utilities import rank_zero_warn

from ..augment.random import mix
from ..data.files.atomic import write_bytes
from ..distributed import all_or_none, gather_objects, on_first, rank
from ..encoders.base import Encoder, comes_pretrained, starts_taught
from ..encoders.published import is_published
from ..plugins.rebuild import rebuild
from ..plugins.record import config_of
from ..run.checkpoints.encoder_file import header_of, read_encoder, save_encoder
from ..run.folder.folder import folder_of
from ..run.pretrained import load_encoder
from ..run.start import Start
from .stages import Stages

UNTRAINED = "untrained.safetensors"
PUBLISHED = "published"
"""The entry in the file's header where the run began with weights that something had learned, and
not with random ones."""


def keep_untrained(trainer: Any, pl_module: Any, folder: Path) -> None:
    """Writes the encoder when a run begins; a new run that resumes another run's checkpoint copies
    the file of that one."""
    path = folder / UNTRAINED
    if not trainer.ckpt_path:
        published = starts_taught(pl_module.backbone)
        named = any(isinstance(each, Start) and each.weights for each in trainer.callbacks)
        if published and not named and not comes_pretrained(pl_module.backbone):
            rank_zero_warn(f"The run starts from weights that its config does not name; {str(path)!r} keeps them.")
        save_encoder(pl_module.backbone, path, None, **({PUBLISHED: "true"} if published else {}))
    elif not path.is_file() and (origin := folder_of(trainer.ckpt_path)) and (origin / UNTRAINED).is_file():
        shutil.copyfile(origin / UNTRAINED, path)


def began_with(folder: Path, pl_module: Any, seed: int, stages: Stages) -> dict[str, Encoder]:
    """The encoders that the pretrained one is compared with, by row of the closing table:
    "untrained", with random weights, and where the run started from others, "published", with
    those. A row that cannot be had is missing. Every process must call it.

    Args:
        folder: of the run.
        pl_module: its method.
        seed: of the random weights, where the run did not start from such.
        stages: keeps what failed.
    """
    began: dict[str, Encoder] = {}
    with stages.attempt(UNTRAINED):
        encoder, published = start_of(folder, pl_module)
        if encoder is not None:
            began["published" if published else "untrained"] = encoder
        if published:
            began["untrained"] = all_or_none(lambda: untaught(pl_module.backbone, seed))
    return began


def start_of(folder: Path, pl_module: Any) -> tuple[Encoder | None, bool]:
    """The encoder with the weights that a run started from, and whether something had learned them
    (`starts_taught`); None: it was not saved.

    Every process must call it. Rank 0 looks for the file, and sends it to nodes that do not see the
    disk.
    """
    path, trusted = folder / UNTRAINED, [type(pl_module.backbone).__module__.partition(".")[0]]
    seen = gather_objects(path.is_file())
    if not seen[0]:
        return None, False
    content = b"" if all(seen) else on_first(path.read_bytes)

    def read() -> tuple[Encoder, bool]:
        if seen[rank()]:
            return read_encoder(path, trusted), PUBLISHED in header_of(path)
        with TemporaryDirectory() as elsewhere:
            copied = Path(elsewhere) / UNTRAINED
            write_bytes(copied, content)
            return read_encoder(copied, trusted), PUBLISHED in header_of(copied)

    return all_or_none(read)


def began_beside(run: Path) -> dict[str, Encoder]:
    """The encoders that a run's is compared with once it has ended, by row: as it began, and an
    untrained one.

    Args:
        run: a run folder, a file in it, or the name of published weights.
    """
    path = (run if run.is_dir() else run.parent) / UNTRAINED
    if is_published(run) or not path.is_file():
        return {"untrained": untaught(load_encoder(run), seed=0)}
    encoder = read_encoder(path)
    if PUBLISHED not in header_of(path):
        return {"untrained": encoder}
    return {"published": encoder, "untrained": untaught(encoder, seed=0)}


def untaught(encoder: Encoder, seed: int) -> Encoder:
    """An encoder like this one, with random weights."""
    with torch.random.fork_rng(devices=[]):
        torch.default_generator.manual_seed(mix(seed))
        new: Encoder = rebuild(config_of(encoder), trust=[type(encoder).__module__.partition(".")[0]])
    return new
