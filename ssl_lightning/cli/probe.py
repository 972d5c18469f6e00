"""`ssl-lightning probe`: protocols on the features of a run's encoder and of its baselines."""

from __future__ import annotations

import argparse
from pathlib import Path
from typing import Any

from ..evaluation.protocols.known import OF_TOKENS, PROTOCOLS, check_protocol
from ..evaluation.protocols.targets import Targets, read_targets
from ..evaluation.table import CURVE_ROWS
from ..plugins.messages import did_you_mean, printable
from .names import UsageError

ROWS = tuple(row for row in CURVE_ROWS if row not in ("finetuned", "end_to_end", "labels_only"))
"""Rows of features."""
FROM_FILE = ("values", "multilabel")
"""Kinds of targets that come from `--targets`."""
LONGEST_SEED = 2**63 - 1


def main(options: argparse.Namespace) -> int:
    """Applies the protocols that the command line names; see `verbs`."""
    names = _listed(options.by, "--by", PROTOCOLS)
    for name in names:
        check_protocol(name)
    rows = None if options.rows is None else _listed(options.rows, "--rows", ROWS)
    if wrong := [row for row in rows or () if row not in ROWS]:
        raise UsageError(
            f"There is no row {wrong[0]!r} of features.{did_you_mean(wrong[0], ROWS)} Rows: {', '.join(ROWS)}."
        )
    settings = dict(_setting(text, names) for text in options.set)
    if options.seed > LONGEST_SEED:
        raise UsageError(f"--seed {options.seed} is too large; give at most {LONGEST_SEED}.")
    targets, files = _targets(options.targets, names), _token_files(options, names)
    to = None if options.to is None else _file(Path(options.to).expanduser())
    from .probing import probe  # here: it imports torch

    return probe(options, names, rows, settings, targets, to, files)


def _listed(text: str, option: str, known: Any) -> list[str]:
    """The names in a list with commas."""
    names = [each.strip() for each in text.split(",") if each.strip()]
    if not names:
        raise UsageError(f"{option} {text!r} names none; give some of {', '.join(known)}.")
    if twice := [name for name in names if names.count(name) > 1]:
        raise UsageError(f"{option} names {twice[0]!r} twice; name it once.")
    return names


def _setting(text: str, names: list[str]) -> tuple[tuple[str, str], str]:
    """A setting by its protocol and name, as text."""
    left, equals, value = text.partition("=")
    protocol, dot, name = left.partition(".")
    if not (equals and dot and name and value):
        raise UsageError(f"--set {text!r} is no setting; write it as PROTOCOL.NAME=VALUE, such as knn.k=200.")
    if protocol not in names:
        raise UsageError(f"--set {text!r} is of {protocol!r}, which --by does not name ({', '.join(names)}).")
    return (protocol, name), value


def _targets(file: str | None, names: list[str]) -> Targets | None:
    """The targets of a file; None where no protocol needs them.

    Raises:
        UsageError: a protocol needs a file, or what it lacks; or none needs it.
    """
    needy = {name: str(PROTOCOLS[name].target) for name in names if PROTOCOLS[name].target in FROM_FILE}
    if file is None:
        if needy:
            raise UsageError(f"--by {next(iter(needy))} needs targets; give them with --targets FILE.")
        return None
    if not needy:
        others = ", ".join(name for name, each in PROTOCOLS.items() if each.target in FROM_FILE)
        raise UsageError(f"None of --by {','.join(names)} reads --targets; leave it out, or add {others}.")
    path = Path(file).expanduser()
    if not path.is_file():
        raise FileNotFoundError(f"--targets {printable(file)} is no file.")
    targets = read_targets(path)
    lacking = {"values": not targets.columns, "multilabel": not targets.labels}
    for name, kind in needy.items():
        if lacking[kind]:
            what = "column of numbers" if kind == "values" else "column of 0 and 1, nor lists of labels"
            raise UsageError(f"--by {name}: --targets {printable(file)} has no {what}; add one, or leave {name} out.")
    return targets


def _token_files(options: argparse.Namespace, names: list[str]) -> dict[str, Path]:
    """The files of the targets of tokens, by option.

    Raises:
        UsageError: a protocol lacks one, or none needs it.
        FileNotFoundError: there is no such file or folder.
    """
    needed = {option: name for name in names for option in OF_TOKENS.get(str(PROTOCOLS[name].target), ())}
    files = {}
    for option in (each for options_of in OF_TOKENS.values() for each in options_of):
        given, written = getattr(options, option), f"--{option.replace('_', '-')}"
        if given is None and option in needed:
            what = "FOLDER" if option == "masks" else "FILE"
            raise UsageError(f"--by {needed[option]} needs targets; give them with {written} {what}.")
        if given is not None and option not in needed:
            add = next(name for name, each in PROTOCOLS.items() if option in OF_TOKENS.get(str(each.target), ()))
            raise UsageError(f"None of --by {','.join(names)} reads {written}; leave it out, or add {add}.")
        if given is not None:
            files[option] = Path(given).expanduser()
            there = files[option].is_dir() if option == "masks" else files[option].is_file()
            if not there:
                raise FileNotFoundError(
                    f"{written} {printable(given)} is no {'folder' if option == 'masks' else 'file'}."
                )
    return files


def _file(path: Path) -> Path:
    """Raises UsageError where results cannot be written to a path."""
    if path.is_dir() or path.suffix != ".json":
        raise UsageError(f"--to {printable(path)} is no .json file; name one.")
    return path
