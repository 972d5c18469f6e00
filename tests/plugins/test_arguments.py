"""Constructors' arguments: the helper that refuses numbers out of range."""

from __future__ import annotations

import math

import pytest

from ssl_lightning.plugins.arguments import require


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
