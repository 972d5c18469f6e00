"""The names of timm's models, read from its source: importing timm, and torch with it, takes
seconds."""

from __future__ import annotations

import re
from collections.abc import Collection, Iterator
from difflib import get_close_matches
from pathlib import Path

from ..plugins.docstring import find_spec

MODEL = re.compile(r"^@register_model\s+def (\w+)", re.MULTILINE)
EARLIER = re.compile(r"register_model_deprecations\(__name__, \{(.*?)\}\)", re.DOTALL)


def names() -> set[str]:
    """All models of the installed timm, without tags and with their earlier names; empty where its
    source cannot be read."""
    origin = find_spec("timm").origin
    return {name for path in Path(origin or "").parent.glob("models/**/*.py") for name in _registered(path)}


def _registered(path: Path) -> Iterator[str]:
    text = path.read_text(encoding="utf-8")
    yield from MODEL.findall(text)
    for earlier in EARLIER.findall(text):
        yield from re.findall(r"'([^']+)':", earlier)


def no_model(name: str, known: Collection[str]) -> str:
    """The error for a name that timm does not know, with the nearest of those it does."""
    near = get_close_matches(name, known, n=3, cutoff=0.5)
    hint = f"Did you mean {' or '.join(near)}?" if near else "timm.list_models() shows all."
    return f"timm has no model {name!r}. {hint}"
