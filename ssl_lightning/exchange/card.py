"""The card of an exported encoder: what it is, how its inputs are prepared, how good it is, and the
lines that load it without this package."""

from __future__ import annotations

import json
from collections.abc import Iterator, Mapping
from hashlib import sha256
from pathlib import Path
from typing import TYPE_CHECKING, Any

from ..encoders.base import Encoder
from ..encoders.classifier import Classifier
from ..plugins.messages import printable
from ..plugins.record import config_of
from .formats.base import Format
from .subject import Subject

if TYPE_CHECKING:
    from .export import Exported

CARD = "README.md"
SCORES = ("probe", "closing", "val", "test")
"""Parts of the names of a summary's scores."""
LONGEST = 120
"""Characters of a value in the card."""


def card_of(format: Format, subject: Subject, exported: Exported, folder: Path) -> str:
    """The card in Markdown.

    Args:
        format: in which the folder is written.
        subject: what was exported.
        exported: what it gave.
        folder: as it lies now.
    """
    facts = {**_facts(format, subject, exported), **_hashes(folder)}
    parts = [
        f"# {type(subject.encoder).__name__} for {format.library}",
        _table(facts),
        "## Input",
        _input(subject),
        "## How good",
        _scores(subject.facts),
        "## How to load it",
        f"```python\n{exported.lines}```",
        "## Config",
        f"```json\n{json.dumps(config_of(subject.encoder), indent=1)}\n```",
    ]
    return "\n\n".join(parts) + "\n"


def _facts(format: Format, subject: Subject, exported: Exported) -> dict[str, Any]:
    encoder, result = subject.encoder, "features"
    if isinstance(encoder, Classifier):
        result = "logits"
    facts = {
        "run": printable(Path(subject.run).name or subject.run),
        "format": format.name,
        result: f"{encoder.dim} values per sample",
        "pooling": pooling_of(encoder),
        **format.facts(subject),
        "checked": f"equal to {exported.difference:.1e} of the largest feature on {exported.samples}",
    }
    if isinstance(encoder, Classifier):
        facts["classes"] = ", ".join(encoder.classes)
    return facts


def pooling_of(encoder: Encoder) -> str:
    """How an encoder makes one vector of a sample, in words."""
    inner = encoder.encoder if isinstance(encoder, Classifier) else encoder
    pooling = getattr(inner, "pooling", None) or getattr(getattr(inner, "model", None), "global_pool", None)
    return str(pooling) if isinstance(pooling, str) and pooling else f"that of {type(inner).__name__}"


def _hashes(folder: Path) -> dict[str, str]:
    files = (path for path in sorted(folder.iterdir()) if path.suffix in (".safetensors", ".onnx", ".pt2", ".data"))
    return {f"sha256 of {path.name}": sha256(path.read_bytes()).hexdigest() for path in files}


def _input(subject: Subject) -> str:
    told, shape = subject.preparation, list(subject.inputs.x.shape[1:])
    lines = [f"`x` is one prepared batch, [S, {', '.join(map(str, shape))}]: standardised already, as below."]
    if subject.inputs.mask is not None:
        lines = ["`x` is one prepared batch, and `mask` [S, N] says which of it is real (1) and which padding (0)."]
    if told is None:
        return f"{lines[0]} Nothing says how an item is prepared: the run's data does not read single ones."
    return "\n\n".join([*lines, _table(told.facts), *([told.remark] if told.remark else [])])


def _scores(summary: Mapping[str, Any]) -> str:
    scores = dict(_numbers({name: value for name, value in summary.items() if name != "protocol"}))
    return _table(scores) if scores else "Nothing is known: the run left no summary.json beside its encoder."


def _numbers(summary: Mapping[str, Any], before: str = "") -> Iterator[tuple[str, str]]:
    for name, value in summary.items():
        whole = f"{before}{name}"
        if isinstance(value, Mapping):
            yield from _numbers(value, f"{whole}/")
        elif isinstance(value, float) and any(part in whole for part in SCORES):
            yield whole, f"{value:.4g}"


def _table(facts: Mapping[str, Any]) -> str:
    rows = (f"| {name} | {_cell(value)} |" for name, value in facts.items() if value is not None)
    return "\n".join(["| | |", "| --- | --- |", *rows])


def _cell(value: Any) -> str:
    text = " ".join(str(value).split()).replace("|", "\\|")
    return text if len(text) <= LONGEST else f"{text[:LONGEST]}..."
