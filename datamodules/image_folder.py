"""Any folder of image files."""

from __future__ import annotations

from typing import Any, Literal

from torch import Tensor

from ssl_lightning.data.datamodule import Split
from ssl_lightning.data.files.folders import AnyList, Folders
from ssl_lightning.data.images.datamodule import PictureDataModule
from ssl_lightning.data.images.picture import SUFFIXES
from ssl_lightning.data.images.source import PictureSource
from ssl_lightning.data.ledger import Tally
from ssl_lightning.data.sources import Source
from ssl_lightning.plugins.messages import printable


class ImageFolder(PictureDataModule):
    r"""Any folder of image files, of any size, mode and depth, with or without class folders.

    Pretraining uses all files below `root`. If folders in `root` are called as splits are (`train`
    and `test`, `Training`, `train-clean-100` and `dev-clean`), training uses those of `train`, the
    probes are judged on `val` and `test`, and pretraining uses `unlabelled` instead of `train`, if
    there is one. The list of files is cached, and renewed when a folder changes.

    Args:
        root: the folder.
        labels: `folders`: an image's class is the first folder below the root (or below `train`,
            `val`, `test`); `none`: there are no classes; `auto`: folders are classes if there are
            several and each image is directly in one of them.
        splits: `auto` divides the folder by the names in it; `none` takes everything for `train`.
        group_pattern: a regular expression that finds in a file's path, relative to `root`, what is
            held out together where there is no validation split, such as the patient:
            `'patient_(\d+)'`; None: each file for itself.
    """

    default_epochs = 100

    def __init__(
        self,
        root: str,
        *,
        labels: Literal["auto", "folders", "none"] = "auto",
        splits: Literal["auto", "none"] = "auto",
        group_pattern: str | None = None,
        **kwargs: Any,
    ) -> None:
        super().__init__(**kwargs)
        self.folders = Folders(root, SUFFIXES, labels, "images", splits, group_pattern)

    def beside(self) -> Tally | None:
        return self.folders.beside()

    def prepare_data(self) -> None:
        """Lists the files, so that every process reads the list from the cache."""
        super().prepare_data()
        for split in ("train", "pretrain"):
            self.folders.files(split)

    def source(self, split: Split) -> Source | None:
        files = self.folders.files(split)
        if files is None:
            return None
        labels = self.folders.labels(split, files)
        self.class_names = self.folders.class_names
        source = self._pictures(files, labels)
        source.groups = self.folders.groups(files)
        return source

    def pretraining_source(self) -> Source | None:
        files = self.folders.files("pretrain")
        return None if files is None else self._pictures(files, None)

    def _pictures(self, files: AnyList, labels: Tensor | None) -> Source:
        return Files(files, self.reading, labels, self.unreadable, self.max_unreadable)


class Files(PictureSource):
    """A source of the image files of a list."""

    def __init__(self, files: AnyList, *args: Any) -> None:
        super().__init__(len(files), *args)
        self.files, self.fingerprint, self.left_out = files, files.fingerprint, files.left_out

    def file(self, number: int) -> str:
        return self.files[number]

    def name(self, number: int) -> str:
        return printable(self.files[number])
