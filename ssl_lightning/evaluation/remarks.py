"""What a closing table's reader has to know of its classes and of its regressions."""

from __future__ import annotations

from collections.abc import Sequence

from torch import Tensor

from .table import ROWS, Cell, Table, column_titles

UNEQUAL = 1.5
"""From this many times an equal share on, the share of the largest class is told."""
LISTED = 5
"""Classes that are named."""


def guessed(train: Tensor, answers: Tensor, labels: int) -> Cell:
    """The cell of who always names the largest class of the training samples.

    Args:
        train: [M] classes of the training samples.
        answers: [Q] those of the samples that are classified.
        labels: number of labels in the column.
    """
    largest, classes = train.bincount().argmax(), answers.unique()
    mean = float((classes == largest).any()) / len(classes)
    return {
        "mean": mean, "std": 0.0, "n": 1, "draws": [mean], "labels": labels, "samples": len(answers),
        "classes": len(classes),
    }  # fmt: skip


def class_remarks(train: Tensor, answers: Tensor, names: Sequence[str] | None, split: str) -> list[str]:
    """Lines on classes that are unequal, or that a split lacks.

    Args:
        train: [M] classes of the training samples.
        answers: [Q] those of the samples that are classified.
        names: of the classes; None: they have none.
        split: the name of the split that is classified.
    """
    counts = answers.bincount()
    present, largest = int((counts > 0).sum()), int(counts.argmax())
    lines = []
    if counts[largest] * present > UNEQUAL * len(answers):
        share = 100 * float(counts[largest]) / len(answers)
        lines.append(
            f"{_named([largest], names)} holds {share:.1f} % of the {split} samples, so every class counts alike, in"
            " the probes too."
        )
    there = {"training": set(train.tolist()), split: set(answers.tolist())}
    known = set(range(len(names or ()))) | there["training"] | there[split]
    for part, classes in there.items():
        if missing := sorted(known - classes):
            why = ", so they cannot be learned" if part == "training" and set(missing) & there[split] else ""
            lines.append(
                f"The {part} samples lack {len(missing):,} of {len(known):,} classes{why}: {_named(missing, names)}."
            )
    return lines


def fit_remarks(table: Table) -> list[str]:
    """Lines on regressions that did not converge, or whose penalty is at an end of what is
    tried."""
    titles = column_titles(table)

    def cells(key: str) -> str:
        return "; ".join(
            f"{ROWS[row]}, {titles[column]}" for row in table for column in table[row] if key in table[row][column]
        )

    lines = []
    if unconverged := cells("unconverged"):
        lines.append(f"Regressions that stopped before they converged: {unconverged}.")
    if at_end := cells("at_end"):
        lines.append(f"Regressions with the weakest or strongest penalty that is tried: {at_end}.")
    return lines


def _named(classes: Sequence[int], names: Sequence[str] | None) -> str:
    """The names of some classes."""
    words = [repr(names[each]) if names and each < len(names) else f"class {each}" for each in classes[:LISTED]]
    return ", ".join(words) + ", ..." * (len(classes) > LISTED)
