"""`ssl-lightning runs --prune`: removes checkpoints that no run needs to go on, after asking."""

from __future__ import annotations

import sys
from collections.abc import Sequence
from pathlib import Path

from ..run.checkpoints.pruning import superseded
from ..run.folder.lock import is_locked
from ..run.folder.survey import Survey
from .names import UsageError
from .rows import print_rows
from .runs import megabytes, name_of, say


def check_asking(agreed: bool) -> None:
    """Refuses to prune where nobody can be asked, and has not agreed.

    Raises:
        UsageError: this is no terminal.
    """
    if not agreed and not (sys.stdin.isatty() and sys.stderr.isatty()):
        raise UsageError("--prune asks before it removes anything, and this is not a terminal; give --yes to agree.")


def prune(runs: Sequence[Survey], root: Path, agreed: bool, as_json: bool) -> int:
    """Shows what would go, asks, and removes it.

    Args:
        runs: under the root; those that are running are left as they are.
        root: that names are relative to.
        agreed: whether not to ask.
        as_json: whether to print a list of objects, with sizes in bytes.

    Returns:
        The exit code: 1 if something could not be removed, or the user disagreed, else 0.
    """
    old: dict[Path, int] = {}
    failed = False
    for number, run in enumerate(runs, 1):
        _progress(f"looking at the checkpoints of run {number} of {len(runs)}")
        try:
            paths = [] if run.state == "running" else superseded(run.folder)
            old.update({path: path.stat().st_size for path in paths})
        except (OSError, ValueError) as error:
            failed = True
            say(f"{name_of(run.folder, root)} is left as it is: {error}")
    _progress("")
    shown = {path: size if as_json else megabytes(size) for path, size in old.items()}
    print_rows([{"checkpoint": name_of(path, root), "size": size} for path, size in shown.items()], as_json)
    total = f"{len(old)} checkpoint{'s' * (len(old) != 1)}, {megabytes(sum(old.values()))}"
    if not old:
        say("There is no old checkpoint to remove.")
        return int(failed)
    if not agreed:
        sys.stdout.flush()
        print(f"Remove {total}? [y/N] ", end="", file=sys.stderr, flush=True)
        if sys.stdin.readline().strip().lower() not in ("y", "yes"):
            say("Nothing was removed.")
            return 1
    removed = [path for path in old if _removed(path, root)]
    say(f"Removed {megabytes(sum(old[path] for path in removed))}: {len(removed)} of {total}.")
    return int(failed or len(removed) < len(old))


def _removed(path: Path, root: Path) -> bool:
    """Removes a checkpoint, unless a run went on there since; where it cannot, it says why."""
    try:
        if is_locked(path.parents[1], patience=0):
            say(f"{name_of(path, root)} stays: its run goes on now.")
            return False
        path.unlink(missing_ok=True)
    except OSError as error:
        say(f"{name_of(path, root)} cannot be removed: {error.strerror}.")
        return False
    return True


def _progress(text: str) -> None:
    if sys.stderr.isatty():
        print(f"\r\x1b[K{text}", end="", file=sys.stderr, flush=True)
