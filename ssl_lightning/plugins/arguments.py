"""The arguments of a class's constructor: their names, their defaults, and checks of their
range."""

from __future__ import annotations

import inspect
from typing import Any


def parameters(cls: type) -> dict[str, inspect.Parameter]:
    """The constructor's arguments by name, including those that `**kwargs` passes on to the base
    classes."""
    by_name: dict[str, inspect.Parameter] = {}
    for base in cls.__mro__:
        if "__init__" not in vars(base):
            continue
        declared = list(inspect.signature(vars(base)["__init__"]).parameters.values())[1:]
        named = {parameter.name: parameter for parameter in declared if parameter.kind != parameter.VAR_KEYWORD}
        by_name = named | by_name
        if not any(parameter.kind == parameter.VAR_KEYWORD for parameter in declared):
            break
    return by_name


def argument_defaults(cls: type) -> dict[str, Any]:
    """The defaults of the constructor's arguments."""
    return {
        name: parameter.default
        for name, parameter in parameters(cls).items()
        if parameter.default is not parameter.empty
    }


def require(
    owner: object,
    *,
    at_least: float | None = None,
    above: float | None = None,
    at_most: float | None = None,
    below: float | None = None,
    **values: float | None,
) -> None:
    """Checks that arguments of a constructor lie in a range; None passes, NaN does not.

        require(self, at_least=1, k=k, bank=bank)
        require(self, above=0, at_most=1, budget=budget)

    Args:
        owner: the object that is being built, or a name; the message begins with it.
        at_least: inclusive lower bound.
        above: exclusive lower bound.
        at_most: inclusive upper bound.
        below: exclusive upper bound.
        values: the arguments by name.

    Raises:
        ValueError: a value is out of range; the message names owner, argument, value and range.
    """
    bounds = {"at least": at_least, "above": above, "at most": at_most, "below": below}
    given = {words: bound for words, bound in bounds.items() if bound is not None}
    for name, value in values.items():
        if value is None:
            continue
        inside = (
            (at_least is None or value >= at_least)
            and (above is None or value > above)
            and (at_most is None or value <= at_most)
            and (below is None or value < below)
        )
        if not inside:
            who = owner if isinstance(owner, str) else type(owner).__name__
            expected = " and ".join(f"{words} {bound:g}" for words, bound in given.items())
            raise ValueError(f"{who}({name}={value}) must be {expected}.")
