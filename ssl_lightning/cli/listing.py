"""`ssl-lightning methods|datamodules|encoders` lists what is installed, from metadata and source
code, without importing any of it."""

from __future__ import annotations

import argparse
import json
import shutil
from collections.abc import Sequence

from ..plugins.registry import BrokenPlugin, Registry

LISTS = ("methods", "datamodules", "encoders")
COLUMNS = ("name", "summary", "package", "version")
WIDTH = 100


def main(options: argparse.Namespace) -> int:
    """`ssl-lightning methods`, and the like."""
    return show(options.command, options.json, options.check)


def show(kind: str, as_json: bool = False, check: bool = False) -> int:
    """Prints the plug-ins of a kind; with `check` it imports each and names the broken ones.

    Returns:
        The exit code: 1 if a plug-in is broken, else 0.
    """
    registry = Registry(f"ssl_lightning.{kind}")
    rows = [
        {"name": p.name, "summary": p.summary, "package": p.package, "version": p.version}
        for p in registry.plugins.values()
    ]
    errors = {name: error for name in registry if (error := _error(registry, name))} if check else {}
    if as_json:
        print(json.dumps([{**row, "error": errors.get(row["name"])} if check else row for row in rows], indent=2))
    else:
        width = min(WIDTH, shutil.get_terminal_size((WIDTH, 24)).columns)
        print("\n".join(_table([COLUMNS, *([row[column] for column in COLUMNS] for row in rows)], width)))
        for error in errors.values():
            print(f"broken: {error}")
        if check and not errors:
            print("All of them import.")
    return 1 if errors else 0


def _error(registry: Registry, name: str) -> str | None:
    try:
        registry[name]
    except BrokenPlugin as error:
        return str(error)
    return None


def _table(rows: Sequence[Sequence[str]], width: int) -> list[str]:
    """The lines of a table with aligned columns; summaries are shortened where they do not fit."""
    widths = [max(len(row[column]) for row in rows) for column in range(len(COLUMNS))]
    widths[1] = max(20, min(widths[1], width - sum(widths) + widths[1] - 2 * (len(COLUMNS) - 1)))
    return ["  ".join(_fit(cell, size) for cell, size in zip(row, widths, strict=True)).rstrip() for row in rows]


def _fit(text: str, size: int) -> str:
    return text.ljust(size) if len(text) <= size else text[: size - 1].rstrip() + "…"
