"""Data that consists of the items that somebody hands over, for each modality."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

from .datamodule import SSLDataModule
from .files.source import FileSource, Unreadable
from .sources import Source


class Given(SSLDataModule):
    """The base of datamodules whose training split is what `take` was given: an author defines
    `source`, of `items`."""

    items: Sequence[Any] = ()

    def made_up(self, count: int) -> list[Any]:
        """Returns items that nobody recorded, such as this data reads: what an encoder is tried on
        where there are no others."""
        raise NotImplementedError(f"{type(self).__name__} does not define `made_up`.")

    def take(self, items: Sequence[Any]) -> Source:
        """Returns the source of items, which takes the place of the earlier one."""
        self.items = items
        self._sources.clear()
        source = self.split("train")
        assert source is not None, f"{type(self).__name__}.source gives no training split"
        return source


class GivenFiles(FileSource):
    """The base of sources of such items, of which none may be left out."""

    def skip(self, number: int, error: Unreadable) -> None:
        raise error
