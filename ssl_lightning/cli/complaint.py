"""jsonargparse's nested error messages reduced to one useful line."""

from __future__ import annotations

import importlib
import re
from collections.abc import Iterable

from ..plugins.arguments import parameters
from ..plugins.messages import did_you_mean
from ..plugins.registry import LOGGERS
from .habits import meant_by, same_as

NOISE = ("Expected a <class 'NoneType'>", "Expected a path but")


def in_one_line(message: str, options: Iterable[str]) -> str:
    """A message in one line: what is wrong, the key as a user writes it, the value, and the nearest
    known key.

    Args:
        message: jsonargparse's message, which lists the nested keys on separate lines, each with
            every type that a Union would also have accepted.
        options: every option of the command (`--trainer.max_epochs`), with those of the chosen
            classes.
    """
    where = _joined(re.findall(r'Parser key "([^"]*)"', message))
    early = re.search(r"NestedArg\(key='([^']*)'", message)
    if early and where and "class_path" not in message:
        example = f", such as --{where} {next(reversed(LOGGERS))}" if where == "trainer.logger" else ""
        return f"--{where}.{early[1]} belongs to a class: give --{where} before it{example}."
    unknown = re.search(r"unrecognized arguments: (\S+)|does not accept option '(.*)'", message)
    if unknown and unknown[1] and not unknown[1].startswith("-"):
        key, equals, _ = unknown[1].partition("=")
        return f"{unknown[1]!r} does not belong to any option.{meant_by(f'--{key}', options) if equals else ''}"
    if unknown:
        typed = unknown[1] or "--" + unknown[2].removeprefix("--")
        return _unknown(typed.partition("=")[0], options)
    unknown = re.search(r"Option '(.*)' is not accepted", message)
    if unknown:
        owner = re.findall(r"Problem with given class_path '(.*)'", message)
        return _unknown(f"--{where}.{unknown[1]}", options, owner[-1] if owner else "")
    missing = re.search(r"the following arguments are required: (.*)", message)
    if missing:
        keys = (f"--{where}.{key}" if where else f"--{key.partition('.')[2] or key}" for key in missing[1].split(", "))
        return f"Missing: {', '.join(keys)}."
    alone = re.fullmatch(r"argument (.*): expected .*", message)
    if alone:
        return f"{alone[1]} needs a value."
    return _leaf(message, f"--{where}" if where else "The command line")


def _joined(keys: Iterable[str]) -> str:
    """Nested keys as one; jsonargparse may say the last of them twice."""
    joined = ""
    for key in keys:
        if f".{joined}".endswith(f".{key}") and joined:
            continue
        joined = f"{joined}.{key}" if joined else key
    return joined


def _unknown(option: str, options: Iterable[str], owner: str = "") -> str:
    """What is said of an option that neither the command nor the class at `owner` has."""
    before, _, name = option.rpartition(".")
    takes = _arguments(owner) if owner else []
    if not takes:
        meant = meant_by(option, options)
    elif same := same_as(option, [*options, *(f"{before}.{each}" for each in takes)]):
        meant = f" Did you mean {same!r}?"
    elif near := did_you_mean(name, takes):
        meant = near.replace(" '", f" '{before}.")
    else:
        meant = f" {owner.rpartition('.')[2]} takes {', '.join(takes)}."
    return f"There is no option {option}.{meant}"


def _arguments(class_path: str) -> list[str]:
    module, _, name = class_path.rpartition(".")
    return list(parameters(getattr(importlib.import_module(module), name)))


def _leaf(message: str, where: str) -> str:
    """The expected type according to the innermost lines, and the value that was given."""
    lines = [
        line
        for line in message.splitlines()
        if line.strip() and not re.match(r"\s*(Given|Errors|Subtypes|Parser key)", line)
    ]
    lines = [line for line in lines if not any(noise in line for noise in NOISE)] or lines
    depth = max(len(line) - len(line.lstrip()) for line in lines)
    deepest = [line.strip(" -") for line in lines if len(line) - len(line.lstrip()) == depth]
    other = [line for line in deepest if not line.startswith("Expected a")]
    if other:
        return f"{where}: {other[0].rstrip('.')}."
    expected = dict.fromkeys(re.sub(r"Expected an? |\. Got value: .*", "", line) for line in deepest)
    given = re.search(r"(?:Got value|Given value): (.*)", message)
    choices = [choice for text in expected if "Literal" in text for choice in re.findall(r"'([^']*)'", text)]
    value = given[1].strip() if given else ""
    return f"{where} expects {' or '.join(map(_readable, expected))}, got {value!r}.{did_you_mean(value, choices)}"


def _readable(expected: str) -> str:
    """`<class 'int'>` and `typing.Literal['a', 'b']` in plain words."""
    expected = re.sub(r"<class '(?:.*\.)?(\w+)'>", r"\1", expected)
    expected = re.sub(r"typing\.Literal\[(.*)\]", r"one of \1", expected)
    return "a class path" if expected.startswith("dot import path") else expected
