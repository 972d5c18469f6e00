"""`ssl-lightning runs`: the runs under a folder, from their files alone."""

from __future__ import annotations

import argparse
import os
import sys
import time
from collections.abc import Iterable, Iterator
from pathlib import Path
from typing import Any

from ..plugins.messages import did_you_mean, printable
from ..plugins.registry import Registry
from ..run.folder.survey import ACCURACY, Survey, is_run, survey
from .names import KINDS, UsageError
from .rows import print_rows

DEEPEST = 4
"""How far below the root a run may lie: `<root>/<sweep>/<sweep>/<method>-<data>/<time>`."""
NO_RUN = f"without a run {DEEPEST} folders deep"
SHOWN = 5
"""Folders that a line names."""

Left = dict[Path, str]
"""Folders that are left out, each with the reason."""


def main(options: argparse.Namespace) -> int:
    """`ssl-lightning runs`."""
    if options.yes and not options.prune:
        raise UsageError("--yes answers the question of --prune; give both.")
    root, left = Path(options.root), Left()
    if options.prune:
        from .prune import check_asking, prune  # imported here: with it comes torch

        check_asking(options.yes)
        return prune(surveys(root, left), root, options.yes, options.json)
    runs = surveys(root, left)
    print_rows(list(rows(runs, root, options.json)), options.json)
    for reason in dict.fromkeys(left.values()):
        names = [printable(path) for path, why in left.items() if why == reason]
        more = f" and {len(names) - SHOWN} more" * (len(names) > SHOWN)
        say(f"Left out, {reason}: {', '.join(names[:SHOWN])}{more}.")
    if not runs:
        say(f"There is no run under {str(root)!r}.")
    return 0


def surveys(root: Path, left: Left) -> list[Survey]:
    """What is known of the runs under a root, the newest first.

    Args:
        root: a folder of runs, or of folders of them, or a run.
        left: takes the folders that are left out.

    Raises:
        UsageError: there is no such folder, or it cannot be read.
    """
    if not os.path.isdir(root):
        raise UsageError(_no_root(root))
    runs = []
    for folder in _folders(root, left):
        try:
            runs.append(survey(folder))
        except OSError as error:
            left[folder] = _why(error)
    return sorted(runs, key=lambda run: run.changed, reverse=True)


def rows(runs: Iterable[Survey], root: Path, for_programs: bool) -> Iterator[dict[str, Any]]:
    """A row for each run.

    Args:
        runs: in their order.
        root: that names of folders are relative to.
        for_programs: whether sizes are in bytes, times to the second, and names of metrics whole.
    """
    registries = [Registry(f"ssl_lightning.{KINDS[key]}") for key in ("model", "data")]
    when = f"%Y-%m-%d %H:%M{':%S' * for_programs}"
    for run in runs:
        paths = zip((run.model, run.data), registries, strict=True)
        method, data = (path and registry.name_of(path) for path, registry in paths)
        yield {
            "run": name_of(run.folder, root),
            "method": method,
            "data": data,
            "state": run.state,
            "step": run.step,
            "best": run.best,
            "probe": run.probe if for_programs else _short(run.probe),
            "size": run.size if for_programs else megabytes(run.size),
            "changed": time.strftime(when, time.localtime(run.changed)),
            "note": run.note,
        }


def _folders(folder: Path, left: Left, deep: int = DEEPEST) -> list[Path]:
    """The run folders in a folder, or itself, where it is one; links are not followed."""
    try:
        with os.scandir(folder) as entries:
            inside = sorted(entries, key=lambda entry: entry.name)
    except OSError as error:
        if deep == DEEPEST:
            raise UsageError(f"{str(folder)!r} cannot be read: {_why(error)}.") from error
        left[folder] = _why(error)
        return []
    if is_run({entry.name for entry in inside}):
        return [folder]
    runs: list[Path] = []
    below = Left()
    for entry in inside if deep else ():
        if entry.is_symlink() and os.path.isdir(entry.path):
            below[Path(entry.path)] = "a link"
        elif entry.is_dir() and not entry.name.startswith("."):
            runs += _folders(Path(entry.path), below, deep - 1)
    if deep < DEEPEST and not runs and set(below.values()) <= {NO_RUN}:
        below = {folder: NO_RUN}
    left.update(below)
    return runs


def _no_root(root: Path) -> str:
    if os.path.exists(root):
        return f"{str(root)!r} is a file; give the folder under which the runs are."
    try:
        beside = [entry.name for entry in os.scandir(root.parent) if entry.is_dir()]
    except OSError:
        beside = []
    near = did_you_mean(root.name, beside) or " Give the folder under which the runs are."
    return f"There is no folder {str(root)!r}.{near}"


def _short(metric: str | None) -> str | None:
    return metric and metric.removeprefix("probe/").removesuffix(ACCURACY)


def _why(error: OSError) -> str:
    return error.strerror or type(error).__name__


def name_of(path: Path, root: Path) -> str:
    """A path for a row: relative to the root."""
    return printable(path if path == root else path.relative_to(root))


def megabytes(size: int) -> str:
    return f"{size / 1e6:,.1f} MB"


def say(line: str) -> None:
    """Prints a line beside the table."""
    print(line, file=sys.stderr)
