"""`ssl-lightning import`: a checkpoint of another library to an encoder's file."""

from __future__ import annotations

import argparse
import json
from pathlib import Path

from ..exchange.foreign.imported_file import images_in_words, import_encoder
from ..exchange.foreign.importing import Choice, Images
from ..exchange.foreign.shapes import Wanted
from ..plugins.record import config_of
from .rows import print_rows

NAMED = ("name", "layers", "width", "heads", "pooling", "small_images", "padding", "activation", "pool", "patch_size")
"""Arguments of the encoder that are shown."""


def main(options: argparse.Namespace) -> int:
    """Imports what the command line says; see `verbs`."""
    max_pool = None if options.max_pool is None else options.max_pool == "yes"
    wanted = Wanted(options.architecture, options.pooling, options.heads, max_pool)
    images = Images(options.size, options.mean, options.std)
    file, folder = (Path(path).expanduser() for path in (options.file, options.to))
    imported = import_encoder(file, folder, Choice(options.format, options.network, wanted, images))
    arguments = config_of(imported.encoder)["init_args"]
    shown = ", ".join(f"{name}={arguments[name]!r}" for name in NAMED if arguments.get(name) is not None)
    facts = {
        "encoder": f"{type(imported.encoder).__name__}({shown})",
        "features": f"{imported.encoder.dim} values per image",
        "images": images_in_words(imported.images),
        **imported.facts,
        "written": str(folder / "encoder.safetensors"),
    }
    if options.json:
        print(json.dumps({**facts, "images": imported.images}))
    else:
        print_rows([{"fact": name, "value": value} for name, value in facts.items()])
    return 0
