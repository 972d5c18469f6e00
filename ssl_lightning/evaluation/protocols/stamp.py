"""What two results must share to be comparable, in one stamp."""

from __future__ import annotations

import hashlib
import json
from collections.abc import Mapping
from dataclasses import asdict, dataclass, field
from importlib.metadata import version
from typing import Any

DIGITS = 10
"""Hexadecimal digits of a digest."""
ABSENT = "(none)"
LISTED = 5
"""Differences that a line names."""


def versions() -> dict[str, str]:
    """The versions of what computes a result."""
    return {"ssl_lightning": version("ssl-lightning"), "torch": version("torch")}


@dataclass(frozen=True, kw_only=True)
class Stamp:
    """All that two results must share to be comparable, as plain values.

    Args:
        protocol: its name.
        settings: of the protocol: k, temperature, metric, draws, ...
        transform: the data's test transform (`described`).
        data: the samples to learn from and those that are judged, with their targets (`digest`).
        split: the name of the split that is judged.
        train, judged: number of samples to learn from, and that are judged.
        seed: of draws of labels, and of all else that is random.
        versions: of the packages; not part of the digest.
    """

    protocol: str
    settings: dict[str, Any]
    transform: Any
    data: str
    split: str
    train: int
    judged: int
    seed: int
    versions: dict[str, str] = field(default_factory=versions)

    @property
    def digest(self) -> str:
        """A short hash of all but the versions: equal digests, comparable numbers."""
        return digest({name: value for name, value in asdict(self).items() if name != "versions"})

    def as_json(self) -> dict[str, Any]:
        """The stamp in plain values, with its digest."""
        return {**asdict(self), "digest": self.digest}


def digest(value: Any) -> str:
    """A short hash of plain values, whatever the order of their keys."""
    return hashlib.sha256(json.dumps(value, sort_keys=True).encode()).hexdigest()[:DIGITS]


def differences(one: dict[str, Any], other: dict[str, Any]) -> dict[str, tuple[Any, Any]]:
    """What differs between two stamps, by dotted name: {"settings.k": (20, 200)}; without versions
    and digest. What one lacks is `ABSENT` there.

    Args:
        one, other: as of `Stamp.as_json`.
    """
    flat, flat_other = (_flat({k: v for k, v in each.items() if k not in ("versions", "digest")})
                        for each in (one, other))  # fmt: skip
    names = [*flat, *(name for name in flat_other if name not in flat)]
    pairs = {name: (flat.get(name, ABSENT), flat_other.get(name, ABSENT)) for name in names}
    return {name: pair for name, pair in pairs.items() if pair[0] != pair[1]}


def stamp_of(summary: Mapping[str, Any], name: str) -> dict[str, Any]:
    """The stamp of a group of values in a run's `summary.json`, such as `final`; empty where none
    is recorded."""
    stamps = summary.get("protocol")
    stamp = stamps.get(name) if isinstance(stamps, Mapping) else None
    return dict(stamp) if isinstance(stamp, Mapping) else {}


def what_differs(one: dict[str, Any], other: dict[str, Any]) -> str:
    """What differs between two stamps, in words; empty where they have the same digest."""
    if one.get("digest") == other.get("digest"):
        return ""
    words = [
        f"{name.removeprefix('settings.')} is {a} and {b}" if name != "data" else "other samples or labels"
        for name, (a, b) in differences(one, other).items()
    ]
    return "; ".join(words[:LISTED]) + "; ..." * (len(words) > LISTED)


def _flat(values: dict[str, Any], prefix: str = "") -> dict[str, Any]:
    flat: dict[str, Any] = {}
    for name, value in values.items():
        flat |= _flat(value, f"{prefix}{name}.") if isinstance(value, dict) and value else {f"{prefix}{name}": value}
    return flat
