"""What tells runs apart: their settings, seeds and names."""

from __future__ import annotations

import json
import re
from collections import Counter
from collections.abc import Iterator, Mapping, Sequence
from functools import cache
from typing import Any

from ...plugins.registry import Registry
from .files import plain
from .recorded import PastRun

GROUPS = ("ssl_lightning.methods", "ssl_lightning.datamodules", "ssl_lightning.encoders")
INCIDENTAL = frozenset(
    f"trainer.{name}"
    for name in (
        "accelerator", "barebones", "callbacks", "default_root_dir", "devices", "enable_autolog_hparams",
        "enable_checkpointing", "enable_model_summary", "enable_progress_bar", "inference_mode", "log_every_n_steps",
        "logger", "model_registry", "num_nodes", "plugins", "profiler", "strategy", "use_distributed_sampler",
    )
) | frozenset(f"data.{name}" for name in ("augment_on", "cache", "predict_split", "worker_timeout", "workers")) | {
    "ckpt_path", "model.compile", "weights_only",
}  # fmt: skip
"""Settings of where and how fast a run goes, which are not compared."""
WATCHING = (
    "checkpoint", "collapse", "health", "held_out", "knn_probe", "meter", "online_probe", "progress", "resume",
    "spectrum",
)  # fmt: skip
"""Sections that shape neither what is learned nor the closing table."""
SEED = re.compile(r"seed_everything|.*\.seed")
WORDLESS = re.compile(r"|null|true|false|[-+]?[\d.]+(e[-+]?\d+)?|[\[{].*", re.IGNORECASE | re.DOTALL)
"""Text that would be taken for another value without its quotes."""
ABSENT = "\N{EN DASH}"
"""A setting that a run does not have."""


def flat(config: Any, key: str = "") -> Iterator[tuple[str, Any]]:
    """The settings of a config by dotted key, without those that are incidental; a class is the
    setting of its own key, and its arguments stand below it."""
    if key in INCIDENTAL:
        return
    if not isinstance(config, dict) or not config:
        yield plain(key), config
        return
    if "class_path" in config:
        yield key, config["class_path"]
        config = {**(config.get("init_args") or {}), **(config.get("dict_kwargs") or {})}
    for name, value in config.items():
        yield from flat(value, f"{key}.{name}" if key else str(name))


@cache
def short_names() -> dict[str, str]:
    """The names of installed methods, datamodules and encoders, by class path."""
    return {plugin.path: name for group in GROUPS for name, plugin in Registry(group).plugins.items()}


def shown(value: Any) -> Any:
    """A setting as it is printed: a class by its short name, numbers and text as they are."""
    if isinstance(value, str):
        return short_names().get(value, json.dumps(value) if WORDLESS.fullmatch(value) else plain(value))
    return value if isinstance(value, (int, float)) and not isinstance(value, bool) else json.dumps(value)


def name_in(run: PastRun, key: str) -> str:
    """The short name of the method ("model") or the data of a run; for a class that is not
    installed, its own."""
    config = (run.config or run.resolved).get(key)
    path = str(config.get("class_path", "")) if isinstance(config, dict) else ""
    return short_names().get(path, plain(path).rpartition(".")[2].lower()) or (
        "loaders" if key == "data" else "unknown"
    )


def seed_of(run: PastRun) -> Any:
    """The seed of a run; None where none is recorded."""
    settings = dict(flat(run.resolved or run.config))
    return settings.get("seed_everything", settings.get("data.seed"))


def names_of(runs: Sequence[PastRun], seeds: bool = True) -> list[str]:
    """A name for each run, of what tells it from the others: method, data, seed, then its folder.

    Args:
        runs: to be told apart.
        seeds: whether a seed may be part of a name.
    """
    parts = []
    for run in runs:
        seed = seed_of(run) if seeds else None
        parts.append([name_in(run, "model"), name_in(run, "data"), "" if seed is None else f"seed {seed}"])
    differ = [len(set(column)) > 1 for column in zip(*parts, strict=True)]
    named = [[part for part, differs in zip(each, differ, strict=True) if differs and part] for each in parts]
    first = ["-".join(each[:2]) for each in parts]
    names = [" ".join(each) or whole for each, whole in zip(named, first, strict=True)]
    for longer in (lambda run: run.folder.resolve().name, lambda run: str(run.folder.resolve())):
        count = Counter(names)
        names = [
            f"{name} {longer(run)}".strip() if count[name] > 1 else name for name, run in zip(names, runs, strict=True)
        ]
    return names


def configs_of(runs: Sequence[PastRun]) -> list[dict[str, Any]]:
    """The flat settings of runs: resolved, or, where an older version left a run without
    `resolved.yaml`, of all as they were given."""
    whole = all(run.resolved for run in runs)
    return [dict(flat(run.resolved if whole else run.config or run.resolved)) for run in runs]


def differing(runs: Sequence[PastRun]) -> dict[str, list[Any]]:
    """The settings in which runs differ: the value of each run, by key; `ABSENT` where a run does
    not have it. Those that all have come first."""
    settings = configs_of(runs)
    keys = sorted(dict.fromkeys(key for each in settings for key in each), key=_section)
    values = {key: [each.get(key, ABSENT) for each in settings] for key in keys}
    rows = {key: each for key, each in values.items() if any(_text(value) != _text(each[0]) for value in each)}
    return dict(sorted(rows.items(), key=lambda row: ABSENT in row[1]))


def _section(key: str) -> int:
    """Method and data stand first."""
    return {"model": 0, "data": 1}.get(key.partition(".")[0], 2)


def groups_of(runs: Sequence[PastRun]) -> list[list[PastRun]]:
    """Runs that are equal but for their seed, together. Two of the same seed are one, done twice:
    the second is a group of its own."""
    groups: list[tuple[str, list[PastRun]]] = []
    for run, settings in zip(runs, configs_of(runs), strict=True):
        what = _learned(settings)
        for other, group in groups:
            if what and what == other and seed_of(run) not in map(seed_of, group):
                group.append(run)
                break
        else:
            groups.append((what, [run]))
    return [group for _, group in groups]


def _learned(settings: Mapping[str, Any]) -> str:
    """What a run learns and is judged by, apart from its seed; empty where it is not known."""
    kept = {
        key: value
        for key, value in settings.items()
        if not SEED.fullmatch(key) and key.partition(".")[0] not in WATCHING
    }
    return _text(kept) if "model" in kept else ""


def _text(value: Any) -> str:
    """A value by which it is compared: 10 and 10.0 are the same."""
    if isinstance(value, float) and value.is_integer():
        value = int(value)
    return json.dumps(value, sort_keys=True, default=str)
