"""The arguments of a class's constructor, with their defaults."""

from __future__ import annotations

import inspect
from typing import Any


def parameters(cls: type) -> dict[str, inspect.Parameter]:
    """The constructor's arguments by name, those that `**kwargs` passes on to the bases among
    them."""
    found: dict[str, inspect.Parameter] = {}
    for base in cls.__mro__:
        if "__init__" not in vars(base):
            continue
        own = list(inspect.signature(vars(base)["__init__"]).parameters.values())[1:]
        found = {parameter.name: parameter for parameter in own if parameter.kind != parameter.VAR_KEYWORD} | found
        if not any(parameter.kind == parameter.VAR_KEYWORD for parameter in own):
            break
    return found


def argument_defaults(cls: type) -> dict[str, Any]:
    """The defaults of the constructor's arguments."""
    return {
        name: parameter.default
        for name, parameter in parameters(cls).items()
        if parameter.default is not parameter.empty
    }
