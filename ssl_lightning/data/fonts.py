"""Letters that the figures' own font lacks: drawn in an installed font that has them, else written
as their code (`\\u65e5`), never as empty boxes."""

from __future__ import annotations

import unicodedata
from collections.abc import Sequence
from functools import cache, lru_cache

from matplotlib.figure import Figure
from matplotlib.font_manager import FontProperties, findfont, fontManager
from matplotlib.ft2font import FT2Font
from matplotlib.text import Text

SANS, MONO = "DejaVu Sans", "DejaVu Sans Mono"
"""Fonts that matplotlib brings along."""

BOXES = "Last Resort"
"""A font that matplotlib brings along, whose letters are boxes."""


@cache
def letters_of(path: str) -> frozenset[int]:
    """The code points that a font file draws; none where it cannot be read."""
    try:
        return frozenset(FT2Font(path).get_charmap())
    except (OSError, RuntimeError):  # such as a bitmap font
        return frozenset()


def lacking(text: str, family: str = SANS) -> frozenset[str]:
    """The letters of a text that a family does not draw."""
    if text.isascii():
        return frozenset()
    known = letters_of(findfont(FontProperties(family=[family])))
    return frozenset(
        letter for letter in text if letter.isprintable() and not letter.isspace() and ord(letter) not in known
    )


@lru_cache(maxsize=256)
def fallbacks(letters: frozenset[str]) -> tuple[str, ...]:
    """Names of installed fonts that together draw these letters, or as many as any do."""
    names: list[str] = []
    missing = {ord(letter) for letter in letters}
    fonts = [font for font in fontManager.ttflist if not font.name.startswith(BOXES)]
    while missing:
        best = max(fonts, key=lambda font: len(missing & letters_of(font.fname)), default=None)
        if best is None or not missing & letters_of(best.fname):
            break
        names.append(best.name)
        missing -= letters_of(best.fname)
    return tuple(names)


def drawable(text: str, family: str = SANS) -> str:
    """A text whose letters that no installed font draws are written as their code."""
    missing = lacking(text, family)
    if not missing:
        return text
    drawn = frozenset[int]().union(
        *(letters_of(findfont(FontProperties(family=[name]))) for name in fallbacks(missing))
    )
    return "".join(
        letter.encode("ascii", "backslashreplace").decode()
        if letter in missing and ord(letter) not in drawn
        else letter
        for letter in text
    )


def use_fonts(figure: Figure) -> bool:
    """Gives each text of a figure the fonts that it needs, and has it drawn as it is written.

    Returns:
        Whether letters are written as their code, because no installed font draws them.
    """
    escaped = False
    for text in figure.findobj(Text):
        text.set_parse_math(False)  # a name may have any number of dollars
        family: Sequence[str] = text.get_fontfamily()
        own = MONO if "monospace" in family else SANS
        words = text.get_text()
        if missing := lacking(words, own):
            written = drawable(words, own)
            escaped |= written != words
            text.set(text=written, fontfamily=[*family, *fallbacks(missing)])
    return escaped


def columns(text: str) -> int:
    """Width of a text in letters of a monospaced font, of which Chinese, Japanese and Korean ones
    take two."""
    return sum(
        2 if unicodedata.east_asian_width(letter) in "WF" else not unicodedata.combining(letter) for letter in text
    )
