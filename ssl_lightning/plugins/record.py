"""Objects that record the arguments they were built with, so that they can be rebuilt from a
checkpoint's plain values."""

from __future__ import annotations

import functools
import inspect
import math
from collections.abc import Mapping
from pathlib import PurePath
from typing import Any, ClassVar, TypeVar

from .arguments import argument_defaults, argument_types, check_number

LARGEST = 2**63 - 1
Value = TypeVar("Value")
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

    def resolve(self, name: str, value: Value) -> Value:
        """Records, in a constructor, the value that stands for an argument left open (None), and
        returns it."""
        self.__dict__.setdefault("stands_for", {})[name] = value
        return value

    def resolved_args(self) -> dict[str, Any]:
        """The arguments of the construction, with the values that stand for those left open, so
        that a version with other defaults builds the same."""
        return self.init_args | self.__dict__.get("stands_for", {})

    @classmethod
    def offline_args(cls, init_args: dict[str, Any]) -> dict[str, Any]:
        """The arguments for a rebuild whose weights come from a checkpoint, so that nothing is
        downloaded."""
        return init_args


def _recording(init: Any) -> Any:
    signature = inspect.signature(init)

    @functools.wraps(init)
    def wrapper(self: Any, *args: Any, **kwargs: Any) -> None:
        if "init_args" in self.__dict__:  # the outermost class records; its super().__init__ does not
            init(self, *args, **kwargs)
            return
        bound = signature.bind(self, *args, **kwargs)
        bound.apply_defaults()  # so that a later change of a default does not change what a checkpoint rebuilds
        self.__dict__["init_args"] = arguments = _flat(type(self).__name__, signature, bound)
        cls: type = type(self)
        for name, value in arguments.items():
            check_number(cls.__name__, name, value, argument_types(cls).get(name, Any))
        try:
            init(self, *args, **kwargs)
        except NotImplementedError:
            raise
        except (ArithmeticError, AssertionError, IndexError, MemoryError, RuntimeError) as error:
            raise ValueError(_unbuildable(type(self), arguments, error)) from error

    return wrapper


def _unbuildable(cls: type, arguments: dict[str, Any], error: BaseException) -> str:
    """The message for arguments that pass one by one, and with which the constructor fails: too
    large for the memory, or not in proportion."""
    defaults = argument_defaults(cls)
    given = [
        f"{name}={value!r}"
        for name, value in arguments.items()
        if isinstance(value, PLAIN) and value != defaults.get(name)
    ]
    reason = " ".join(f"{error}".split()) or type(error).__name__
    reason = reason if len(reason) < 300 else f"{reason[:300]} ..."
    return f"{cls.__name__}({', '.join(given)}) cannot be built: {reason}"


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
        if not math.isfinite(value):
            raise ValueError(f"{where} holds {value}; give a finite number.")
        return float(value)  # numpy.float64 is a float too, but YAML cannot write it
    if isinstance(value, int) and abs(value) > LARGEST:
        raise ValueError(f"{where} holds {value:.3g}; give a number of at most 64 bits.")
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


def config_of(value: Any, resolved: bool = False) -> Any:
    """A recorded object as `{"class_path": ..., "init_args": {...}}`, with plain values only.

    Args:
        value: the object, or a list or dict of such.
        resolved: whether arguments left open have the values that stand for them.
    """
    if isinstance(value, Recorded):
        given = value.resolved_args() if resolved else getattr(value, "init_args", {})
        return {"class_path": class_path(type(value)), "init_args": config_of(given, resolved)}
    if isinstance(value, dict):
        return {key: config_of(item, resolved) for key, item in value.items()}
    if isinstance(value, (list, tuple)):
        return [config_of(item, resolved) for item in value]
    return value
