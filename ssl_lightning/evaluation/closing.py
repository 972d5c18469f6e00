"""The closing tables of a run: one for each labelled set, within the time that they may take."""

from __future__ import annotations

import statistics
import textwrap
from collections.abc import Callable, Iterable, Mapping
from functools import partial
from typing import Any, NamedTuple

from torch import Tensor, nn

from ..data.datamodule import SSLDataModule
from ..data.sources import Source
from ..encoders.base import Encoder
from ..run.forecast import duration
from .budget import Budget, seconds_left
from .printing import format_table
from .protocols.stamp import Stamp
from .rows import ClosingSettings, Rows
from .stages import Stages
from .stamps import of_table
from .table import ROWS, Cell, Table, column_title, without_parts

Work = Callable[[Budget, Stages], None]


class Closing(NamedTuple):
    """The closing table of a labelled set, the split it was evaluated on, that split's features
    [N, D] with labels [N], and a note on what was skipped. Table and features are those of the
    first process; the others have no features."""

    table: Table
    split: str
    features: Tensor
    labels: Tensor
    note: str = ""
    seen: bool = False
    """Whether the pretraining has seen the split's samples."""
    maps: Mapping[str, Tensor] = {}
    """The features of each network, by row."""
    samples: tuple[Source, Tensor] | None = None
    """The samples [N] of a source that the features are of."""
    stamp: Stamp | None = None
    """What another table must share to be comparable."""

    @property
    def printed(self) -> str:
        """The table as text; for a supervised run it is the note, which holds the one accuracy."""
        table = "" if self.split in self.table or not self.table else format_table(self.table, self.split, self.seen)
        return "\n".join(filter(None, (table, self.note)))


def compare(
    trainer: Any,
    pl_module: Any,
    sets: dict[str, SSLDataModule],
    began: dict[str, Encoder],
    settings: ClosingSettings,
    stages: Stages,
) -> dict[str, Closing]:
    """The closing tables of a run: raw features, the encoder as it began, and the method. What
    tells most is computed first, for every set, and what fails or would take too long is missing.

    Every process must call it, and embeds its share of the samples; rank 0 fits, and the others
    wait for as long as that takes.

    Args:
        trainer: the run's trainer.
        pl_module: the pretrained method.
        sets: the labelled sets, by prefix; the row "labels only" is computed for the pretraining
            data alone.
        began: the encoders to compare with, by row (`began_with`); the row "labels only" needs the
            untrained one.
        settings: how much is computed.
        stages: shows what is computed, and keeps what failed.
    """
    networks: dict[str, nn.Module | None] = {"pretrained": pl_module, **began, "raw": None}
    rows: dict[str, Rows] = {}
    for prefix, data in sets.items():
        with stages.attempt(prefix + "samples of the table"):
            rows[prefix] = Rows(data, networks, trainer, settings)
            rows[prefix].pair(list(rows.values())[:-1])
    budget = Budget(seconds_left(settings.minutes, trainer))
    plan = planned(rows, networks, began.get("untrained"), trainer.datamodule)
    stages.begin(len(plan), lambda: budget.left)
    for prefix, each in rows.items():
        if settings.minutes:
            stages.show(f"{prefix}speed of features")
            each.fit_in(budget, sum(other.twin is None for other in rows.values()))
    for number, (title, work) in enumerate(plan):
        budget.rows = len(plan) - number
        with stages.attempt(title):
            work(budget, stages)
    return {
        prefix: Closing(
            each.table,
            each.split,
            each.features,
            each.labels[1],
            notes(each, budget.seconds),
            each.seen,
            each.maps,
            (each.judged, each.index[1]),
            of_table(each),
        )
        for prefix, each in rows.items()
    }


def planned(
    rows: dict[str, Rows], networks: Iterable[str], untrained: Encoder | None, data: Any
) -> list[tuple[str, Work]]:
    """The rows of all tables by title, in the order in which they are computed.

    Args:
        rows: the tables, by prefix.
        networks: the rows that compare networks, the most telling first.
        untrained: the encoder with random weights.
        data: the pretraining data.
    """
    plan: list[tuple[str, Work]] = [
        (prefix + ROWS[row], partial(each.add, row)) for row in networks for prefix, each in rows.items()
    ]
    for prefix, each in rows.items():
        if untrained is not None and each.data is data and each.settings.labels_only:
            plan.append((prefix + ROWS["labels_only"], partial(each.add_labels_only, untrained)))
    return plan + [
        (prefix + ROWS[f"{row}_layers"], partial(each.add_layers, row))
        for row in networks
        for prefix, each in rows.items()
        if row in each.encoders
    ]


def notes(rows: Rows, seconds: float) -> str:
    """Lines that say what was left out because of the time or its cost, and how to compute it, and
    what is odd about classes and regressions; empty where nothing is.

    Args:
        rows: of the table.
        seconds: that the tables of the run might take.
    """
    lines = [rows.note, rows.costly, rows.fewer, *rows.remarks]
    if rows.skipped:
        cells = "; ".join(
            f"{ROWS[row]}: {', '.join(map(column_title, columns))}" for row, columns in rows.skipped.items()
        )
        lines.append(
            f"Skipped because the table may take {duration(seconds)} on this machine: {cells}. --report.minutes 0"
            " computes all."
        )
    return "\n".join(textwrap.fill(line, 80, break_on_hyphens=False) for line in lines if line)


def cells_of(closing: dict[str, Closing]) -> dict[str, Cell]:
    """The cells of all tables, as they are in `summary.json` and under the names that they have
    there."""
    return {
        f"final/{prefix}{row}/{column}": without_parts(cell)
        for prefix, each in closing.items()
        for row, columns in each.table.items()
        for column, cell in columns.items()
    }


def logged(cells: dict[str, Cell]) -> dict[str, float]:
    """What loggers are given of cells: means, deviations over several draws, and of two classes
    the mean area under the ROC curve."""
    values = {name: cell["mean"] for name, cell in cells.items()}
    values |= {f"{name}/std": cell["std"] for name, cell in cells.items() if cell["n"] > 1}
    return values | {f"{name}/auroc": statistics.mean(cell["auroc"]) for name, cell in cells.items() if "auroc" in cell}


def printed(closing: dict[str, Closing]) -> str:
    """All tables as text; empty where there is none."""
    return "\n\n".join(
        (f"{prefix.rstrip('/')}: " if prefix else "") + each.printed for prefix, each in closing.items() if each.printed
    )
