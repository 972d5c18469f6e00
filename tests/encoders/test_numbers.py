"""Numeric arguments of the registered encoders."""

from __future__ import annotations

import math
from typing import Any

import pytest

from ssl_lightning.plugins.arguments import argument_defaults, argument_types, kinds_of
from ssl_lightning.plugins.registry import Registry
from ssl_lightning.testing.runner import check_numbers

ENCODERS = Registry("ssl_lightning.encoders")
BUILT = [name for name in ENCODERS if len(argument_defaults(ENCODERS[name])) == len(argument_types(ENCODERS[name]))]
"""Those that can be built without arguments: the others name a model to fetch."""


@pytest.mark.parametrize("name", BUILT)
def test_numbers_out_of_range_are_refused_with_their_name_or_work(name: str) -> None:
    check_numbers(ENCODERS[name], lambda changes: ENCODERS[name](**changes))


@pytest.mark.parametrize("group", ["methods", "datamodules", "encoders"])
def test_numbers_that_are_none_are_refused_by_every_class(group: str) -> None:
    """Not finite, beyond 64 bits, a text, a truth value: before anything of it is built."""
    registry = Registry(f"ssl_lightning.{group}")
    for name in registry:
        cls = registry[name]
        needed = {key: "x" for key in argument_types(cls) if key not in argument_defaults(cls)}
        for key, hint in argument_types(cls).items():
            kinds = set(kinds_of(hint)) - {type(None)}
            if kinds and kinds <= {int, float}:
                wrong: list[Any] = [math.nan, math.inf, -math.inf, 10**30, "3", True]
                for value in wrong:
                    with pytest.raises((TypeError, ValueError), match=key) as refusal:
                        cls(**{**needed, key: value})
                    assert "\n" not in str(refusal.value)
