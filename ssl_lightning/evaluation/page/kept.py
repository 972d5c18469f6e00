"""The maps that runs kept, checked: none of their files is trusted."""

from __future__ import annotations

import base64
import io
import json
import math
from pathlib import Path
from typing import NamedTuple

from PIL import Image

from ..comparison.recorded import PastRun
from .pictures import Room

MOST = 2_000
"""Points of a map; a run keeps 1,000."""


class Map(NamedTuple):
    """A map as a run kept it, checked: M samples by name, class, and line of text, where there are
    any; the views of it by title, with points [M, 2] and neighbours [M, K]; and the samples as
    tiles of a JPEG."""

    stem: str
    names: list[str]
    classes: list[str]
    lines: list[str]
    views: list[tuple[str, str, list[list[float]], list[list[int]]]]
    tiles: bytes
    size: tuple[int, int, int]


def read_map(path: Path) -> Map:
    """Reads a map.

    Raises:
        ValueError, KeyError, TypeError, AttributeError, OSError: it is damaged.
    """
    value = json.loads(path.read_text(encoding="utf-8"))
    views = [
        (
            str(each["title"]),
            str(each["how"]),
            [[float(x), float(y)] for x, y in each["points"]],
            [[int(k) for k in some] for some in each["neighbours"]],
        )
        for each in value["maps"]
    ]
    count = len(views[0][2]) if views else 0
    if not 0 < count <= MOST:
        raise ValueError(f"it has {count} points")
    names, lines = list(map(str, value.get("names") or [])), list(map(str, value.get("lines") or []))
    titles = {str(key): str(name) for key, name in (value.get("classes") or {}).items()}
    classes = [titles[str(label)] for label in value.get("labels") or []]
    tiles, size = b"", (1, 1, 1)
    if value.get("tiles"):
        width, height, across = (int(value["tiles"][key]) for key in ("width", "height", "across"))
        size = width, height, across
        tiles = base64.b64decode(value["tiles"]["jpeg"], validate=True)
        sheet = Image.open(io.BytesIO(tiles), formats=["JPEG"])
        if sheet.size != (size[0] * size[2], size[1] * -(-count // size[2])):
            raise ValueError("its tiles do not fit their picture")
    lengths = {len(each) for each in (names, classes, lines) if each}
    lengths |= {len(each) for view in views for each in view[2:]}
    sound = all(0 <= v <= 1 and math.isfinite(v) for view in views for point in view[2] for v in point)
    if lengths != {count} or not sound or any(not 0 <= k < count for view in views for each in view[3] for k in each):
        raise ValueError("its parts do not fit each other")
    return Map(path.stem, names, classes, lines, views, tiles, size)


def maps_of(name: str, run: PastRun, room: Room) -> list[Map]:
    """The maps that a run kept; lines for those that are damaged."""
    maps = []
    for path in sorted((run.folder / "plots").glob("*.json")):
        if path.stem.rpartition("-")[2] in ("embedding", "map"):
            try:
                each = read_map(path)
            except (ValueError, KeyError, TypeError, AttributeError, OSError) as error:
                room.left_out.append(f"{name}: {path.name} cannot be read ({error}).")
                continue
            if room.takes(each.tiles, f"{name}: tiles of {path.name}"):
                maps.append(each)
    return maps
