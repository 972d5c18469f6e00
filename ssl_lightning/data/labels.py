"""Which values of a label column are classes, which are none, and in what order classes come."""

from __future__ import annotations

import math
from collections.abc import Sequence
from typing import Any

from torch import Tensor

NONE = frozenset(("", "-1", "nan", "null", "<na>", "inf", "-inf", "+inf", "infinity", "-infinity"))
"""How published data sets, and the programs that write lists, mark a sample without a class, in
lower case."""
ABSENT = -1
"""The label of a sample without a class."""
DOMINANT = 0.75
"""The share of the samples from which on a class is told."""


def class_name(value: Any, where: str) -> str | None:
    """Returns the name of the class that a value of a label column means; None where it means that
    there is none: empty, null, NaN, infinity, -1. A number with nothing behind its point is an
    integer, as columns of integers with gaps are written (`2.0`).

    Args:
        value: as a list, or a table, has it.
        where: the value, for messages.

    Raises:
        ValueError: it cannot be a class, as a fraction or a list.
    """
    number = value
    if isinstance(value, str):
        if value.strip().lower() in NONE:
            return None
        try:
            number = float(value) if "." in value and not set(value.strip()) - set("0123456789.-+") else None
        except ValueError:  # several points, as in `1.2.3`
            number = None
    if value is None or (isinstance(value, float) and not math.isfinite(value)):
        return None
    if isinstance(number, float):
        if number % 1:
            raise ValueError(
                f"{where} is {value!r}, a measure and not a class; give a name or an integer. Is it another column?"
            )
        value = int(number)
    if not isinstance(value, (str, int)):
        raise ValueError(
            f"{where} is {type(value).__name__} {str(value)[:40]!r}, which is not a class; give a name or an integer."
        )
    name = str(value)
    return None if name in NONE else name


def dominant(labels: Tensor, names: Sequence[str] | None) -> str:
    """Says which class holds most of the samples, as the end of a list of remarks; empty where none
    does, or there is but one.

    Args:
        labels: [M] classes.
        names: of the classes; None: they have none.
    """
    counts = labels.bincount()
    largest = int(counts.argmax()) if len(labels) else 0
    if not len(labels) or not DOMINANT * len(labels) < counts[largest] < len(labels):
        return ""
    name = repr(names[largest]) if names and largest < len(names) else f"class {largest}"
    return f", {100 * counts[largest] / len(labels):.3g} % of them {name}: accuracies count every class alike"
