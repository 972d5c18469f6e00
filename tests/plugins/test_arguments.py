"""Constructors' arguments: the helper that refuses numbers out of range."""

from __future__ import annotations

import math
from typing import Any, Literal

import pytest

from ssl_lightning.plugins.arguments import require, takes
from ssl_lightning.plugins.record import Recorded


class Probe:
    """An owner."""


@pytest.mark.parametrize(
    ("bounds", "value", "message"),
    [
        ({"at_least": 1}, 0, r"Probe\(k=0\) must be at least 1\."),
        ({"above": 0}, 0.0, r"Probe\(k=0\.0\) must be above 0\."),
        ({"above": 0, "at_most": 1}, 1.5, r"Probe\(k=1\.5\) must be above 0 and at most 1\."),
        ({"at_least": 0, "below": 1}, 1, r"Probe\(k=1\) must be at least 0 and below 1\."),
        ({"at_least": 1}, math.nan, r"Probe\(k=nan\) must be at least 1\."),
    ],
)
def test_a_number_out_of_range_is_named_with_its_owner_and_its_range(bounds: dict, value: float, message: str) -> None:
    with pytest.raises(ValueError, match=message):
        require(Probe(), **bounds, k=value)
    with pytest.raises(ValueError, match=message):
        require("Probe", **bounds, good=1 if value != 1 else 0, k=value)


@pytest.mark.parametrize(
    ("bounds", "value"), [({"at_least": 1}, 1), ({"below": 1}, 0.999), ({"above": 0}, None), ({}, -7)]
)
def test_bounds_belong_to_the_range_as_their_words_say(bounds: dict, value: float | None) -> None:
    require("Probe", **bounds, k=value)


class Typed(Recorded):
    """Arguments of each kind."""

    def __init__(
        self,
        count: int = 1,
        rate: float | None = None,
        pair: tuple[float, float] = (0.0, 1.0),
        period: int | Literal["auto"] = "auto",
        whole: bool = False,
        kind: Literal[1, 2] = 1,
        anything: Any = None,
    ) -> None:
        if count == 13:
            raise RuntimeError("not enough memory:\nyou tried to allocate 13 bytes")


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        ({"count": 1.5}, r"Typed\(count=1\.5\) must be int\."),
        ({"count": True}, r"Typed\(count=True\) must be int\."),
        ({"rate": "0.1"}, r"Typed\(rate='0\.1'\) must be float\."),
        ({"whole": 1}, r"Typed\(whole=1\) must be bool\."),
        ({"pair": 0.5}, r"Typed\(pair=0\.5\) is one value, where several belong\."),
        ({"rate": math.nan}, r"Typed\(rate=\.\.\.\) holds nan; give a finite number\."),
        ({"pair": (0.0, math.inf)}, r"Typed\(pair=\.\.\.\) holds inf; give a finite number\."),
        ({"count": 2**63}, r"Typed\(count=\.\.\.\) holds 9\.22e\+18; give a number of at most 64 bits\."),
        ({"count": 13, "rate": 2}, r"Typed\(count=13, rate=2\) cannot be built: not enough memory: you tried"),
    ],
)
def test_numbers_are_held_to_the_types_of_the_constructor(arguments: dict[str, Any], message: str) -> None:
    with pytest.raises((TypeError, ValueError), match=message):
        Typed(**arguments)


def test_what_fits_is_taken() -> None:
    Typed(count=2**62, rate=3, pair=[0, 1], period=3, whole=True, kind=2, anything=1.5)  # type: ignore[arg-type]
    Typed(period="auto", anything="text")


class Chooses:
    def __init__(self, *, position: Literal["learned", "rotary"] = "learned", width: int = 1, **kwargs: Any): ...


class Derived(Chooses):
    def __init__(self, *, size: str = "small", **kwargs: Any) -> None:
        super().__init__(**kwargs)


def test_an_argument_takes_the_values_that_its_annotation_lists() -> None:
    assert takes(Derived, "position", "rotary") and not takes(Derived, "position", "sincos")
    assert takes(Derived, "size", "any") and takes(Derived, "width", 3) and not takes(Derived, "depth", 3)
