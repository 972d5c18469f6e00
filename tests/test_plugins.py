"""Every installed method and datamodule meets every claim of the conformance kit."""

from __future__ import annotations

import os
from collections.abc import Callable
from typing import Any

import pytest

from ssl_lightning.registry import Registry
from ssl_lightning.testing import DATAMODULE_CHECKS, METHOD_CHECKS, DataKit, MethodKit, TinyImages

DATA = os.environ.get("SSL_LIGHTNING_DATA", "")
FOLDERS: dict[str, dict[str, Any]] = {"fashion_mnist": {"root": f"{DATA}/fashion_mnist", "download": False}}
"""Datamodules that read files, with where the tests find them."""


@pytest.mark.parametrize("check", METHOD_CHECKS, ids=lambda check: check.__name__)
@pytest.mark.parametrize("name", list(Registry("ssl_lightning.methods")))
def test_method(name: str, check: Callable[[MethodKit], None]) -> None:
    check(MethodKit(Registry("ssl_lightning.methods")[name]))


@pytest.mark.parametrize("check", DATAMODULE_CHECKS, ids=lambda check: check.__name__)
@pytest.mark.parametrize("name", list(Registry("ssl_lightning.datamodules")))
def test_datamodule(name: str, check: Callable[[DataKit], None]) -> None:
    if name in FOLDERS and not DATA:
        pytest.skip(f"{name}: SSL_LIGHTNING_DATA is not set")
    check(DataKit(Registry("ssl_lightning.datamodules")[name], **FOLDERS.get(name, {})))


@pytest.mark.parametrize("check", DATAMODULE_CHECKS, ids=lambda check: check.__name__)
def test_datamodule_of_the_kit_itself(check: Callable[[DataKit], None]) -> None:
    check(DataKit(TinyImages))
