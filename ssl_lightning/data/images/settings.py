"""The arguments by which a run makes views of images; they are written into `image.json`."""

from __future__ import annotations

import json
from dataclasses import asdict
from typing import Any, Protocol

from ...augment.image import ImagePolicy
from ...plugins.gate import read_json

IMAGE = "image.json"
"""The file with these arguments of the datamodule, and its whole recipe of augmentation."""
ARGUMENTS = ("image_size", "channels", "window", "percentiles")
"""What it may hold of them besides the recipe."""


class Describes(Protocol):
    """The part of an `ImageDataModule` that is written."""

    image_size: int
    channels: int
    recipe: ImagePolicy


def image_json(data: Describes) -> str:
    """Returns the contents of an `image.json`."""
    reading = getattr(data, "reading", None)
    given = {"image_size": data.image_size, "channels": data.channels}
    given |= {name: getattr(reading, name) for name in ("window", "percentiles") if getattr(reading, name, None)}
    return json.dumps({**given, "augmentation": asdict(data.recipe)})


def arguments_in(text: str, policy: ImagePolicy) -> dict[str, Any]:
    """Returns the arguments of an `ImageDataModule` in the text of an `image.json`; what else it
    holds is left out.

    Args:
        text: of the file.
        policy: the recipe of the data that shall make such views, of which the changes are given.

    Raises:
        ValueError: it is not such a text.
    """
    given = read_json(text, IMAGE)
    recipe = given.get("augmentation", {}) if isinstance(given, dict) else None
    if not isinstance(recipe, dict):
        raise ValueError(f"{IMAGE} holds no arguments by name.")
    default = json.loads(json.dumps(asdict(policy)))
    changes = {name: recipe[name] for name in default if name in recipe and recipe[name] != default[name]}
    arguments = {name: given[name] for name in ARGUMENTS if name in given}
    return arguments | ({"augmentation": changes} if changes else {})
