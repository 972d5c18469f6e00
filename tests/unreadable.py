"""A modality of another package, whose files may break: for the tests of the command line."""

from __future__ import annotations

from pathlib import Path
from typing import Any, ClassVar

import torch
from torch import Tensor, nn

from ssl_lightning import Encoder, SSLDataModule, View
from ssl_lightning.data.datamodule import Split
from ssl_lightning.data.files.source import FileSource, Unreadable
from ssl_lightning.types import Strength


class Tables(SSLDataModule):
    """Eight numbers in each file of a folder, with four classes.

    Args:
        folder: holds a folder for each split.
        unreadable, max_unreadable: of a `FileSource`.
    """

    default_encoders: ClassVar[dict[str, dict[str, Any]]] = {"Encoder": {"class_path": "unreadable.Line"}}

    class Torn(Unreadable):
        """A file that is no table."""

    class Files(FileSource):
        samples = "tables"

        def __init__(self, folder: Path, *others: Any) -> None:
            self.paths = sorted(folder.iterdir())
            self.error = Tables.Torn  # type: ignore[misc]
            super().__init__(len(self.paths), torch.arange(len(self.paths)) % 4, *others)

        def name(self, number: int) -> str:
            return self.paths[number].name

        def read(self, number: int) -> Tensor:
            try:
                return torch.tensor([float(part) for part in self.paths[number].read_text().split()])
            except ValueError as error:
                raise Tables.Torn(f"{self.name(number)}: {error}.") from error

        def fetch(self, index: Tensor) -> Tensor:
            rows = []
            for number in index.tolist():
                try:
                    rows.append(self.read(number))
                except Unreadable as error:
                    self.skip(number, error)
                    rows.append(self.substitute(number, self.read))
            return torch.stack(rows)

    class Noise(nn.Module):
        def forward(self, raw: Tensor, key: Tensor) -> Tensor:
            return raw + key[:, None] % 7

    def __init__(
        self,
        *,
        folder: str,
        unreadable: Any = "raise",
        max_unreadable: float = 0.1,
        batch_size: int = 16,
        **kwargs: Any,
    ) -> None:
        super().__init__(batch_size=batch_size, **kwargs)
        self.folder, self.unreadable, self.max_unreadable = Path(folder), unreadable, max_unreadable

    def source(self, split: Split) -> FileSource:
        return self.Files(self.folder / split, self.unreadable, self.max_unreadable)

    def transform(self, strength: Strength, local_size: int | None = None) -> nn.Module:
        return self.Noise()


class Line(Encoder):
    """One linear layer."""

    def __init__(self) -> None:
        super().__init__()
        self.dim, self.linear = 4, nn.Linear(8, 4)

    def forward(self, view: View) -> Tensor:
        features: Tensor = self.linear(view.x)
        return features


def write_tables(folder: Path, count: int = 16) -> Path:
    for split in ("train", "val", "test"):
        (folder / split).mkdir(parents=True)
        for number in range(count):
            values = torch.randn(8, generator=torch.Generator().manual_seed(number)).tolist()
            (folder / split / f"{number:03}.txt").write_text(" ".join(map(str, values)))
    return folder


def tear(folder: Path) -> None:
    """Breaks every file below a folder."""
    for path in folder.rglob("*.*"):
        path.write_text("torn")
