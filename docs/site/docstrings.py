"""A docstring as Markdown: paragraphs, and its sections (`Args`, `Raises`, ...) as entries."""

from __future__ import annotations

import inspect
import re
from collections.abc import Callable, Iterator
from typing import Any, NamedTuple

SECTIONS = ("Args", "Attributes", "Raises", "Returns", "Yields")
HEADING = re.compile(rf"^({'|'.join(SECTIONS)}):$", re.MULTILINE)
ENTRY = re.compile(r"^(\w+(?:, \w+)*): ", re.MULTILINE)


class Docstring(NamedTuple):
    """A docstring in parts.

    Args:
        text: the paragraphs before the first section, as Markdown.
        entries: by section, pairs of names ("decoder_dim, decoder_depth") and what they mean.
    """

    text: str
    entries: dict[str, list[tuple[str, str]]]


def parse(value: object) -> Docstring:
    """The docstring of a class or function; empty where it has none of its own."""
    text = inspect.cleandoc(getattr(value, "__doc__", None) or "")
    before, *parts = HEADING.split(text)
    entries = {name: list(_entries(body)) for name, body in zip(parts[::2], parts[1::2], strict=True)}
    return Docstring(_paragraphs(before), entries)


def _entries(body: str) -> Iterator[tuple[str, str]]:
    """The entries of a section: each begins at its left edge with a name; without any, the section
    is one entry without a name."""
    body = inspect.cleandoc(body)
    starts = [match for match in ENTRY.finditer(body)]
    if not starts or starts[0].start():
        yield "", inline(body)
        return
    for match, following in zip(starts, [*starts[1:], None], strict=True):
        yield match[1], inline(body[match.end() : following.start() if following else None])


def _paragraphs(text: str) -> str:
    """Paragraphs and lists; what is indented is shown as it is."""
    parts = []
    for part in re.split(r"\n{2,}", text.strip()):
        entries = re.split(r"\n(?=`\w+`)", part)
        if part.startswith("    ") or re.match(r"(- |\d\. |>>> )", part):
            parts.append(part)
        elif part.startswith("`") and len(entries) > 1:  # a line for each name
            parts.append("\n".join(f"- {inline(entry)}" for entry in entries))
        else:
            parts.append(inline(part))
    return "\n\n".join(parts)


def inline(text: str) -> str:
    """Text in one line, in which only backticks keep a meaning."""
    pieces = re.split(r"(`[^`]*`)", " ".join(text.split()))
    return "".join(piece if piece.startswith("`") else _escaped(piece) for piece in pieces).replace("|", "\\|")


def _escaped(text: str) -> str:
    return re.sub(r"([*_\[\]])", r"\\\1", text).replace("<", "&lt;")


def defaults(function: Callable[..., Any]) -> dict[str, str]:
    """The default of each argument that has one, as code."""
    parameters = inspect.signature(function).parameters.values()
    return {each.name: shown(each.default) for each in parameters if each.default is not inspect.Parameter.empty}


def shown(value: object) -> str:
    """A value as somebody would type it."""
    if inspect.isclass(value) or inspect.isfunction(value):
        return value.__name__
    return re.sub(r" at 0x\w+", "", repr(value))


def annotated(annotation: object) -> str:
    """An annotation as it stands in the code."""
    if isinstance(annotation, str):
        return annotation.strip("'")
    return annotation.__name__ if isinstance(annotation, type) else str(annotation).replace("typing.", "")


def table(head: tuple[str, ...], rows: list[tuple[str, ...]]) -> str:
    """A table in Markdown; "" without rows."""
    lines = [f"| {' | '.join(row)} |" for row in (head, ("---",) * len(head), *rows)]
    return "\n".join(lines) if rows else ""


def arguments(value: type | Callable[..., Any], section: str = "Args") -> list[tuple[str, str, str]]:
    """Of each entry of the docstring's arguments: names, defaults, and what they mean."""
    try:
        known = defaults(value)
    except (TypeError, ValueError):  # a class that is built otherwise
        known = {}
    rows = []
    for names, meaning in parse(value).entries.get(section, []):
        shown = [f"`{known[name]}`" for name in names.split(", ") if name in known]
        rows.append((", ".join(f"`{name}`" for name in names.split(", ")), ", ".join(shown), meaning))
    return rows
