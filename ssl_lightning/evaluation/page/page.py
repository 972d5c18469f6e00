"""The report: its parts in their order, in one file that loads nothing."""

from __future__ import annotations

import base64
import hashlib
from collections.abc import Sequence
from importlib.metadata import version
from importlib.resources import files

from ..comparison.recorded import PastRun
from ..comparison.settings import names_of
from ..comparison.tables import sheets_of
from . import tables
from .curves import curves
from .health import health
from .kept import maps_of
from .labels import labels
from .maps import maps
from .pictures import Room, faults, pictures
from .writing import text


def page(runs: Sequence[PastRun]) -> tuple[str, list[str]]:
    """A report on runs as HTML, and lines on what it leaves out."""
    names, room = names_of(runs), Room()
    rows = list(dict.fromkeys(row for run in runs for _, row, _ in run.cells))
    sheets = sheets_of(runs, sorted(rows, key=lambda row: row in tables.BASELINE_ROWS)) if rows else []
    kept = [maps_of(name, run, room) for name, run in zip(names, runs, strict=True)]
    drawn, near = maps(names, kept)
    parts = [
        tables.about(names, runs),
        tables.settings(names, runs),
        tables.closing(runs, sheets),
        labels(names, runs, room),
        curves(names, runs),
        pictures(names, runs, [bool(each) for each in kept], room),
        drawn,
        near,
        health(names, runs, room),
        tables.last(names, runs),
        faults(room),
    ]
    return _whole(names, [part for part in parts if part]), room.left_out


def _whole(names: Sequence[str], parts: Sequence[str]) -> str:
    style, script = (files(__package__).joinpath(f"page.{kind}").read_text(encoding="utf-8") for kind in ("css", "js"))
    digest = base64.b64encode(hashlib.sha256(script.encode()).digest()).decode()
    policy = (
        f"default-src 'none'; img-src data:; media-src data:; style-src 'unsafe-inline'; script-src 'sha256-{digest}'"
    )
    title = names[0] if len(names) == 1 else f"{len(names)} runs compared"
    links = "".join(f'<a href="#{key}">{heading}</a>' for key, heading in map(_heading, parts))
    return (
        '<!doctype html>\n<html lang="en"><head><meta charset="utf-8">'
        f'<meta http-equiv="Content-Security-Policy" content="{policy}">'
        '<meta name="viewport" content="width=device-width, initial-scale=1">'
        f"<title>{text(title)}: ssl-lightning</title>\n<style>{style}</style></head>\n"
        f'<body><nav aria-label="Contents"><strong>Contents</strong>{links}</nav>\n<main><h1>{text(title)}</h1>\n'
        + "\n".join(parts)
        + f"\n<footer>Written by ssl-lightning {text(version('ssl-lightning'))}.</footer></main>"
        f'<div id="tip" hidden></div>\n<script>{script}</script></body></html>\n'
    )


def _heading(part: str) -> tuple[str, str]:
    """Key and heading of a section."""
    key = part.partition('id="')[2].partition('"')[0]
    return key, part.partition("<h2>")[2].partition("</h2>")[0]
