"""What a file's config may do: name classes, and give them plain values. Nothing in it runs.

A config in a checkpoint or in an encoder's file is judged here before any of its classes is
imported or built. A config file that the user writes is not: it is code by design, as for every
LightningCLI.
"""

from __future__ import annotations

import importlib
import json
import os
import sys
from collections import Counter
from collections.abc import Callable, Iterable
from functools import partial
from pathlib import PurePath
from types import NoneType
from typing import Any

import yaml

from .arguments import argument_types, item_of, kinds_of
from .installed import installed
from .record import GROUPS, PLAIN, Recorded

PACKAGE = "ssl_lightning"
LOADER: Any = getattr(yaml, "CSafeLoader", yaml.SafeLoader)
"""Of plain values alone; in C ten times as fast."""
LONGEST = 4 << 20
"""Characters in the text of a config."""
DEEPEST = 32
"""Levels of lists and dicts in a config."""
MOST = 20_000
"""Values in a config, after the anchors of YAML were followed."""


def read_yaml(text: str, where: str) -> Any:
    """Returns the plain values of a YAML text.

    Args:
        text: the config.
        where: what holds it, for messages.

    Raises:
        ValueError: it is not YAML, or is larger than any config.
    """
    return _read(text, where, _load_yaml)


def read_json(text: str, where: str) -> Any:
    """Returns the plain values of a JSON text; otherwise as `read_yaml`."""
    return _read(text, where, partial(json.loads, object_pairs_hook=_pairs))


def _read(text: str, where: str, load: Callable[[str], Any]) -> Any:
    if len(text) > LONGEST:
        raise ValueError(f"{where} holds a config of {len(text):,} characters; at most {LONGEST:,} are read.")
    try:
        config = load(text)
    except (ValueError, yaml.YAMLError, RecursionError) as error:
        reason = " ".join(str(error).split())
        raise ValueError(f"{where} holds a config that cannot be read: {reason}") from error
    _check_size(config, where)
    return config


def refuse_twice(text: str) -> None:
    """Raises ValueError where a YAML mapping gives a key twice, of which all loaders silently take
    the last."""
    keys: list[dict[str, int] | None] = []  # of each open mapping those seen, by line; None in a list
    waits: list[bool] = []  # whether the next node in it is a key
    for event in yaml.parse(text, LOADER):
        if isinstance(event, yaml.CollectionEndEvent):
            keys.pop(), waits.pop()
        elif isinstance(event, yaml.NodeEvent):
            if keys and (seen := keys[-1]) is not None:
                if waits[-1] and isinstance(event, yaml.ScalarEvent):
                    line = event.start_mark.line + 1
                    if event.value in seen:
                        raise ValueError(
                            f"the key {event.value!r} is given twice, in lines {seen[event.value]} and {line}."
                        )
                    seen[event.value] = line
                waits[-1] = not waits[-1]
            if isinstance(event, yaml.CollectionStartEvent):
                keys.append({} if isinstance(event, yaml.MappingStartEvent) else None)
                waits.append(True)


def _pairs(pairs: list[tuple[str, Any]]) -> dict[str, Any]:
    twice = next((key for key, count in Counter(key for key, _ in pairs).items() if count > 1), None)
    if twice is not None:
        raise ValueError(f"the key {twice!r} is given twice.")
    return dict(pairs)


def _load_yaml(text: str) -> Any:
    depth = 0
    for number, event in enumerate(yaml.parse(text, LOADER)):  # events come without recursion
        if number > 2 * MOST:
            raise ValueError(f"it has more than {MOST:,} values.")
        depth += isinstance(event, yaml.CollectionStartEvent) - isinstance(event, yaml.CollectionEndEvent)
        if depth > DEEPEST:
            raise ValueError(f"it nests more than {DEEPEST} levels deep.")
        if isinstance(event, yaml.ScalarEvent) and event.value == "<<" and event.implicit[0]:
            raise ValueError("it merges mappings (`<<`), which may double with each.")
    refuse_twice(text)
    return yaml.load(text, LOADER)


def _check_size(config: Any, where: str) -> None:
    """Counts values as often as they are reached, so that those which share parts count in full."""
    count, waiting = 0, [(config, 0)]
    while waiting:
        value, depth = waiting.pop()
        count += 1
        if count > MOST or depth > DEEPEST:
            raise ValueError(
                f"{where} holds a config of more than {MOST:,} values or {DEEPEST} levels, which no run has written."
            )
        if isinstance(value, dict):
            waiting += [(item, depth + 1) for item in value.values()]
        elif isinstance(value, (list, tuple)):
            waiting += [(item, depth + 1) for item in value]


