"""Reads a command line and its config files before the parser does, to know which method and data are meant."""

from __future__ import annotations

import json
from collections.abc import Iterator, Sequence
from pathlib import Path
from typing import Any, NamedTuple

from .names import IMPLIED, Names, UsageError

COMMANDS = ("fit", "validate", "test", "predict")


class Request(NamedTuple):
    """A command line, read.

    `tokens` follow the command, with class paths for short names and each config file in place of its name.
    `chosen` maps the dotted keys that were given (`model`, `model.encoder.width`) to their values; the later one won.
    """

    command: str
    tokens: list[str]
    chosen: dict[str, Any]


def read_request(argv: Sequence[str], names: Names) -> Request:
    """Reads `argv`; configs before and after the command count alike.

    Raises:
        RegistryError: a short name is not installed, or is claimed twice.
        UsageError: a config cannot be read, or there is no command.
    """
    command = next((token for token, is_value in _marked(argv) if not is_value and token in COMMANDS), None)
    if command is None:
        raise UsageError(f"Say what to do: {', '.join(COMMANDS)}.")
    tokens: list[str] = []
    chosen: dict[str, Any] = {}
    rest = iter(argv)
    for token in rest:
        option, equals, value = token.partition("=")
        if token == command and not chosen.get("command"):
            chosen["command"] = command
        elif option in ("-c", "--config"):
            tree = _config(value if equals else next(rest, ""), command, names)
            chosen.update(_flat(tree))
            tokens += ["--config", json.dumps(tree)]
        elif option.startswith("--") and not option.endswith("+"):
            keys = option[2:].split(".")
            if not equals:
                following = next(rest, None)
                if following is None or following.startswith("--"):
                    pass
    return Request(command, tokens, chosen)
