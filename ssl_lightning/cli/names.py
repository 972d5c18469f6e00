"""Short names in a command line or a config (`--model simclr`, `encoder: resnet18`) are replaced by
class paths."""

from __future__ import annotations

import re
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import Any

from ..plugins.moved import renamed
from ..plugins.registry import Registry, logger_path

CLASS_PATH = re.compile(r"[A-Za-z_]\w*(\.\w+)*\.[A-Z_]\w*")
FILE = re.compile(r".*\.(ya?ml|json)")
KINDS = {"model": "methods", "data": "datamodules"}
IMPLIED = ("init_args", "class_path", "dict_kwargs")
"""Keys that jsonargparse lets a user leave out."""


class UsageError(Exception):
    """The command line or a config holds a mistake; the message is one line."""


def kind_of(keys: Sequence[str]) -> str | None:
    """The kind of class that these keys of a config expect; None: no class is expected there. Short
    names of `methods`, `datamodules` and `encoders` are looked up in the registry of that kind."""
    match [key for key in keys if key not in IMPLIED]:
        case ["model"]:
            return "methods"
        case ["data"] | ["data", "probe_sets", _]:
            return "datamodules"
        case ["model", *_, last] if last == "encoder" or last.endswith("_encoder"):
            return "encoders"
        case ["trainer", "logger"]:
            return "loggers"
    return None


class Names:
    """Replaces short names by class paths wherever a method, datamodule, encoder or logger is
    expected.

    Args:
        load: parses the text of a config.
    """

    def __init__(self, load: Callable[[str], Any]) -> None:
        self.load = load
        self.taken_for_timm: list[str] = []
        self.encoder_of_timm = "timm"  # or "vit", for a method that masks tokens
        self.registries = {kind: Registry(f"ssl_lightning.{kind}") for kind in ("methods", "datamodules", "encoders")}

    def expand(self, value: Any, keys: Sequence[str] = (), folder: Path = Path()) -> Any:
        """The same tree with short names replaced by class paths, and names of files (`encoder:
        encoder.yaml`) by the files' contents.

        Args:
            value: part of a config.
            keys: the keys that lead to it.
            folder: the folder that names of files are relative to.

        Raises:
            RegistryError: a name is not installed, or is claimed twice.
            UsageError: a file cannot be read.
        """
        kind = kind_of(keys)
        if isinstance(value, str) and FILE.fullmatch(value) and (kind or len(keys) == 1):
            return self.expand(self.read(folder / value), keys, (folder / value).parent)
        if isinstance(value, str) and kind:
            path, init_args = self.class_path(kind, value)
            return {"class_path": path, "init_args": init_args} if init_args else path
        if isinstance(value, list):
            return [self.expand(item, keys, folder) for item in value]
        if not isinstance(value, dict):
            return value
        value = {
            key: item if key == "class_path" else self.expand(item, (*keys, *str(key).split(".")), folder)
            for key, item in value.items()
        }
        if kind and isinstance(value.get("class_path"), str):
            value["class_path"], init_args = self.class_path(kind, value["class_path"])
            value["init_args"] = {**init_args, **(value.get("init_args") or {})}
        return value

    def class_path(self, kind: str, name: str) -> tuple[str, dict[str, Any]]:
        """The class path of a short name, and the arguments that the name implies.

        An encoder's name that is not registered is taken for a model of timm's: `resnet18` is
        `timm` with `name: resnet18`, and for a method that needs a `TokenEncoder`,
        `vit_tiny_patch16_224` is `vit` with `name: vit_tiny_patch16_224`.
        """
        if CLASS_PATH.fullmatch(name) or name == "null":
            return name, {}
        if kind == "loggers":  # `false` is not a name, and Lightning's loggers have the names of their classes
            is_short = isinstance(self.scalar(name), str) and name[:1].islower()
            return logger_path(name) if is_short else name, {}
        registry = self.registries[kind]
        if kind == "encoders" and name not in registry and ":" not in name:
            self.taken_for_timm.append(name)
            return registry.path(self.encoder_of_timm), {"name": name}
        if kind == "datamodules" and name not in registry and Path(name).exists():
            raise UsageError(
                f"{name!r} is a file or folder, not the name of a data set; name one of {', '.join(registry)}, and give"
                " this as its --data.root or --data.path."
            )
        return registry.path(name), {}

    def read(self, path: Path) -> Any:
        """The contents of a config file, as written.

        Raises:
            UsageError: there is no such file, or it is not valid YAML.
        """
        try:
            return self.parse(path.read_text(encoding="utf-8"), str(path))
        except (OSError, UnicodeDecodeError) as error:
            raise UsageError(
                f"The config file {str(path)!r} cannot be read: {getattr(error, 'strerror', None) or error}."
            ) from error

    def parse(self, text: str, where: str) -> Any:
        """The contents of a config's text, with the class paths of earlier versions replaced."""
        try:
            return renamed(self.load(text))
        except Exception as error:  # the loader's own errors: its library is not imported here
            mark = getattr(error, "problem_mark", None)
            line = f", line {mark.line + 1}" if mark else ""
            raise UsageError(f"{where}{line} is not valid YAML: {getattr(error, 'problem', None) or error}.") from error

    def scalar(self, text: str) -> Any:
        """The number, truth value or text that an option's value stands for."""
        try:
            return self.load(text)
        except Exception:  # not YAML: the text itself
            return text
