"""HTML from what runs hold, of which none is trusted: text is escaped, and data for the script
cannot end its element."""

from __future__ import annotations

import base64
import json
from collections.abc import Iterable, Sequence
from html import escape
from typing import Any

from ..plots.style import COLOURS


def text(value: Any) -> str:
    """A value as text of an element or of an attribute in quotes; control characters are seen as
    codes."""
    words = " ".join(str(value).split())
    return escape(words if words.isprintable() else words.encode("unicode_escape").decode())


def key_of(name: str) -> str:
    """A dotted key, which may be broken into lines at its joints."""
    key = text(name)
    for joint in "._/":
        key = key.replace(joint, f"{joint}<wbr>")
    return key


def data(name: str, value: Any) -> str:
    """Data for the script, under an id."""
    body = json.dumps(value, separators=(",", ":"), allow_nan=False)
    for letter in "<>&":
        body = body.replace(letter, f"\\u{ord(letter):04x}")
    return f'<script type="application/json" id="{text(name)}">{body}</script>'


def uri(content: bytes, kind: str) -> str:
    """Bytes as an address that holds them."""
    return f"data:{kind};base64,{base64.b64encode(content).decode()}"


def table(head: Sequence[str], rows: Iterable[Sequence[str]], kind: str = "") -> str:
    """A table that scrolls by itself where it is wide; cells are HTML already."""
    top = "".join(f'<th scope="col">{cell}</th>' for cell in head)
    body = "".join(
        f'<tr><th scope="row">{first}</th>' + "".join(f"<td>{cell}</td>" for cell in cells) + "</tr>\n"
        for first, *cells in rows
    )
    return f'<div class="wide"><table class="{kind}"><thead><tr>{top}</tr></thead>\n<tbody>{body}</tbody></table></div>'


def section(key: str, title: str, *parts: str) -> str:
    """A section with its heading; empty where it has no parts."""
    body = "\n".join(filter(None, parts))
    return f'<section id="{key}"><h2>{text(title)}</h2>\n{body}\n</section>' if body else ""


def paragraph(line: str, kind: str = "") -> str:
    return f'<p class="{kind}">{text(line)}</p>'


def colour(number: int) -> str:
    """Of the run, class or row of this number."""
    return COLOURS[number % len(COLOURS)]


def mark(number: int) -> str:
    """A dot in the colour of a run."""
    return f'<span class="dot" style="background:{colour(number)}"></span>'
