"""Entities in sequences of tags, and their F1, as CoNLL's evaluation and seqeval count them."""

from __future__ import annotations

from collections.abc import Sequence

OUTSIDE = "O"


Entity = tuple[str, int, int]
"""The type of an entity, its first word and its last one."""


def entities(tags: Sequence[str]) -> set[Entity]:
    """The entities of a sentence by IOB2: `B-X` begins one of type X, `I-X` goes on with it. As in
    seqeval's default mode, and in CoNLL's `conlleval`, an `I-X` that follows no X begins one too.

    Args:
        tags: of the words, in order.
    """
    spans: set[Entity] = set()
    first, kind = 0, ""
    for number, tag in enumerate([*tags, OUTSIDE]):
        prefix, _, name = tag.partition("-")
        goes_on = prefix == "I" and kind == name and kind != ""
        if kind and not goes_on:
            spans.add((kind, first, number - 1))
            kind = ""
        if prefix in ("B", "I") and name and not goes_on:
            first, kind = number, name
    return spans


def are_spans(names: Sequence[str]) -> bool:
    """Whether tags are those of IOB2, and not of single words such as parts of speech.

    Raises:
        ValueError: some are, and others are of another scheme.
    """
    spans = [name for name in names if name.partition("-")[0] in ("B", "I") and name.partition("-")[2]]
    if not spans:
        return False
    if wrong := [name for name in names if name != OUTSIDE and name not in spans]:
        raise ValueError(
            f"The tag {wrong[0]!r} is not of IOB2, as {spans[0]!r} is; write B- and I- before the type, or O."
        )
    return True


def agreement(truth: Sequence[str], predicted: Sequence[str]) -> tuple[int, int, int]:
    """Of a sentence the entities that are predicted rightly, those that are predicted, and those
    that there are: F1 is 2 x the first / (the second + the third), over all sentences."""
    there, said = entities(truth), entities(predicted)
    return len(there & said), len(said), len(there)