def judge(config: Any, where: str = "The config", trust: Iterable[str] = ()) -> None:
    """Checks what `config_of` returned for an object, before any of it is built.

    Args:
        config: `{"class_path": ..., "init_args": {...}}`, or plain values and lists and dicts of
            such.
        where: what holds it, for messages.
        trust: further top-level packages, or class paths, that it may name.

    Raises:
        ValueError: it names a class that it may not, or gives a class where plain values belong, or
            text that a parser would take for more than text.
    """
    _check_size(config, where)
    _judge_value(config, Any, where, "", tuple(trust))


def judge_arguments(cls: type, arguments: dict[str, Any], where: str, trust: Iterable[str] = ()) -> None:
    """Checks arguments from a file for the constructor of a class; otherwise as `judge`."""
    hints = argument_types(cls)
    for name, value in arguments.items():
        if name not in hints:
            raise ValueError(f"{where} gives {cls.__name__} the argument {name!r}, which it does not have.")
        _judge_value(value, hints[name], where, f"{cls.__name__}({name}=...)", tuple(trust))


def _judge_object(config: dict[str, Any], where: str, trust: tuple[str, ...]) -> None:
    if not isinstance(config["class_path"], str):
        raise ValueError(f"{where} names no class where one belongs: {str(config)[:80]!r}.")
    init_args = config.get("init_args") or {}
    unknown = sorted(map(str, config.keys() - {"class_path", "init_args"}))
    if unknown or not isinstance(init_args, dict) or not all(isinstance(name, str) for name in init_args):
        raise ValueError(f"{where} does not describe {config['class_path']!r} by `class_path` and `init_args`.")
    judge_arguments(trusted_class(config["class_path"], where, trust), init_args, where, trust)


def _judge_value(value: Any, hint: Any, where: str, argument: str, trust: tuple[str, ...]) -> None:
    kinds = set(kinds_of(hint))
    if isinstance(value, dict) and "class_path" in value:
        if not any(kind is Any or (isinstance(kind, type) and issubclass(kind, Recorded)) for kind in kinds):
            raise ValueError(
                f"{where} names {str(value['class_path'])[:80]!r}, but {argument} takes plain values and no class."
            )
        _judge_object(value, where, trust)
    elif isinstance(value, (dict, list, tuple)):
        for item in value.values() if isinstance(value, dict) else value:
            _judge_value(item, item_of(hint), where, argument, trust)
    elif isinstance(value, str):
        _judge_text(value, kinds, where, argument)
    elif not isinstance(value, PLAIN):
        raise ValueError(f"{where} gives {argument} a {type(value).__name__}, which is not a plain value.")


def _judge_text(text: str, kinds: set[Any], where: str, argument: str) -> None:
    """Refuses text that the command line's parser would read as a config, or as the name of one."""
    if kinds <= {str, PurePath, NoneType, bool, int, float}:
        return
    if not kinds & {str, PurePath, Any, object}:
        raise ValueError(f"{where} gives {argument} the text {text[:80]!r}, which it does not take.")
    try:
        meaning = read_yaml(text, where)
    except ValueError:
        meaning = text
    if isinstance(meaning, (dict, list)) or os.path.exists(text):
        raise ValueError(f"{where} gives {argument} a config, or the name of a file, as text: {text[:80]!r}.")


def may_build(path: str) -> bool:
    """Whether a file may name this class: it belongs to this package, or an installed plug-in
    registers it. Nothing is imported."""
    registered = {point.value.replace(":", ".") for group in GROUPS for point in installed(group)}
    own = path.startswith(f"{PACKAGE}.") and not path.rpartition(".")[0].endswith("__main__")
    return own or path in registered


def trusted_class(path: str, where: str = "The config", trust: Iterable[str] = ()) -> type[Recorded]:
    """Returns the class that a file's config names: one of this package, one that an installed
    plug-in registers, one of a package in `trust`, or one whose module is imported already.

    Raises:
        ValueError: it is none of these. No other module is imported.
    """
    if "<locals>" in path:
        raise ValueError(
            f"{where} names {path!r}, a class inside a function, which cannot be imported; move it to its module's top"
            " level."
        )
    module_name, _, name = path.rpartition(".")
    package = module_name.partition(".")[0]
    if may_build(path) or {path, package} & set(trust):
        try:
            module = importlib.import_module(module_name)
        except (ImportError, ValueError) as error:
            raise ValueError(f"{where} names {path!r}, whose module cannot be imported: {error}.") from error
    elif module_name in sys.modules:
        module = sys.modules[module_name]
    else:
        raise ValueError(
            f"{where} names {path!r}, which is neither registered by an installed plug-in nor imported. If you trust"
            f" it: load(path, trust=[{package!r}])."
        )
    cls = vars(module).get(name)
    if not (isinstance(cls, type) and issubclass(cls, Recorded)):
        raise ValueError(f"{where} names {path!r}, which is not a method, encoder or datamodule of ssl_lightning.")
    return cls
