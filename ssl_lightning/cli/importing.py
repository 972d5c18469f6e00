"""`ssl-lightning import`: a checkpoint of another library to an encoder's file."""

from __future__ import annotations

import argparse
import json
from pathlib import Path

from ..exchange.foreign.shapes import Wanted
from ..exchange.importing import Images, import_encoder
from ..plugins.record import config_of
from .rows import print_rows


def main(options: argparse.Namespace) -> int:
    """Imports what the command line says; see `verbs`."""
    wanted = Wanted(
        options.architecture,
        options.pooling,
        options.heads,
        None if options.max_pool is None else options.max_pool == "yes",
    )
    imported = import_encoder(
        Path(options.file).expanduser(),
        Path(options.to).expanduser(),
        format=options.format,
        network=options.network,
        wanted=wanted,
        images=Images(options.image_size, options.mean, options.std),
    )
    facts = {
        "encoder": type(imported.encoder).__name__,
        **{name: str(value) for name, value in config_of(imported.encoder)["init_args"].items() if name in NAMED},
        "features": str(imported.encoder.dim),
        "images": json.dumps(imported.images),
        **imported.facts,
        "written": str(Path(options.to) / "encoder.safetensors"),
    }
    if options.json:
        print(json.dumps({**facts, "images": imported.images}))
    else:
        print_rows([{"": name, "value": value} for name, value in facts.items()])
    return 0


NAMED = ("name", "layers", "width", "heads", "pooling", "small_images", "padding", "pool")
"""Arguments of the encoder that are shown."""
