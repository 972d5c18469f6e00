"""What a closing table says of the pretraining: gains over each baseline, which of them chance may
explain, and a sentence over all columns."""

from __future__ import annotations

import math
import statistics
from typing import TYPE_CHECKING, NamedTuple

from .table import BASELINES, ROWS, Cell, Table, column_titles

if TYPE_CHECKING:
    from torch import Tensor  # imported where it is used: runs are compared without torch

FLIPS = 2_000
"""Random assignments of signs from which it is estimated what chance may explain: the share of
wrong claims is then within a point of `LEVEL`."""
LEVEL = 0.05
"""The largest share of wrong claims, where two rows are worth the same."""


class Gain(NamedTuple):
    """A difference of two accuracies, as a fraction, and how large one may be by chance in 95 of
    100 cases, or the paired standard deviation over the draws of labels, whichever is larger."""

    points: float
    margin: float

    @property
    def clear(self) -> bool:
        return abs(self.points) > self.margin + 1e-9


def gain(cell: Cell, baseline: Cell) -> Gain:
    """The gain of a cell over that of a baseline in the same column.

    Both come from the same samples and the same draws of labels, so that what counts are the
    differences: of samples by `flipped`, of draws by Student's t for paired values. Where one has
    fewer draws, as many of the other are compared, the first ones.
    """
    differences = [a - b for a, b in zip(cell.get("draws", []), baseline.get("draws", []), strict=False)]
    points = statistics.mean(differences) if differences else cell["mean"] - baseline["mean"]
    spread = statistics.stdev(differences) if len(differences) > 1 else cell["std"]
    parts = list(zip(cell.get("parts", []), baseline.get("parts", []), strict=False))
    if parts:
        import torch

        one, other = torch.tensor(parts, dtype=torch.float64).unbind(dim=1)  # [draws, Q] each
        of_samples = flipped((one - other).mean(dim=0))
    else:
        of_samples = 2 * math.hypot(cell.get("error", 0.0), baseline.get("error", 0.0))
    number = len(differences) or cell["n"]
    return Gain(points, max(spread, math.hypot(of_samples, students(number) * spread / math.sqrt(number))))


def flipped(differences: Tensor) -> float:
    """The sum that differences [Q] exceed in magnitude in `LEVEL` of all assignments of signs to
    them, as they would be equally probable if the two rows were worth the same.

    Fisher's randomization test of paired samples (The Design of Experiments, 1935, Section 21); of
    equal differences it is the exact test of McNemar (1947), which counts the samples that one row
    alone classifies correctly.
    """
    import torch

    size, count = differences.abs().unique(return_counts=True)
    count = count.double().expand(FLIPS, -1)
    plus = torch.binomial(count, torch.full_like(count, 0.5), generator=torch.Generator().manual_seed(0))
    return float(((2 * plus - count) @ size).abs().quantile(1 - LEVEL, interpolation="higher"))


def students(draws: int) -> float:
    """The quantile of Student's t for the mean of so many draws; 0 for one, which has no
    deviation."""
    from scipy.special import stdtrit

    return float(stdtrit(draws - 1, 1 - LEVEL / 2)) if draws > 1 else 0.0


def at_chance(cell: Cell) -> bool:
    """Whether chance alone may explain the accuracy of a cell: it is within two standard errors of
    that of a guess."""
    error = math.sqrt(cell["std"] ** 2 / cell["n"] + cell.get("error", 0.0) ** 2)
    return "classes" in cell and cell["mean"] <= 1 / cell["classes"] + 2 * error


def compared(final: Table) -> dict[str, dict[str, Gain]]:
    """The gains of the pretrained encoder by baseline and column."""
    pretrained = final.get("pretrained", {})
    gains = {
        row: {column: gain(pretrained[column], cell) for column, cell in final[row].items() if column in pretrained}
        for row in BASELINES
        if row in final
    }
    return {row: columns for row, columns in gains.items() if columns}


def claims_of(final: Table) -> dict[str, dict[str, int]]:
    """By baseline and column 1 where the pretrained encoder is clearly better, -1 where it is
    worse, 0 where the table does not tell."""
    return {
        row: {column: sign(final["pretrained"][column], final[row][column], each) for column, each in columns.items()}
        for row, columns in compared(final).items()
    }


def verdict_of(final: Table) -> str:
    """A sentence on where the pretrained encoder is better or worse than each baseline, and one on
    what is no better than a guess; empty without pretrained encoder and baseline.

    A difference is claimed only beyond its margin, for a winner that is not at chance; of two
    classes only where the area under the ROC curve has the same sign.
    """
    claims, titles = claims_of(final), column_titles(final)
    if not claims:
        return ""
    clauses = [
        clause(ROWS[row], {titles[column]: sign for column, sign in columns.items()}) for row, columns in claims.items()
    ]
    guesses = {
        row: [titles[column] for column in titles if column in cells and at_chance(cells[column])]
        for row, cells in final.items()
        if row != "majority"
    }
    chance = [
        ROWS[row] + ("" if len(columns) == len(final[row]) else f" ({', '.join(columns)})")
        for row in ROWS
        if (columns := guesses.get(row))
    ]
    return f"Pretraining: {'; '.join(clauses)}." + (f" At chance: {'; '.join(chance)}." if chance else "")


def worsened(final: Table) -> str:
    """An alarm where the run made the weights that it started from worse: in some column clearly,
    and better in none; empty where it did not."""
    signs, titles = claims_of(final).get("published", {}), column_titles(final)
    worse = [titles[column] for column, sign in signs.items() if sign < 0]
    if not worse or any(sign > 0 for sign in signs.values()):
        return ""
    return (
        f"The run made the weights that it started from worse ({', '.join(worse)}). A lower --model.lr, falling rates"
        " for lower layers (--model.optimizer_args.layer_decay 0.75), heads that warm up first (--start.frozen_epochs"
        " 1) or a longer run may help; the weights of before are in untrained.safetensors."
    )


def sign(cell: Cell, baseline: Cell, gain: Gain) -> int:
    """What may be claimed of a cell against that of a baseline: 1 where it is clearly better, -1
    where it is worse, 0 where they do not tell."""
    better = 1 if gain.points > 0 else -1
    areas, others = cell.get("auroc"), baseline.get("auroc")
    if areas and others and better * (statistics.mean(areas) - statistics.mean(others)) <= 0:
        return 0
    return better if gain.clear and not at_chance(cell if better > 0 else baseline) else 0


def clause(baseline: str, signs: dict[str, int]) -> str:
    """One baseline's part of the sentence, from the sign of each column by title."""
    words = {1: "better than {}", -1: "worse than {}", 0: "no clear difference from {}"}
    parts: list[str] = []
    for sign, word in words.items():
        columns = [column for column, each in signs.items() if each == sign]
        if columns:
            text = word.format(baseline) if not parts else word.removesuffix(" than {}").removesuffix(" from {}")
            parts.append(text + (f" in {', '.join(columns)}" if len(columns) < len(signs) else " in every column"))
    return ", ".join(parts)
