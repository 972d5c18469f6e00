"""The files that a run leaves besides its checkpoints: the encoder, its card, `summary.json`."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

from ..data.datamodule import SSLDataModule
from ..data.files.atomic import write_text
from ..data.modality import loading_lines
from ..plugins.record import class_path
from ..run.checkpoints.encoder_file import save_encoder, write_card
from ..run.checkpoints.names import PATTERN
from ..run.failures import failures_of
from ..run.folder.folder import place_name, resolved, run_name
from ..run.folder.metrics import rows_of, speed_of
from ..run.meter import run_totals
from .supervised import CLASSIFIER, Supervised


def write_encoder(trainer: Any, pl_module: Any, folder: Path) -> None:
    """Writes the encoder as the run ended; of a supervised method the classifier too."""
    data = trainer.datamodule
    artifacts = data.artifacts() if isinstance(data, SSLDataModule) else {}
    facts = {"run": str(folder.name), "checkpoint": PATTERN.format(step=trainer.global_step)}
    if isinstance(data, SSLDataModule) and (reads := data.reads_items()) is not None:
        facts["reads"] = class_path(reads)
    save_encoder(pl_module.backbone, folder / "encoder.safetensors", artifacts, **facts)
    if isinstance(pl_module, Supervised):
        classifier = pl_module.as_classifier(getattr(data, "class_names", None))
        save_encoder(classifier, folder / CLASSIFIER, artifacts, **facts)


def write_results(trainer: Any, pl_module: Any, folder: Path, results: dict[str, Any], table: str) -> dict[str, Any]:
    """Writes `summary.json` and the encoder's card.

    Args:
        trainer: of the run.
        pl_module: the method.
        folder: the run folder.
        results: what the summary holds besides the run's last values, size, speed and versions.
        table: the closing tables as text, or why there are none.

    Returns:
        The summary.
    """
    summary = {**summary_of(trainer), **results}
    write_text(folder / "summary.json", json.dumps(summary, indent=1))
    title = f"{run_name(pl_module, trainer.datamodule)}: encoder"
    facts, lines = card_facts(pl_module, trainer.datamodule, summary), how_to_load(trainer, pl_module, folder)
    write_card(folder / "encoder.md", title, facts, table, lines)
    return summary


def summary_of(trainer: Any) -> dict[str, Any]:
    """The run in one flat dictionary: final values, size, speed, versions, hardware."""
    last: dict[str, Any] = {}
    for row in (*rows_of(trainer), *speed_of(trainer)):
        last.update({name: value for name, value in row.items() if name != "step"})
    seconds, samples = run_totals(trainer)
    return {
        **last,
        "steps": trainer.global_step,
        "seconds": round(seconds, 3),
        "samples_per_s": round(samples / max(seconds, 1e-9), 1),
        "failed_writes": failures_of(trainer).count,
        **resolved(trainer),
    }


def how_to_load(trainer: Any, pl_module: Any, folder: Path) -> str:
    """Python lines that load the encoder of a run."""
    data, dim = trainer.datamodule, pl_module.backbone.dim
    return data.how_to_load(folder, dim) if isinstance(data, SSLDataModule) else loading_lines(folder, dim)


def card_facts(pl_module: Any, data: Any, summary: dict[str, Any]) -> dict[str, Any]:
    """The facts in the first table of the encoder's card."""
    encoder = pl_module.backbone
    pooling = getattr(encoder, "pooling", None)
    return {
        "method": type(pl_module).__name__,
        "data": type(data).__name__ + (f", {place}" if (place := place_name(data)) else ""),
        "encoder": type(encoder).__name__,
        "features": f"{encoder.dim} values per sample: `forward` of the method, in eval mode",
        **({"pooling": pooling} if isinstance(pooling, str) else {}),
        **{name: summary[name] for name in ("steps", "seconds", "precision", "hardware/device", "versions/torch")},
    }
