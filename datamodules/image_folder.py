"""Any folder of image files, or a list of them."""

from __future__ import annotations

from pathlib import Path
from typing import Any, Literal

from ssl_lightning.data.datamodule import Split
from ssl_lightning.data.files.folders import AnyList, Folders, Labels
from ssl_lightning.data.files.lists import SUFFIXES as LISTS
from ssl_lightning.data.files.lists import class_column
from ssl_lightning.data.files.manifest import NONE, Columns, Manifest
from ssl_lightning.data.images.datamodule import PictureDataModule
from ssl_lightning.data.images.picture import SUFFIXES
from ssl_lightning.data.images.source import PictureSource
from ssl_lightning.data.ledger import Tally
from ssl_lightning.data.sources import Source
from ssl_lightning.plugins.messages import printable


class ImageFolder(PictureDataModule):
    r"""Any folder of image files, of any size, mode and depth, with or without class folders; or a
    list of them.

    Pretraining uses all files below `root`. If folders in `root` are called as splits are (`train`
    and `test`, `Training`, `train-clean-100` and `dev-clean`), training uses those of `train`, the
    probes are judged on `val` and `test`, and pretraining uses `unlabelled` instead of `train`, if
    there is one. The list of files is cached, and renewed when a folder changes.

    If `root` is a file (csv, tsv, jsonl or parquet), it lists the images, one per line: their
    paths, relative to the file's folder, and, in optional columns, their class and their split.

    Args:
        root: the folder, or the list.
        labels: for a folder. `folders`: an image's class is the first folder below the root (or
            below `train`, `val`, `test`); `parent`: the folder that holds it, at whatever level;
            `none`: there are no classes; `auto`: the first folders are classes if there are several
            and each image is directly in one of them. For a list: `none`, or the column of classes.
        splits: `auto` divides a folder by the names in it, and a list by its column of splits;
            `none` takes everything for `train`.
        path_column: for a list: the column of the images' paths.
        label_column: for a list: the column of their classes, empty for an image without one; None:
            `label`, if there is such a column.
        split_column: for a list: the column of `train`, `val`, `test`, or `unlabelled` for images
            to pretrain on instead of `train`; None: `split`, `subset`, `partition` or `set`;
            without such a column all images are `train`.
        group_column: for a list: the column of the patient, or whatever images have in common that
            are held out together where there is no `val`; None: each file.
        group_pattern: for a folder: a regular expression that finds in a file's path, relative to
            `root`, what is held out together, such as the patient: `'patient_(\d+)'`; None: each
            file for itself.
    """

    takes_files = "root"
    default_epochs = 100

    def __init__(
        self,
        root: str,
        *,
        labels: Labels = "auto",
        splits: Literal["auto", "none"] = "auto",
        path_column: str = "path",
        label_column: str | None = None,
        split_column: str | None = None,
        group_column: str | None = None,
        group_pattern: str | None = None,
        **kwargs: Any,
    ) -> None:
        super().__init__(**kwargs)
        self.folders: Folders | None = None
        path = Path(root).expanduser()
        if path.suffix.lower() in LISTS and path.is_file():
            label_column = class_column(path, path_column, label_column, labels)
            split_column = NONE if splits == "none" else split_column
            columns = Columns(path_column, label_column, split_column, NONE, NONE, NONE, group_column)
            self.manifest = Manifest(path, columns)
        elif root.lower().endswith(LISTS) and not path.is_dir():
            raise FileNotFoundError(f"There is no list {root!r}.")
        else:
            self.folders = Folders(root, SUFFIXES, labels, "images", splits, group_pattern)

    def beside(self) -> Tally | None:
        return self.folders.beside() if self.folders else None

    def prepare_data(self) -> None:
        """Lists the files, so that every process reads the list from the cache."""
        super().prepare_data()
        for split in ("train", "pretrain") if self.folders else ():
            self._files(split)

    def source(self, split: Split) -> Source | None:
        return self._pictures(split)

    def pretraining_source(self) -> Source | None:
        return self._pictures("pretrain")

    def _files(self, split: str) -> AnyList | Manifest | None:
        return self.folders.files(split) if self.folders else self.manifest.of_split(split)

    def _pictures(self, split: str) -> Source | None:
        files, labels, groups, remark = self._files(split), None, None, ""
        if files is None:
            return None
        if isinstance(files, Manifest):
            labels, groups, self.class_names = files.labels, files.groups, self.manifest.class_names
        elif self.folders and split != "pretrain":
            labels, groups = self.folders.labels(split, files), self.folders.groups(files)
            self.class_names, remark = self.folders.class_names, self.folders.remark
        source = Files(files, self.reading, labels, self.unreadable, self.max_unreadable)
        source.remark, source.groups = remark, groups
        return source


class Files(PictureSource):
    """A source of the image files of a list, or below a folder."""

    def __init__(self, files: AnyList | Manifest, *args: Any) -> None:
        super().__init__(len(files), *args)
        self.files, self.fingerprint, self.left_out = files, files.fingerprint, files.left_out

    def file(self, number: int) -> str:
        return self.files[number]

    def name(self, number: int) -> str:
        return printable(self.files[number])
