"""Regular expressions of a `tokenizer.json`: those that may backtrack without end are refused."""

from __future__ import annotations

import re
from math import inf

MOST_REPEATS = 1_000
"""Times that a part is repeated, counting repetitions of repetitions."""
IN_CLASS = re.compile(r"\\.|\[\^?\]?|.", re.DOTALL)
OUTSIDE = re.compile(
    r"\\[pPx]\{[^}]*\}|\\[gk][<']|\\."  # a class or a character, a reference
    r"|\(\?#[^)]*\)|\(\?[ims-]*\)"  # a comment, options
    r"|\((?:\?(?:[ims-]*:|<?[=!]|>|<\w+>))?"  # an open group
    r"|\{\d+(?:,\d*)?\}|\{,\d+\}"
    r"|\[\^?\]?|.",
    re.DOTALL,
)


class _Group:
    """What is open: whether it, and its last part, may match one text in several ways, and how many
    times the part most often repeated is."""

    def __init__(self) -> None:
        self.varies = self.part_varies = False
        self.repeats = self.part_repeats = 1

    def add(self, varies: bool = False, repeats: int = 1) -> None:
        self.part_varies, self.part_repeats = varies, repeats
        self.varies, self.repeats = self.varies or varies, max(self.repeats, repeats)


def check_pattern(pattern: object) -> None:
    """Checks that matching ends after a number of steps that is no exponential of the text's
    length, and that the compiled pattern is small.

    It is enough for this that no part which itself repeats or has alternatives is repeated before
    something that may fail, as in `(a+)+b`, and that nothing refers to a group.

    Args:
        pattern: in Oniguruma's syntax.

    Raises:
        ValueError: the pattern is not text, or may take too long.
    """
    if not isinstance(pattern, str):
        raise ValueError("a pattern is not text")
    reason = _reason(pattern)
    if reason:
        raise ValueError(f"its pattern {pattern[:60]!r} {reason}")


def _reason(pattern: str) -> str:
    groups, classes, position, simple = [_Group()], 0, 0, False
    while position < len(pattern):
        match = (IN_CLASS if classes else OUTSIDE).match(pattern, position)
        assert match is not None  # both match any character
        token, position, group = match[0], match.end(), groups[-1]
        was_simple, simple = simple, False  # after `*`, `+` or `?`, which may be followed by `?` or `+`
        if classes or token.startswith("["):
            classes += token.startswith("[") - (token == "]")
            group.add()
        elif was_simple and token in ("?", "+"):
            continue  # lazy or possessive
        elif token in ("*", "+", "?") or (token.startswith("{") and len(token) > 1):
            low, high = _bounds(token)
            last = len(groups) == 1 and pattern[position : position + 1] in ("", "|")  # nothing may fail after it
            if group.part_varies and high > 1 and not last:
                return "repeats a part that may match in several ways"
            group.add(group.part_varies or low != high, group.part_repeats * int(low if high == inf else high) or 1)
            if group.repeats > MOST_REPEATS:
                return f"repeats a part more than {MOST_REPEATS:,} times"
            simple = len(token) == 1
        elif re.match(r"\\[gk1-9]", token) or (token == "(" and pattern[position : position + 1] in ("?", "*")):
            return "refers to a group, or has an unusual one"
        elif token.startswith("(?") and token.endswith(")"):
            continue  # a comment, or options
        elif token.startswith("("):
            groups.append(_Group())
        elif token == ")" and len(groups) > 1:
            closed = groups.pop()
            groups[-1].add(closed.varies, closed.repeats)
        elif token == "|":
            group.add(varies=True)
        else:
            group.add()
    return "" if len(groups) == 1 and not classes else "has no end"


def _bounds(token: str) -> tuple[float, float]:
    """The fewest and the most repetitions of a quantifier."""
    if len(token) == 1:
        return {"*": (0, inf), "+": (1, inf), "?": (0, 1)}[token]
    low, comma, high = token[1:-1].partition(",")
    return float(low or 0), float(high or (inf if comma else low))
