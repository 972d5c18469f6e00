"""The pictures and sounds that a run left, inside the page, and what was too large for it."""

from __future__ import annotations

import io
import warnings
from collections.abc import Sequence
from pathlib import Path
from typing import NamedTuple

from PIL import Image

from ..comparison.recorded import PastRun
from .writing import mark, paragraph, section, text, uri

WIDEST = 1_200
"""Pixels to which a picture is reduced."""
LIGHT = 200_000
"""Bytes up to which a picture stays as it is."""
SOUND = 3_000_000
"""Bytes of the largest sound that is taken in."""
DRAWN = ("loss", "probes", "validation", "collapse", "closing", "health")
"""Pictures of what the page draws itself."""
TITLES = {
    "views": "Views that the method was shown",
    "pictures": "What the method makes of samples",
    "neighbours": "Nearest neighbours",
    "embedding": "Map of the features",
    "map": "Map of the features",
    "confusion": "Confusion matrix",
    "health": "Values that the method watches, unhealthy ones shaded",
}


class Room:
    """How much the page may still take in, in bytes, and what was left out."""

    def __init__(self, size: int = 40_000_000) -> None:
        self.size = size
        self.left_out: list[str] = []

    def takes(self, content: bytes, what: str) -> bool:
        """Whether there is room for a file; if not, a line says what was left out."""
        if len(content) > self.size:
            self.left_out.append(f"{what} was left out: the page is full.")
            return False
        self.size -= len(content)
        return True


class Shot(NamedTuple):
    """A picture as it is taken into the page."""

    content: bytes
    kind: str
    width: int
    height: int


def pictures(names: Sequence[str], runs: Sequence[PastRun], mapped: Sequence[bool], room: Room) -> str:
    """The section of pictures: run by run, all but those that the page draws itself.

    Args:
        names, runs: of the runs.
        mapped: whether the page draws the map of a run, so that its picture is not needed.
        room: what there is room for.
    """
    parts = []
    for number, (name, run, has_map) in enumerate(zip(names, runs, mapped, strict=True)):
        shown = [figure(path, name, room) for path in _files(run.folder / "plots", "*.png", has_map)]
        sounds = [_sound(path, name, room) for path in _files(run.folder / "plots", "*.wav", has_map)]
        heard = f'<div class="sounds">{"".join(sounds)}</div>' if any(sounds) else ""
        if any(shown) or heard:
            parts.append(f"<h3>{mark(number)}{text(name)}</h3>" + "".join(shown) + heard)
    return section("pictures", "Pictures", *parts)


def _files(folder: Path, pattern: str, has_map: bool) -> list[Path]:
    skipped = {*DRAWN, *(("embedding", "map", "neighbours") if has_map else ())}
    order = [*TITLES, "original"]
    found = [path for path in sorted(folder.glob(pattern)) if path.stem.rpartition("-")[2] not in skipped]
    return sorted(found, key=lambda path: order.index(path.stem) if path.stem in order else len(order))


def figure(path: Path, name: str, room: Room) -> str:
    """A picture of a run with its title; empty where it cannot be read."""
    shot = picture(path, name, room)
    if shot is None:
        return ""
    prefix, _, stem = path.stem.rpartition("-")
    title = TITLES.get(stem, path.stem) + (f": {prefix}" if prefix else "")
    size = f'width="{shot.width}" height="{shot.height}" style="--width:{shot.width}px"'
    image = f'<img src="{uri(shot.content, shot.kind)}" {size} alt="{text(title)} of {text(name)}">'
    return f'<figure class="shot"><figcaption>{text(title)}</figcaption>{image}</figure>'


def picture(path: Path, name: str, room: Room) -> Shot | None:
    """A picture of a run, reduced where it is large; None, and a line, where it cannot be read."""
    what = f"{name}: {path.name}"
    try:
        with warnings.catch_warnings():
            warnings.simplefilter("error", Image.DecompressionBombWarning)
            content = path.read_bytes()
            image = Image.open(io.BytesIO(content), formats=["PNG"])
            image.load()
    except Exception as error:  # Pillow raises whatever a damaged file makes it meet
        room.left_out.append(f"{what} cannot be read ({type(error).__name__}).")
        return None
    if image.width > WIDEST or len(content) > LIGHT:
        small = image.convert("RGB")
        small.thumbnail((WIDEST, 4 * WIDEST))
        file = io.BytesIO()
        small.save(file, "JPEG", quality=85, optimize=True)
        return _shot(file.getvalue(), "image/jpeg", small.size, what, room)
    return _shot(content, "image/png", image.size, what, room)


def _shot(content: bytes, kind: str, size: tuple[int, int], what: str, room: Room) -> Shot | None:
    return Shot(content, kind, *size) if room.takes(content, what) else None


def _sound(path: Path, name: str, room: Room) -> str:
    what = f"{name}: {path.name}"
    try:
        size = path.stat().st_size
        content = path.read_bytes() if size <= SOUND else b""
    except OSError as error:
        room.left_out.append(f"{what} cannot be read ({error.strerror}).")
        return ""
    if size > SOUND or not content.startswith(b"RIFF"):
        why = f"it has {size / 1e6:.0f} MB" if size > SOUND else "it is not a WAV file"
        room.left_out.append(f"{what} was left out: {why}.")
        return ""
    if not room.takes(content, what):
        return ""
    player = f'<audio controls preload="none" src="{uri(content, "audio/wav")}"></audio>'
    return f"<figure><figcaption>{text(path.stem)}</figcaption>{player}</figure>"


def faults(room: Room) -> str:
    """The section of what the page does not hold."""
    return section("left-out", "Left out", *(paragraph(line, "fault") for line in room.left_out))
