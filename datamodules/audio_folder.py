"""Any folder of sound files, or a list of them."""

from __future__ import annotations

from pathlib import Path
from typing import Any, Literal

from torch import Tensor

from ssl_lightning.data.datamodule import Split
from ssl_lightning.data.files.file_list import FileList
from ssl_lightning.data.files.folders import Folders
from ssl_lightning.data.sound.datamodule import SoundDataModule
from ssl_lightning.data.sound.files import SoundFiles
from ssl_lightning.data.sound.manifest import SUFFIXES as LISTS
from ssl_lightning.data.sound.manifest import Columns, Manifest
from ssl_lightning.data.sound.recording import SUFFIXES
from ssl_lightning.data.sources import Source


class AudioFolder(SoundDataModule):
    """Any folder of sound files (wav, flac, ogg, mp3), of any length and rate, with or without
    class folders; or a list of them.

    Everything below `root` is pretrained on. Where `root` has a folder `train`, that is what is
    learned from, `val` and `test` are what the probes are judged by, and `unlabelled`, if it is
    there, is pretrained on instead. The list of files is made once and cached; it is made anew when
    a folder changes.

    Where `root` is a file (csv or jsonl), it lists the recordings, one a line: their paths,
    relative to its own folder, and if it has such columns, their class, the split that they belong
    to, and where they begin and end within the file, in seconds.

    Args:
        root: the folder, or the list.
        labels: of a folder. `folders`: a recording's class is the first folder below the root (or
            below `train`, `val`, `test`); `none`:
            there are no classes; `auto`: folders are classes where there are several and each file
            lies in one of them, not deeper.
        path_column: of a list: where a recording lies.
        label_column: of a list: the class; None is none.
        split_column: of a list: `train`, `val`, `test`, or `unlabelled` for what is pretrained on
            instead of `train`; without such a column everything is `train`.
        start_column: of a list: where the recording begins in its file, in seconds; empty, or
            without such a column: at the beginning.
        end_column: of a list: where it ends; empty, or without such a column: at the end.
    """

    default_epochs = 100

    def __init__(
        self,
        root: str,
        *,
        labels: Literal["auto", "folders", "none"] = "auto",
        path_column: str = "path",
        label_column: str | None = None,
        split_column: str = "split",
        start_column: str = "start",
        end_column: str = "end",
        **kwargs: Any,
    ) -> None:
        super().__init__(**kwargs)
        self.folders: Folders | None = None
        if root and Path(root).expanduser().is_file():
            self.manifest = Manifest(
                Path(root).expanduser(), Columns(path_column, label_column, split_column, start_column, end_column)
            )
        elif root.lower().endswith(LISTS):
            raise FileNotFoundError(f"There is no list {root!r}.")
        else:
            self.folders = Folders(root, SUFFIXES, labels, "recordings")

    def source(self, split: Split) -> Source | None:
        return self._recordings(split)

    def pretraining_source(self) -> Source | None:
        return self._recordings("pretrain")

    def _recordings(self, split: str) -> Source | None:
        labels: Tensor | None
        files: FileList | Manifest | None
        if self.folders is None:
            files = self.manifest.of_split(split)
            if files is None:
                return None
            labels, self.class_names = files.labels, self.manifest.class_names
        else:
            files = self.folders.files(split)
            if files is None:
                return None
            labels = None if split == "pretrain" else self.folders.labels(split, files)
            self.class_names = self.folders.class_names
        return SoundFiles(files, self.sample_rate, labels, self.unreadable, self.max_unreadable)
