"""Which checkpoints of a run that has ended are not needed to go on from it."""

from __future__ import annotations

from pathlib import Path

from ...plugins.archive import is_whole, read
from ...plugins.gate import read_json, read_yaml
from .names import ours
from .retention import SCORES


def superseded(run: Path) -> list[Path]:
    """The checkpoints of a run folder that are older than its newest whole one, apart from the best
    by the run's metric and those that it was to keep for good.

    Raises:
        OSError, ValueError: it cannot be read which must stay.
    """
    folder = run / "checkpoints"
    if folder.is_symlink():
        return []  # they lie elsewhere
    there = [path for path in ours(folder) if path.is_file() and not path.is_symlink()]
    newest = next((path for path in there if is_whole(path)), None) if len(there) > 1 else None
    if newest is None:
        return []
    config = read_yaml((run / "config.yaml").read_text(encoding="utf-8"), repr(str(run / "config.yaml")))
    settings = config.get("checkpoint") if isinstance(config, dict) else None
    settings = settings if isinstance(settings, dict) else {}  # of a run in Python: it names no callbacks
    stay = _best(folder, settings.get("top"))
    if settings.get("keep_every_n_epochs", True):
        stay.update(read(newest).get("callbacks", {}).get("checkpoint", {}).get("kept", ()))
    return [path for path in there[there.index(newest) + 1 :] if path.name not in stay]


def _best(folder: Path, top: int | None) -> set[str]:
    """Names of the best, as `scores.json` has them."""
    path = folder / SCORES
    if not path.is_file():
        return set()
    content = read_json(path.read_text(encoding="utf-8"), repr(str(path)))
    scores = content.get("scores", {}) if isinstance(content, dict) else None
    if not isinstance(scores, dict) or not all(isinstance(value, (int, float)) for value in scores.values()):
        raise ValueError(f"{str(path)!r} does not say which checkpoints are the best.")
    sign = -1 if content.get("mode") == "max" else 1
    order = sorted(scores, key=lambda name: (sign * scores[name], name))
    return {str(content.get("best")), *order[:top]}
