"""The command line and its config files are read here before the parser sees them, to know which
method and data were chosen."""

from __future__ import annotations

import json
from collections.abc import Iterator, Sequence
from pathlib import Path
from typing import Any, NamedTuple

from ..plugins.moved import KEYS, renamed_key
from .configs import config_file
from .habits import COMMANDS, no_command
from .names import IMPLIED, Names, UsageError, kind_of

SHORT = {
    ("fit", "--minutes"): "--trainer.minutes",
    ("fit", "--from"): "--start.weights",
    ("predict", "--out"): "--evaluation.out",
}
"""Options that have a short name, by their command."""


class Request(NamedTuple):
    """A command line after reading.

    `tokens` follow the command, with short names replaced by class paths and names of config files
    by the files' contents. `chosen` maps the dotted keys that were given (`model`,
    `model.encoder.width`) to their values; of several values for a key it holds the last.
    """

    command: str
    tokens: list[str]
    chosen: dict[str, Any]


def read_request(argv: Sequence[str], names: Names) -> Request:
    """Reads `argv`; a config given before the command counts like one after it.

    Raises:
        RegistryError: a short name is not installed, or is claimed twice.
        UsageError: there is no such command, or a config cannot be read.
    """
    options = list(_options(argv))
    command = next((value for option, value, _ in options if option == ""), None)
    if command not in COMMANDS:
        missing = f"The command is missing; give one of {', '.join(COMMANDS)}."
        raise UsageError(no_command(command) if command else missing)
    tokens: list[str] = []
    chosen: dict[str, Any] = {}
    earlier: dict[str, str] = {}  # options given under their earlier names, by their first keys
    for option, value, attached in options:
        option = SHORT.get((str(command), option), option)
        if (first := option[2:].partition(".")[0]) in KEYS:
            earlier[first], option = option, f"--{renamed_key(option[2:])}"
        if option in ("-c", "--config"):
            tree = _config(value, command, names)
            chosen.update(_flat(tree))
            tokens += ["--config", json.dumps(tree)]
        elif value is None:
            if option.startswith(("--model", "--data")) and not option.endswith(".help"):
                raise UsageError(f"{option} needs a value.")
            tokens.append(option)
        elif option:
            keys = option[2:].split(".")
            value = _checkpoint(value) if keys == ["ckpt_path"] else value
            value, given = _argument(keys, value, names)
            chosen.update(given)
            tokens += [f"{option}={value}"] if attached else [option, value]
        elif value != command:
            tokens.append(value)
    model = chosen.get("model")
    name = names.registries["methods"].name_of(model) if isinstance(model, str) else None
    if name in earlier:
        rest = earlier[name].partition(".")[2]
        raise UsageError(
            f"{earlier[name]} is ambiguous: it could mean the method {name} or the callback that had this name before;"
            f" give --model.{rest} or --{KEYS[name]}.{rest}."
        )
    return Request(str(command), tokens, chosen)


def _options(argv: Sequence[str]) -> Iterator[tuple[str, str | None, bool]]:
    """Yields (option, its value or None, whether they were one token); a token that does not belong
    to any option is a value of ""."""
    waiting = ""
    named = False
    for token in argv:
        if token.startswith("--") or token in ("-c", "-h"):
            if waiting:
                yield waiting, None, False
            waiting, equals, value = token.partition("=")
            if equals:
                yield waiting, value, True
                waiting = ""
        elif token in COMMANDS and not named and waiting not in ("-c", "--config"):
            if waiting:
                yield waiting, None, False
            yield "", token, False
            waiting, named = "", True
        else:
            yield waiting, token, False
            waiting = ""
    if waiting:
        yield waiting, None, False


def _config(value: str | None, command: str, names: Names) -> dict[str, Any]:
    """The contents of a config for this command: all of it, or those under the command's name."""
    if not value:
        raise UsageError("--config needs a value: a file, or the name of a config that ships.")
    text = value.lstrip()
    path = None if text.startswith("{") else config_file(value)
    tree = names.read(path) if path else names.parse(text, "--config")
    if tree is not None and not isinstance(tree, dict):
        raise UsageError(f"The config {value!r} does not hold a mapping of keys to values.")
    if tree and set(tree) <= set(COMMANDS):
        tree = tree.get(command)
    tree = {renamed_key(str(key)): value for key, value in (tree or {}).items()}
    expanded: dict[str, Any] = names.expand(tree, (), path.parent if path else Path())
    data = expanded.get("data")
    init_args = data.get("init_args") if isinstance(data, dict) else None
    if init_args and "seed" in init_args and init_args["seed"] == expanded.get("seed_everything"):
        del init_args["seed"]  # a complete config: its data follows the one seed, even if that is overridden
    return expanded


def _checkpoint(value: str) -> str:
    """The path of a checkpoint, or of the newest one in a run folder."""
    from ..run.checkpoints.checkpoint import newest_of  # imported here: it imports torch, which the lists do not need

    try:
        return str(newest_of(value))
    except FileNotFoundError as error:
        raise UsageError(str(error)) from error


def _argument(keys: list[str], text: str, names: Names) -> tuple[str, dict[str, Any]]:
    """An option's value for the parser, and the dotted keys with the values that it sets."""
    if keys[-1] == "help":
        value = names.expand(text, keys[:-1])
        return value if isinstance(value, str) else value["class_path"], {}
    tree = names.parse(text, "--" + ".".join(keys)) if text.startswith(("{", "[")) else text
    tree = names.expand(tree, keys) if keys[0] in ("model", "data") or kind_of(keys) else tree
    if tree == text:
        return text, _flat(names.scalar(text), keys)
    return tree if isinstance(tree, str) else json.dumps(tree), _flat(tree, keys)


def _flat(tree: Any, keys: Sequence[str] = ()) -> dict[str, Any]:
    """{"model": {"class_path": c, "init_args": {"width": 3}}} -> {"model": c, "model.width": 3}."""
    if not isinstance(tree, dict):
        return {".".join(key for key in keys if key not in IMPLIED): tree}
    flat: dict[str, Any] = {}
    for key, value in tree.items():
        flat.update(_flat(value, (*keys, *str(key).split("."))))
    return flat
