"""Every installed method and datamodule meets every claim of the conformance kit."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from functools import cache

import pytest
from sets import init_args_of, without_checksums

from ssl_lightning.data.datamodule import SSLDataModule
from ssl_lightning.plugins.registry import Registry
from ssl_lightning.testing import DATAMODULE_CHECKS, METHOD_CHECKS, DataKit, MethodKit, TinyImages, TinyWaves


@pytest.mark.parametrize("check", METHOD_CHECKS, ids=lambda check: check.__name__)
@pytest.mark.parametrize("name", list(Registry("ssl_lightning.methods")))
def test_method(name: str, check: Callable[[MethodKit], None]) -> None:
    check(MethodKit(Registry("ssl_lightning.methods")[name]))


@pytest.fixture(scope="module")
def kit(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Callable[[str], DataKit]]:
    """A datamodule by name, on files that are written once."""
    with pytest.MonkeyPatch.context() as patch:
        without_checksums(patch)
        patch.setenv("SSL_LIGHTNING_CACHE", str(tmp_path_factory.mktemp("cache")))
        patch.setattr("datasets.config.HF_DATASETS_CACHE", tmp_path_factory.mktemp("datasets"))

        @cache
        def made(name: str) -> DataKit:
            return DataKit(
                Registry("ssl_lightning.datamodules")[name], **init_args_of(name, tmp_path_factory.mktemp(name))
            )

        yield made


@pytest.mark.parametrize("check", DATAMODULE_CHECKS, ids=lambda check: check.__name__)
@pytest.mark.parametrize("name", list(Registry("ssl_lightning.datamodules")))
def test_datamodule(name: str, check: Callable[[DataKit], None], kit: Callable[[str], DataKit]) -> None:
    check(kit(name))


@pytest.mark.parametrize("check", DATAMODULE_CHECKS, ids=lambda check: check.__name__)
@pytest.mark.parametrize("cls", [TinyImages, TinyWaves], ids=lambda cls: cls.__name__)
def test_datamodule_of_the_kit_itself(cls: type[SSLDataModule], check: Callable[[DataKit], None]) -> None:
    check(DataKit(cls))
