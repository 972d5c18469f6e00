"""Any folder of sound files, or a list of them."""

from __future__ import annotations

from pathlib import Path
from typing import Any, Literal

from torch import Tensor

from ssl_lightning.data.datamodule import Split
from ssl_lightning.data.files.folders import AnyList, Folders, Labels
from ssl_lightning.data.files.lists import SUFFIXES as LISTS
from ssl_lightning.data.files.lists import class_column
from ssl_lightning.data.files.manifest import NONE, Columns, Manifest
from ssl_lightning.data.ledger import Tally
from ssl_lightning.data.sound.datamodule import SoundDataModule
from ssl_lightning.data.sound.files import SoundFiles
from ssl_lightning.data.sound.recording import SUFFIXES
from ssl_lightning.data.sources import Source


class AudioFolder(SoundDataModule):
    r"""Any folder of sound files (wav, flac, ogg, mp3), of any length and rate, with or without
    class folders; or a list of them.

    Pretraining uses all files below `root`. If folders in `root` are called as splits are (`train`
    and `test`, `Training`, `train-clean-100` and `dev-clean`), training uses those of `train`, the
    probes are judged on `val` and `test`, and pretraining uses `unlabelled` instead of `train`, if
    there is one. The list of files is cached, and renewed when a folder changes.

    If `root` is a file (csv, tsv, jsonl or parquet), it lists the recordings, one per line: their
    paths, relative to the file's folder, and, in optional columns, their class, their split, and
    where they begin and end within the sound file, in seconds. A column that is named must be
    there; one that is not named goes by the usual names, and an empty name means no column.

    Args:
        root: the folder, or the list.
        labels: for a folder. `folders`: a recording's class is the first folder below the root (or
            below `train`, `val`, `test`); `parent`: the folder that holds it, at whatever level;
            `none`: there are no classes; `auto`: the first folders are classes if there are several
            and each file is directly in one of them. For a list: `none`, or the column of classes.
        splits: `auto` divides a folder by the names in it, and a list by its column of splits;
            `none` takes everything for `train`.
        path_column: for a list: the column of the recordings' paths.
        label_column: for a list: the column of their classes, empty for a recording without one;
            None: `label`, if there is such a column.
        split_column: for a list: the column of `train`, `val`, `test`, or `unlabelled` for
            recordings to pretrain on instead of `train`; None: `split`, `subset`, `partition` or
            `set`; without such a column all recordings are `train`.
        start_column: for a list: the column of the recordings' beginnings in their files, in
            seconds; None: `start`, `offset`, `onset`, `begin`, `start_time` or `begin_time`; where
            it is missing or empty, the beginning of the file.
        end_column: for a list: the column of their ends, in seconds; None: `end`, `stop` or
            `end_time`, or `offset` beside `onset`.
        duration_column: for a list: the column of the time from beginning to end, in seconds, which
            counts where there is no end; None: `duration`; without either, the end of the file.
        group_column: for a list: the column of the speaker, or whatever recordings have in common
            that are held out together where there is no `val`; None: each file.
        group_pattern: for a folder: a regular expression that finds in a file's path, relative to
            `root`, what is held out together, such as the speaker: `'(\d+)-\d+-\d+'`; None: each
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
        start_column: str | None = None,
        end_column: str | None = None,
        duration_column: str | None = None,
        group_column: str | None = None,
        group_pattern: str | None = None,
        **kwargs: Any,
    ) -> None:
        super().__init__(**kwargs)
        self.folders: Folders | None = None
        if root and Path(root).expanduser().is_file():
            if splits == "none":
                split_column = NONE
            stretch = start_column, end_column, duration_column
            label_column = class_column(Path(root).expanduser(), path_column, label_column, labels)
            columns = Columns(path_column, label_column, split_column, *stretch, group_column)
            self.manifest = Manifest(Path(root).expanduser(), columns)
        elif root.lower().endswith(LISTS):
            raise FileNotFoundError(f"There is no list {root!r}.")
        else:
            self.folders = Folders(root, SUFFIXES, labels, "recordings", splits, group_pattern)

    def source(self, split: Split) -> Source | None:
        return self._recordings(split)

    def pretraining_source(self) -> Source | None:
        return self._recordings("pretrain")

    def beside(self) -> Tally | None:
        return self.folders.beside() if self.folders else None

    def _recordings(self, split: str) -> Source | None:
        labels: Tensor | None
        groups: Tensor | None
        files: AnyList | Manifest | None
        remark = ""
        if self.folders is None:
            files = self.manifest.of_split(split)
            if files is None:
                return None
            labels, groups, self.class_names = files.labels, files.groups, self.manifest.class_names
        else:
            files = self.folders.files(split)
            if files is None:
                return None
            labels = None if split == "pretrain" else self.folders.labels(split, files)
            self.class_names, groups = self.folders.class_names, self.folders.groups(files)
            remark = "" if split == "pretrain" else self.folders.remark
        source = SoundFiles(files, self.sample_rate, labels, self.unreadable, self.max_unreadable)
        source.groups, source.remark = groups, remark
        return source
