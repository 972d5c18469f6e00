"""The arguments of a class's constructor: their names, their defaults, and checks of their
range."""

from __future__ import annotations

import inspect
from collections.abc import Collection, Iterator, Mapping, Sequence
from contextlib import suppress
from functools import cache
from pathlib import PurePath
from types import NoneType, UnionType
from typing import Any, Literal, Union, get_args, get_origin, get_type_hints

from .messages import did_you_mean

NUMBERS = {bool, int, float, NoneType}


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


def takes(cls: type, name: str, value: object) -> bool:
    """Whether the constructor has an argument of this name, and the value, where its annotation
    lists the valid ones (`Literal`), is one of them."""
    for base in cls.__mro__ if name in parameters(cls) else ():
        constructor = vars(base).get("__init__")
        if constructor is None or name not in inspect.signature(constructor).parameters:
            continue
        try:
            annotation = get_type_hints(constructor).get(name)
        except (NameError, TypeError):  # a name that only type checkers import
            return True
        return get_origin(annotation) is not Literal or value in get_args(annotation)
    return False


def argument_defaults(cls: type) -> dict[str, Any]:
    """The defaults of the constructor's arguments."""
    return {
        name: parameter.default
        for name, parameter in parameters(cls).items()
        if parameter.default is not parameter.empty
    }


@cache
def argument_types(cls: type) -> dict[str, Any]:
    """The types of the constructor's arguments; `Any` where one is not told."""
    names = parameters(cls)
    hints = dict.fromkeys(names, Any)
    for base in reversed(cls.__mro__):
        if "__init__" in vars(base):
            with suppress(NameError, TypeError, AttributeError):  # a type that is imported for checkers alone
                resolved = get_type_hints(vars(base)["__init__"])
                hints |= {name: hint for name, hint in resolved.items() if name in names}
    return hints


def kinds_of(hint: Any) -> Iterator[Any]:
    """The types that a value may have: the members of a union, those of a Literal's values,
    `PurePath` for paths; a container's own type, and those of what it holds."""
    if get_origin(hint) is Literal:
        yield from map(type, get_args(hint))
    elif is_union(hint):
        for member in get_args(hint):
            yield from kinds_of(member)
    elif get_args(hint):
        yield get_origin(hint)
        yield from kinds_of(item_of(hint))
    else:
        yield PurePath if isinstance(hint, type) and issubclass(hint, PurePath) else hint


def item_of(hint: Any) -> Any:
    """The type of what a container of this type holds; `object` for any plain value."""
    if hint is Any:
        return Any
    held: list[Any] = []
    for member in get_args(hint) if is_union(hint) else (hint,):
        origin = get_origin(member)
        if isinstance(origin, type):
            held += get_args(member)[issubclass(origin, Mapping) :]
    plain = [object if part is Any else part for part in held if part is not Ellipsis]
    return Union[tuple(plain)] if plain else object  # noqa: UP007  of as many as there are


def members_of(hint: Any) -> list[Any]:
    """The types of which a union is made, but for None; else the type itself."""
    return [each for each in (get_args(hint) if is_union(hint) else (hint,)) if each is not NoneType]


def is_collection(hint: Any) -> bool:
    """Whether a type is a list's, a tuple's or the like, and says of what."""
    origin = get_origin(hint)
    return isinstance(origin, type) and issubclass(origin, Collection)


def is_union(hint: Any) -> bool:
    """Whether a type is a union of several."""
    return get_origin(hint) in (Union, UnionType)


def check_number(owner: str, name: str, value: Any, hint: Any) -> None:
    """Refuses what is no number for an argument that is one, and a number for one that is a list.

    Args:
        owner: the class, with which the message begins.
        name: of the argument.
        value: what it was given.
        hint: its type.

    Raises:
        TypeError: the value is of another type; an integer will do for a float.
    """
    kinds = set(kinds_of(hint))
    if isinstance(value, (bool, int, float)) and all(map(is_collection, members_of(hint))):
        raise TypeError(f"{owner}({name}={value!r}) is one value, where several belong.")
    if not kinds <= NUMBERS or type(value) in kinds:
        return
    if type(value) is int and kinds & {int, float}:
        return
    expected = " or ".join(kind.__name__ for kind in (bool, int, float) if kind in kinds)
    raise TypeError(f"{owner}({name}={value!r}) must be {expected}.")


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


def one_of(name: str, value: str, known: Sequence[str]) -> str:
    """Returns the value of an argument that is one of some words.

    Raises:
        ValueError: it is none of them.
    """
    if value in known:
        return value
    words = f"{', '.join(known[:-1])} or {known[-1]}"
    raise ValueError(f"{name}={value!r} is unknown.{did_you_mean(str(value), known)} Choose {words}.")
