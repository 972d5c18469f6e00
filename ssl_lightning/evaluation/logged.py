"""What loggers are given when a run has ended: closing tables, the values of their cells, and the
encoder."""

from __future__ import annotations

from collections.abc import Mapping
from pathlib import Path
from typing import Any

from ..data.datamodule import SSLDataModule
from ..run.folder.folder import run_name
from ..run.loggers.show import Shown, conclude, keep_encoder
from .closing import Closing, logged
from .files import card_facts
from .overview import Overview
from .supervised import CLASSIFIER
from .table import CURVE_ROWS, ROWS, Cell, column_titles

TABLES = "tables/"
"""The names of tables begin so: dashboards show them in one section."""
HEADLINE = "pretrained"
"""The row whose values runs are compared by."""
FILES = ("encoder.safetensors", CLASSIFIER, "encoder.md", "config.yaml", "resolved.yaml", "summary.json")
"""What is kept of a run beside its pictures and its data's artifacts, as far as it is there."""


def log_results(
    trainer: Any,
    closing: Mapping[str, Closing],
    cells: dict[str, Cell],
    seen: Overview | None,
    scores: dict[str, float],
) -> None:
    """Gives loggers the closing tables, their cells as `closing/<row>/<column>`, and the scores of
    a run without labels.

    Args:
        trainer: of the run.
        closing: the closing table of each labelled set, by prefix.
        cells: by their names in `summary.json`.
        seen: what a run without labels ends with.
        scores: its values, by name.
    """
    tables = {f"{TABLES}{prefix.replace('/', '-')}closing": shown(each) for prefix, each in closing.items()}
    if seen is not None:
        tables[f"{TABLES}label_free"] = shown_scores(seen)
    values = {f"closing/{name.removeprefix('final/')}": value for name, value in logged(cells).items()}
    headline = [name for name in values if f"/{HEADLINE}/" in name and not name.endswith("/std")] or list(values)
    conclude(trainer, {name: table for name, table in tables.items() if table.rows}, values | scores, headline)


def shown(closing: Closing) -> Shown:
    """A closing table to look at: accuracies in %, each beside its std over draws of labels
    where there are several."""
    table = closing.table
    if closing.split in table:  # of a supervised run, whose one row is the split
        titles = {key: key for key in table[closing.split]}
    else:
        titles = column_titles(table) if table else {}
    several = {key for key in titles if any(row[key]["n"] > 1 for row in table.values() if key in row)}
    columns, rows = ["row"], []
    for key, title in titles.items():
        columns += [f"{title}, %", f"{title}, \N{PLUS-MINUS SIGN}"] if key in several else [f"{title}, %"]
    for name in [*(row for row in ROWS if row in table), *(row for row in table if row not in ROWS)]:
        values: list[str | float | None] = [ROWS.get(name, name)]
        for key in titles:
            cell = table[name].get(key)
            values.append(None if cell is None else 100 * cell["mean"])
            if key in several:
                values.append(None if cell is None or cell["n"] == 1 else 100 * cell["std"])
        rows.append(values)
    return Shown(columns, rows)


def shown_scores(seen: Overview) -> Shown:
    """The scores of a run without labels as a table."""
    names = list(dict.fromkeys(name for scores in seen.scores.values() for name in scores))
    rows = [[ROWS[row], *map(seen.scores[row].get, names)] for row in ROWS if row in seen.scores]
    return Shown(["row", *names], rows)


def shown_curve(rows: list[dict[str, Any]]) -> Shown:
    """A label curve as a table.

    Args:
        rows: as `LabelCurve.as_json` has them.
    """
    columns = ["row", "labels", "labels a class", "accuracy, %", "\N{PLUS-MINUS SIGN}", "draws"]
    return Shown(
        columns,
        [
            [
                CURVE_ROWS[each["row"]],
                each["labels"],
                each["labels_per_class"],
                100 * each["mean"],
                100 * each["std"] if len(each["draws"]) > 1 else None,
                len(each["draws"]),
            ]
            for each in rows
        ],
    )


def log_encoder(trainer: Any, pl_module: Any, folder: Path, summary: Mapping[str, Any]) -> None:
    """Gives loggers that keep files the encoder with its card, config and pictures.

    Args:
        trainer: of the run.
        pl_module: the method.
        folder: the run folder.
        summary: of the run, as in `summary.json`.
    """
    data = trainer.datamodule
    names = [*FILES, *(data.artifacts() if isinstance(data, SSLDataModule) else {})]
    files = [folder / name for name in names if (folder / name).is_file()]
    accuracies = {
        f"closing/{name.removeprefix('final/')}": value["mean"]
        for name, value in summary.items()
        if isinstance(value, dict) and f"/{HEADLINE}/" in name
    }
    facts = {**card_facts(pl_module, data, dict(summary)), "dim": pl_module.backbone.dim, **accuracies}
    keep_encoder(trainer, run_name(pl_module, data), [*files, *sorted((folder / "plots").glob("*.png"))], facts)
