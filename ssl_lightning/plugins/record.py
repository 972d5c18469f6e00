"""Objects that record the arguments they were built with, so that they can be rebuilt from a
checkpoint's plain values."""

from __future__ import annotations

import functools
import importlib
import inspect
import sys
from collections.abc import Iterable, Mapping
from importlib.metadata import entry_points
from pathlib import PurePath
from typing import Any, ClassVar

PLAIN = (bool, int, float, str, type(None))
GROUPS = ("ssl_lightning.methods", "ssl_lightning.datamodules", "ssl_lightning.encoders")


class Recorded:
    """The base of methods, encoders and datamodules: it keeps the arguments of its construction in
    `init_args`.

    Raises:
        TypeError: at construction, if an argument is neither a plain value, nor a list, tuple or
            dict of plain values, nor itself `Recorded`. The message names the argument.
    """

    init_args: dict[str, Any]
    incidental: ClassVar[frozenset[str]] = frozenset()
    """Arguments that may differ when a run moves to another machine: how fast, and where from. All
    others are part of the run's identity."""

    def __init_subclass__(cls, **kwargs: Any) -> None:
        super().__init_subclass__(**kwargs)
        if "__init__" in vars(cls):
            cls.__init__ = _recording(cls.__init__)  # type: ignore[method-assign]

    @classmethod
    def offline_args(cls, init_args: dict[str, Any]) -> dict[str, Any]:
        """The arguments for a rebuild whose weights come from a checkpoint, so that nothing is
        downloaded."""
        return init_args


def _recording(init: Any) -> Any:
    signature = inspect.signature(init)

    @functools.wraps(init)
    def wrapper(self: Any, *args: Any, **kwargs: Any) -> None:
        if "init_args" not in self.__dict__:  # the outermost class records; its super().__init__ does not
            bound = signature.bind(self, *args, **kwargs)
            bound.apply_defaults()  # so that a later change of a default does not change what a checkpoint rebuilds
            self.__dict__["init_args"] = _flat(type(self).__name__, signature, bound)
        init(self, *args, **kwargs)

    return wrapper


def _flat(owner: str, signature: inspect.Signature, bound: inspect.BoundArguments) -> dict[str, Any]:
    """The bound arguments as one dict of keywords, checked and with lists and dicts copied."""
    flat: dict[str, Any] = {}
    for name, value in list(bound.arguments.items())[1:]:
        kind = signature.parameters[name].kind
        if kind is inspect.Parameter.VAR_POSITIONAL:
            if value:
                raise TypeError(
                    f"{owner} takes *{name}, which cannot be recorded in a checkpoint; use named arguments instead."
                )
            continue
        flat.update(value if kind is inspect.Parameter.VAR_KEYWORD else {name: value})
    return {name: _recordable(value, f"{owner}({name}=...)") for name, value in flat.items()}


def _recordable(value: Any, where: str) -> Any:
    if isinstance(value, float):
        return float(value)  # numpy.float64 is a float too, but YAML cannot write it
    if isinstance(value, (*PLAIN, Recorded)):
        return value
    if isinstance(value, PurePath):
        return str(value)
    if isinstance(value, (list, tuple)):
        return [_recordable(item, where) for item in value]
    if isinstance(value, Mapping) and all(isinstance(key, str) for key in value):
        return {key: _recordable(item, where) for key, item in value.items()}
    raise TypeError(
        f"{where} is a {type(value).__module__}.{type(value).__qualname__}, which a checkpoint cannot record. "
        "Pass plain values (numbers, strings, lists, dicts), or make it a subclass of ssl_lightning.Encoder."
    )


def class_path(cls: type) -> str:
    """The class path `package.module.Class`, as a config writes it."""
    return f"{cls.__module__}.{cls.__qualname__}"


def config_of(value: Any) -> Any:
    """A recorded object as `{"class_path": ..., "init_args": {...}}`, with plain values only."""
    if isinstance(value, Recorded):
        return {"class_path": class_path(type(value)), "init_args": config_of(getattr(value, "init_args", {}))}
    if isinstance(value, dict):
        return {key: config_of(item) for key, item in value.items()}
    if isinstance(value, list):
        return [config_of(item) for item in value]
    return value


def rebuild(config: Any, trust: Iterable[str] = (), offline: bool = True) -> Any:
    """The object that `config_of` described.

    Only subclasses of `Recorded` are built, and only from modules of this package, of an installed
    plug-in, of a package named in `trust`, or that are imported already: a checkpoint cannot make
    Python run anything else.

    Args:
        config: what `config_of` returned.
        trust: names of further top-level packages to import from.
        offline: whether the weights are loaded afterwards, so that nothing is downloaded.

    Raises:
        ValueError: a class path is not to be trusted, or does not exist.
    """
    if isinstance(config, list):
        return [rebuild(item, trust, offline) for item in config]
    if not isinstance(config, dict):
        return config
    if "class_path" not in config:
        return {key: rebuild(item, trust, offline) for key, item in config.items()}
    cls = _trusted_class(str(config["class_path"]), trust)
    init_args = rebuild(config.get("init_args") or {}, trust, offline)
    return cls(**(cls.offline_args(init_args) if offline else init_args))


def offline(config: Any) -> Any:
    """The config with the arguments for weights that come from a checkpoint (`offline_args`), in
    every class that can be imported."""
    if isinstance(config, list):
        return [offline(item) for item in config]
    if not isinstance(config, dict):
        return config
    changed = {key: offline(value) for key, value in config.items()}
    try:
        cls = _trusted_class(str(config["class_path"]), ())
    except (KeyError, ValueError):
        return changed
    return {**changed, "init_args": cls.offline_args(changed.get("init_args") or {})}


def _trusted_class(path: str, trust: Iterable[str]) -> type[Recorded]:
    if "<locals>" in path:
        raise ValueError(
            f"The config names {path!r}, a class inside a function, which cannot be imported; move it to its module's"
            " top level."
        )
    module_name, _, name = path.rpartition(".")
    packages = {"ssl_lightning", *trust}
    packages.update(point.module.partition(".")[0] for group in GROUPS for point in entry_points(group=group))
    package = module_name.partition(".")[0]
    if package in packages:
        try:
            module = importlib.import_module(module_name)
        except ImportError as error:
            raise ValueError(f"The config names {path!r}, whose module cannot be imported: {error}.") from error
    elif module_name in sys.modules:
        module = sys.modules[module_name]
    else:
        raise ValueError(
            f"The config names {path!r}, but {package!r} is neither an installed plug-in nor imported. "
            f"If you trust it: load(path, trust=[{package!r}])."
        )
    cls = getattr(module, name, None)
    if not (isinstance(cls, type) and issubclass(cls, Recorded)):
        raise ValueError(f"The config names {path!r}, which is not a method, encoder or datamodule of ssl_lightning.")
    return cls
