"""Changes to a recipe of augmentation, which is a frozen dataclass of numbers."""

from __future__ import annotations

from dataclasses import fields, replace
from typing import Any, TypeVar, get_args, get_type_hints

from ..plugins.messages import did_you_mean

Recipe = TypeVar("Recipe")


def changed(recipe: Recipe, changes: dict[str, Any]) -> Recipe:
    """A recipe with some fields changed.

    Args:
        recipe: its fields are numbers, `None` or tuples of numbers, as their annotations say.
        changes: new values by the name of the field; lists stand for tuples.

    Raises:
        ValueError: there is no such field, or a value does not fit its annotation.
    """
    names = [field.name for field in fields(recipe)]  # type: ignore[arg-type]  # a dataclass
    hints = get_type_hints(type(recipe))
    values = {}
    for name, value in changes.items():
        if name not in names:
            raise ValueError(
                f"augmentation has no field {name!r}.{did_you_mean(name, names)} There are {', '.join(names)}."
            )
        now, hint = getattr(recipe, name), hints[name]
        if not _fits(value, hint):
            example = list(now) if isinstance(now, tuple) else now
            raise ValueError(f"augmentation.{name}={value!r} does not fit; give {_described(hint)}, such as {example}.")
        values[name] = tuple(value) if isinstance(value, (list, tuple)) else value
    return replace(recipe, **values)  # type: ignore[type-var]  # a dataclass


def _fits(value: Any, hint: Any) -> bool:
    numbers = get_args(hint)
    if isinstance(value, (list, tuple)):
        if not numbers or type(None) in numbers:
            return False
        open_ended = numbers[-1] is Ellipsis
        kinds = [numbers[0]] * len(value) if open_ended else list(numbers)
        return len(value) == len(kinds) > 0 and all(_fits(each, kind) for each, kind in zip(value, kinds, strict=True))
    if value is None or type(None) in numbers:
        return type(None) in numbers and (value is None or _fits(value, numbers[0]))
    return not numbers and type(value) in ((int,) if hint is int else (int, float))


def _described(hint: Any) -> str:
    numbers = get_args(hint)
    if not numbers or type(None) in numbers:
        return "a number"
    if numbers[-1] is Ellipsis:
        return "a list of numbers, one a channel"
    return f"{len(numbers)} {'whole ' * (numbers[0] is int)}numbers"
