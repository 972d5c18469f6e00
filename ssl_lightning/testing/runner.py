"""Runs checks, and names the claim that does not hold."""

from __future__ import annotations

import pickle
from collections.abc import Callable, Iterable
from typing import Any

import numpy as np

from ..plugins.arguments import argument_types, kinds_of
from ..plugins.registry import Registry


def class_of(group: str, name_or_class: str | type[Any]) -> type[Any]:
    """The class of an entry-point name, or the class itself."""
    return Registry(group)[name_or_class] if isinstance(name_or_class, str) else name_or_class


def run_checks(checks: Iterable[Callable[[Any], None]], kit: Any) -> None:
    """Runs checks in order, and turns the first error into an `AssertionError` that names the claim
    that does not hold."""
    for check in checks:
        try:
            check(kit)
        except Exception as error:
            what = f"{error}" if isinstance(error, AssertionError) else f"{type(error).__name__}: {error}"
            raise AssertionError(
                f"{kit.cls.__name__} fails {check.__name__}: {what}\nThe claim: {check.__doc__}"
            ) from error


def numpy_state() -> bytes:
    """The state of numpy's global generator, as bytes that can be compared."""
    return pickle.dumps(np.random.get_state())  # it holds an array, for which `==` gives no single truth value


def check_numbers(cls: type, build: Callable[[dict[str, Any]], Any]) -> None:
    """Gives each numeric argument of a class 0 and -1: it is refused in one line that names the
    argument or shows the value, or works.

    Args:
        cls: whose arguments.
        build: builds an instance with some arguments changed, and tries it.

    Raises:
        AssertionError: another error is raised, or one that does neither.
    """
    for name, hint in argument_types(cls).items():
        kinds = set(kinds_of(hint))
        for value in (0, -1) if kinds & {int, float} else ():
            changes = {name: value if int in kinds else float(value)}
            try:
                build(changes)
            except (TypeError, ValueError) as error:
                said, shown = str(error), f"={changes[name]}"  # of a part, by its own name: EMA(decay=-1)
                assert "\n" not in said and (name in said or shown in said), f"{changes} is refused without it: {said}"
            except Exception as error:
                raise AssertionError(
                    f"{changes} is not refused, and fails with {type(error).__name__}: {error}"
                ) from error
