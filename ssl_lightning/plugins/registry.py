"""Plug-ins by name: methods, datamodules and encoders are found through entry points, and imported
only when they are used."""

from __future__ import annotations

import re
from collections import defaultdict
from collections.abc import Iterator, Mapping
from functools import cache, cached_property
from importlib.metadata import Distribution, EntryPoint
from typing import Any, NamedTuple

from .docstring import first_sentence
from .installed import installed
from .messages import did_you_mean

LOGGERS = {
    "csv": "ssl_lightning.run.loggers.csv_file.CSV",
    "tensorboard": "ssl_lightning.run.loggers.tensorboard.TensorBoard",
    "wandb": "ssl_lightning.run.loggers.wandb.Wandb",
}


class RegistryError(Exception):
    """A plug-in's name cannot be resolved; the message is one line."""

    def __str__(self) -> str:  # KeyError would show its repr
        return str(self.args[0])


class UnknownName(RegistryError, KeyError):
    """No installed package registers this name."""


class ContestedName(RegistryError, LookupError):
    """Several packages register this name."""


class BrokenPlugin(RegistryError, ImportError):
    """The plug-in raises an error on import, or is not a class."""


class Plugin(NamedTuple):
    """An installed plug-in: one line of a listing. `name` is the name that a user types:
    `package:name` where several packages claim the same name."""

    name: str
    package: str
    version: str
    value: str
    point: EntryPoint

    @property
    def path(self) -> str:
        """The class path, `module.Class`."""
        return self.value.replace(":", ".")

    @property
    def summary(self) -> str:
        """The first sentence of the class's docstring, read from its source without any import."""
        return first_sentence(self.point.module, self.point.attr)


class Registry(Mapping[str, type[Any]]):
    """A lazy mapping from name to class of the plug-ins of one entry-point group.

    Iteration and `in` read metadata only; `registry[name]` imports that one plug-in.

    Args:
        group: entry-point group, such as `ssl_lightning.methods`.

    Raises:
        UnknownName: on access; the message names the nearest known name and the installed ones.
        ContestedName: on access, where two packages claim the name; choose with `package:name`.
        BrokenPlugin: on access; the message names the package, its version, the entry point and the
            cause.
    """

    def __init__(self, group: str) -> None:
        self.group = group
        self.kind = group.rpartition(".")[2].removesuffix("s")

    @cached_property
    def plugins(self) -> dict[str, Plugin]:
        """The installed plug-ins, sorted by name, from metadata only."""
        named = cache(_package)  # for each distribution, not for each of its names: parsing metadata takes milliseconds
        claims: dict[str, dict[tuple[str, str], tuple[str, EntryPoint]]] = defaultdict(dict)
        for point in installed(self.group):
            package, version = named(point.dist) if point.dist else ("?", "?")
            claims[point.name].setdefault(
                (package, point.value), (version, point)
            )  # a package may be on sys.path twice
        plugins = {}
        for name, points in sorted(claims.items()):
            for (package, value), (version, point) in sorted(points.items()):
                shown = name if len(points) == 1 else f"{package}:{name}"
                plugins[shown] = Plugin(shown, package, version, value, point)
        return plugins

    def find(self, name: str) -> Plugin:
        """The plug-in of this name, or of this `package:name`, from metadata only."""
        package, _, short = name.rpartition(":")
        if name in self.plugins:
            return self.plugins[name]
        matches = [
            p for p in self.plugins.values() if p.point.name == short and (not package or p.package == _normal(package))
        ]
        if len(matches) == 1:
            return matches[0]
        if matches:
            claimants = " and ".join(f"{p.package} {p.version} ({p.value})" for p in matches)
            choices = " or ".join(p.name for p in matches)
            raise ContestedName(f"Several packages claim the {self.kind} {short!r}: {claimants}. Choose {choices}.")
        near = did_you_mean(name, self) or self.akin_to(name)
        raise UnknownName(f"There is no {self.kind} {name!r}.{near} Installed: {', '.join(self) or 'none'}.")

    def akin_to(self, name: str, prefix: str = "") -> str:
        """The hint ` The nearest here is 'x'.` for a name of another tool; empty where no package
        declares one. The entry points of the group `ssl_lightning.akin` lead from such names, in
        lower case with underscores, to the class that comes nearest."""
        plain = re.sub(r"[^a-z0-9]+", "_", name.lower())
        near = {point.value for point in installed("ssl_lightning.akin").select(name=plain)}
        known = next((shown for shown, plugin in self.plugins.items() if plugin.value in near), None)
        return f" The nearest here is {prefix + known!r}." if known else ""

    def path(self, name: str) -> str:
        """The class path `module.Class` of this name, from metadata only."""
        return self.find(name).path

    def name_of(self, path: str) -> str:
        """The name under which `module.Class` is registered; for a class that is not registered,
        its class name in lower case."""
        return next((p.name for p in self.plugins.values() if p.path == path), path.rpartition(".")[2].lower())

    def __getitem__(self, name: str) -> type[Any]:
        plugin = self.find(name)
        where = f"The {self.kind} {name!r} of {plugin.package} {plugin.version} ({plugin.value})"
        try:
            cls = plugin.point.load()
        except (Exception, SystemExit) as error:  # a third-party module may raise anything
            cause = " ".join(f"{type(error).__name__}: {error}".split())
            raise BrokenPlugin(f"{where} cannot be imported: {cause}") from error
        if not isinstance(cls, type):
            raise BrokenPlugin(f"{where} is not a class but {cls!r}.")
        return cls

    def __contains__(self, name: object) -> bool:
        return name in self.plugins

    def __iter__(self) -> Iterator[str]:
        return iter(self.plugins)

    def __len__(self) -> int:
        return len(self.plugins)


def _package(distribution: Distribution) -> tuple[str, str]:
    metadata = distribution.metadata
    return _normal(metadata["Name"]), metadata["Version"]


def _normal(package: str) -> str:
    return re.sub(r"[-_.]+", "-", package).lower()


def logger_path(name: str) -> str:
    """The class path of a logger's short name.

    Raises:
        UnknownName: there is no logger of this name.
    """
    if name not in LOGGERS:
        raise UnknownName(
            f"There is no logger {name!r}.{did_you_mean(name, LOGGERS)} Short names: {', '.join(LOGGERS)}."
        )
    return LOGGERS[name]
