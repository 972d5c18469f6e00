"""Whether mirrored images may mean something else, as far as the names of their classes tell."""

from __future__ import annotations

from collections.abc import Sequence

FEWEST = 5
"""Classes of one letter each from which on they are taken for letters."""


def sides_in(names: Sequence[str]) -> str:
    """Says why images of classes with these names may have a left and a right; empty where nothing
    tells."""
    known = [str(name).lower() for name in names]
    if len(known) >= FEWEST and all(len(name) == 1 and name.isalpha() for name in known):
        return f"the classes are called like letters ({names[0]}, {names[1]}, ...)"
    if set(known) == set("0123456789"):
        return "the classes are called 0 to 9"
    for name in known:
        if (other := name.replace("left", "right")) != name and other in known:
            return f"there are classes {name!r} and {other!r}"
    return ""
