"""What a method shows of its views needs an encoder that makes pictures of tokens; any other fault
of a method is told."""

from __future__ import annotations

from importlib.metadata import entry_points

import pytest
from torch import Tensor

from ssl_lightning.evaluation.shown import corrupted_views
from ssl_lightning.method import SSLMethod
from ssl_lightning.testing import MethodKit
from ssl_lightning.types import Batch


def test_an_encoder_that_makes_no_pictures_of_tokens_is_no_fault() -> None:
    kit = kit_of("mae")
    assert corrupted_views(kit.method(), kit.batch()) == {}


def test_a_method_that_is_not_finished_is_told() -> None:
    class Unfinished(kit_of("simclr").cls):  # type: ignore[misc]
        def corrupted(self, batch: Batch) -> dict[str, Tensor]:
            raise NotImplementedError("to do: noise")

    kit = MethodKit(Unfinished)
    with pytest.raises(NotImplementedError, match="to do: noise"):
        corrupted_views(kit.method(), kit.batch())


def kit_of(name: str) -> MethodKit:
    cls: type[SSLMethod] = entry_points(group="ssl_lightning.methods")[name].load()
    return MethodKit(cls)
