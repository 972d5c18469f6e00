"""The configs that ship with the package: `--config METHOD/DATA` finds one from anywhere, and
`ssl-lightning configs` lists them, with what their first lines say."""

from __future__ import annotations

import argparse
import os
from collections.abc import Iterator
from importlib.resources import files
from pathlib import Path
from typing import Any

from ..plugins.messages import did_you_mean
from .names import UsageError
from .rows import print_rows

FOLDER = "ssl_lightning.configs"
SUFFIX = ".yaml"
SAID = ("needs", "score")
"""What a config says of itself in its first lines, under its command: `# needs: ...`."""


def main(options: argparse.Namespace) -> int:
    """`ssl-lightning configs`."""
    print_rows([row(name, path, options.json) for name, path in shipped().items()], options.json)
    return 0


def shipped() -> dict[str, Path]:
    """The configs that ship, by name (`method/data`).

    Raises:
        UsageError: they are not there, as in an editable installation of before they shipped.
    """
    try:
        folder = Path(str(files(FOLDER)))
    except ModuleNotFoundError as error:
        raise UsageError("The configs that ship are not installed; install the package anew.") from error
    return {path.relative_to(folder).with_suffix("").as_posix(): path for path in sorted(folder.glob(f"*/*{SUFFIX}"))}


def config_file(value: str) -> Path:
    """The file that `--config` names: one of the user's, where there is one with this path, or else
    one that ships. The suffix may be left out.

    Raises:
        UsageError: there is neither.
    """
    own = next((path for path in (value, value + SUFFIX) if os.path.isfile(path)), None)
    if own is not None:
        return Path(own)
    known = shipped()
    name = Path(value).as_posix().removesuffix(SUFFIX)
    if name in known:
        return known[name]
    near = did_you_mean(name, known)
    if os.path.isdir(value):
        raise UsageError(f"The config {value!r} is a folder; give a file.{near}")
    raise UsageError(
        f"There is no config {value!r}, neither a file nor one that ships.{near}"
        " `ssl-lightning configs` lists those that ship."
    )


def row(name: str, path: Path, with_command: bool = False) -> dict[str, Any]:
    """What there is to know of a config that ships.

    Args:
        name: its name.
        path: its file.
        with_command: whether to give the command that runs it, too.
    """
    import yaml  # imported here: other lists do without it

    from ..plugins.gate import LOADER

    text = path.read_text(encoding="utf-8")
    tree = yaml.load(text, LOADER)
    said = dict(_said(text))
    parts = {key: _class(tree.get(key)) for key in ("model", "data")}
    facts = {"name": name, "method": parts["model"], "data": parts["data"], **{key: said.get(key) for key in SAID}}
    return {**facts, "command": text.partition("\n")[0].removeprefix("# ")} if with_command else facts


def _said(text: str) -> Iterator[tuple[str, str]]:
    for line in text.splitlines():
        key, colon, value = line.removeprefix("# ").partition(": ")
        if line.startswith("# ") and colon and key in SAID:
            yield key, value


def _class(value: Any) -> str | None:
    """The class of a part of a config, in whichever way it is given."""
    return value.get("class_path") if isinstance(value, dict) else value
