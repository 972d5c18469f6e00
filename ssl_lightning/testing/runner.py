"""Runs checks by name, and says which claim broke."""

from __future__ import annotations

import pickle
from collections.abc import Callable, Iterable
from typing import Any

import numpy as np

from ..plugins.registry import Registry


def class_of(group: str, name_or_class: str | type[Any]) -> type[Any]:
    """The class of an entry-point name, or the class itself."""
    return Registry(group)[name_or_class] if isinstance(name_or_class, str) else name_or_class


def run_checks(checks: Iterable[Callable[[Any], None]], kit: Any) -> None:
    """Runs checks in order; whatever the first broken claim raises becomes an `AssertionError` that
    names it."""
    for check in checks:
        try:
            check(kit)
        except Exception as error:
            what = f"{error}" if isinstance(error, AssertionError) else f"{type(error).__name__}: {error}"
            raise AssertionError(
                f"{kit.cls.__name__} fails {check.__name__}: {what}\nThe claim: {check.__doc__}"
            ) from error


def numpy_state() -> bytes:
    """The state of numpy's global generator, to compare."""
    return pickle.dumps(np.random.get_state())  # holds an array, which `==` would not reduce to one answer
