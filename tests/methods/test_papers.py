"""docs/papers.md says what the code does: its values are those of signatures and of optimizer
settings, and no method is left out."""

from __future__ import annotations

import ast
import re
from pathlib import Path
from typing import Any

import pytest

from ssl_lightning.plugins.arguments import argument_defaults
from ssl_lightning.plugins.registry import Registry

PAGE = Path(__file__).parents[2] / "docs" / "papers.md"
ROW = re.compile(r"^\| (`\w+`(?:, `\w+`)*) \| (.+) \| (.+) \| (.*)\|$", re.MULTILINE)
VALUE = re.compile(r"`(?:(\w+)\.)?(\w+)=([^`]+)`")
ROWS = ROW.findall(PAGE.read_text())
METHODS = Registry("ssl_lightning.methods")
OF_ENCODERS = {"pooling"}
CLAIMS = [
    (method, *claim)
    for methods, _, here, _ in ROWS
    for method in re.findall(r"\w+", methods)
    for claim in VALUE.findall(here)
    if claim[1] not in OF_ENCODERS
]


def value_of(text: str) -> Any:
    try:
        return ast.literal_eval(text)
    except ValueError:
        return text  # a word


@pytest.mark.parametrize(("method", "optimizer", "name", "value"), CLAIMS, ids="-".join)
def test_a_value_on_the_page_is_that_of_the_code(method: str, optimizer: str, name: str, value: str) -> None:
    cls = METHODS[method]
    if optimizer:
        assert getattr(cls.optimizer_specs[optimizer], name) == value_of(value)
    else:
        assert argument_defaults(cls)[name] == value_of(value)


def test_every_method_is_on_the_page() -> None:
    assert {*METHODS} <= {*re.findall(r"`(\w+)`", PAGE.read_text())}
    assert len(ROWS) > 30 and len(CLAIMS) > 40
