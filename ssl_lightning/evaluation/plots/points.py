"""What a report needs to show a map under the mouse: points, names, classes, neighbours, and the
samples as tiles of one picture, or as lines."""

from __future__ import annotations

import base64
import io
import json
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import numpy as np
import torch
from PIL import Image
from torch import Tensor

from ...data.figure import as_image
from ...data.files.atomic import write_text
from ..label_free import nearest
from .embedding import Drawn
from .neighbours import Shown

TILE = 40
"""The longest side of a tile, in pixels."""
ACROSS = 32
"""Tiles in a row of the picture."""
LETTERS = 160
"""Letters of a name, and of a line."""


def write_points(
    path: Path,
    drawn: Drawn,
    names: Sequence[str],
    shown: Shown,
    labels: Tensor | None = None,
    class_names: Sequence[str] | None = None,
) -> None:
    """Writes a map as JSON.

    Args:
        path: of the file.
        drawn: the map, of M samples.
        names: [M] of the samples; empty: not known.
        shown: [M] the samples as thumbnails, or as lines of text; empty: not known.
        labels: of all samples that the M were chosen from; None: there are none.
        class_names: name of each class.
    """
    value: dict[str, Any] = {
        "names": [name[:LETTERS] for name in names],
        "maps": [
            {"title": title, "how": how, "points": _scaled(points), "neighbours": _neighbours(features)}
            for title, (points, how, features) in drawn.maps.items()
        ],
    }
    if labels is not None:
        value["labels"] = (classes := labels[torch.from_numpy(drawn.kept)].tolist())
        value["classes"] = {each: _name(each, class_names) for each in sorted(set(classes))}
    if pictures := [as_image(each) for each in shown if isinstance(each, Tensor)]:
        value["tiles"] = _tiles(pictures)
    else:
        value["lines"] = [str(each)[:LETTERS] for each in shown]
    write_text(path, json.dumps(value, ensure_ascii=False, separators=(",", ":")))


def _scaled(points: Any) -> list[list[float]]:
    """Points [M, 2] from 0 to 1, of which y grows upwards."""
    low, high = points.min(axis=0), points.max(axis=0)
    return np.round((points - low) / np.maximum(high - low, 1e-9), 4).tolist()


def _neighbours(features: Tensor) -> list[list[int]]:
    if len(features) < 2:
        return [[]] * len(features)
    return nearest(features, torch.arange(len(features)))[0].tolist()


def _name(label: int, names: Sequence[str] | None) -> str:
    return str(names[label])[:LETTERS] if names is not None and 0 <= label < len(names) else str(label)


def _tiles(images: Sequence[Any]) -> dict[str, Any]:
    """Pictures [h, w] or [h, w, 3] in [0, 1] as one, tile by tile, in rows of `ACROSS`."""
    height, width = images[0].shape[:2]
    scale = min(1.0, TILE / max(height, width))
    height, width = max(1, round(height * scale)), max(1, round(width * scale))
    colour = any(image.ndim == 3 for image in images)
    sheet = Image.new("RGB" if colour else "L", (ACROSS * width, -(-len(images) // ACROSS) * height), "white")
    for number, image in enumerate(images):
        tile = Image.fromarray((255 * np.clip(image, 0, 1)).round().astype(np.uint8))
        tile = tile.resize((width, height), Image.Resampling.BOX) if tile.size != (width, height) else tile
        sheet.paste(tile, (number % ACROSS * width, number // ACROSS * height))
    file = io.BytesIO()
    sheet.save(file, "JPEG", quality=85, subsampling=0)
    return {"jpeg": base64.b64encode(file.getvalue()).decode(), "width": width, "height": height, "across": ACROSS}
