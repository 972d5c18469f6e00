"""Any folder of image files."""

from __future__ import annotations

import os
from pathlib import Path
from typing import Any, Literal

import numpy as np
import torch

from ssl_lightning.datamodule import Split
from ssl_lightning.files.file_list import FileList, FirstFolders, list_files
from ssl_lightning.files.scan import printable
from ssl_lightning.images import PictureDataModule
from ssl_lightning.pictures.picture import SUFFIXES
from ssl_lightning.pictures.source import PictureSource
from ssl_lightning.registry import did_you_mean
from ssl_lightning.sources import Source

NAMES: dict[str, tuple[str, ...]] = {
    "train": ("train", "training"),
    "val": ("val", "valid", "validation"),
    "test": ("test", "testing"),
    "pretrain": ("unlabelled", "unlabeled", "pretrain"),
}
"""Folders below the root that are splits, where there is one for training."""


class ImageFolder(PictureDataModule):
    """Any folder of image files, of any size, mode and depth, with or without class folders.

    Everything below `root` is pretrained on. Where `root` has a folder `train`, that is what is learned from, `val` and `test` are
    what the probes are judged by, and `unlabelled`, if it is there, is pretrained on instead. The list of files is made once and
    cached; it is made anew when a folder changes.

    Args:
        root: the folder.
        labels: `folders`: an image's class is the first folder below the root (or below `train`, `val`, `test`); `none`: there are
            no classes; `auto`: folders are classes where there are several and each image lies in one of them, not deeper.
    """

    default_epochs = 100

    def __init__(self, root: str, *, labels: Literal["auto", "folders", "none"] = "auto", **kwargs: Any) -> None:
        super().__init__(**kwargs)
        if labels not in ("auto", "folders", "none"):
            raise ValueError(f"labels={labels!r} is unknown; choose auto, folders or none.")
        if not root:
            raise ValueError("root is empty; give the folder of the images, such as --data.root photos.")
        self.root, self.labels = root, labels
        self.folder = Path(root).expanduser()
        if not _has_images(self.folder):
            list_files(self.folder, SUFFIXES)  # says what is wrong, before an encoder is built

    def prepare_data(self) -> None:
        """Lists the files, for every process to find in the cache."""
        super().prepare_data()
        for split in ("train", "pretrain"):
            self._files(split)

    def source(self, split: Split) -> Source | None:
        files = self._files(split)
        return None if files is None else self._pictures(files, self._labels(split, files))

    def pretraining_source(self) -> Source | None:
        files = self._files("pretrain")
        return None if files is None else self._pictures(files, None)

    def _pictures(self, files: FileList, labels: torch.Tensor | None) -> Source:
        return Files(files, self.reading, labels, self.unreadable, self.max_unreadable)

    def _files(self, split: str) -> FileList | None:
        """The files of a split; None where there is no such folder."""
        divided = _below(self.folder, "train")
        if split == "train":
            return list_files(divided or self.folder, SUFFIXES)
        place = _below(self.folder, split) if divided else None  # a folder of photos may happen to be called `test`
        return None if place is None else list_files(place, SUFFIXES)

    def _labels(self, split: Split, files: FileList) -> torch.Tensor | None:
        """Each image's class, by the names of the training split's folders; None where there are no classes."""
        folders = files.folders()
        if split == "train":
            self.class_names = self._classes(files, folders)
        else:
            self.split("train")
        if not self.class_names:
            return None
        known = {name: number for number, name in enumerate(self.class_names)}
        unknown = next((name for name in folders.names if name not in known), None)
        if unknown is not None:
            raise ValueError(f"{files.root} has the class {unknown!r}, which the training images have not.{did_you_mean(unknown, known)}")
        outside = np.flatnonzero(folders.of_file < 0)
        if len(outside):
            raise ValueError(f"{printable(files[int(outside[0])])} lies in no class folder. Move it, or set --data.labels none.")
        return torch.from_numpy(np.array([known[name] for name in folders.names])[folders.of_file])

    def _classes(self, files: FileList, folders: FirstFolders) -> tuple[str, ...]:
        """The names of the classes; none where the folders are not taken for classes."""
        if self.labels == "none" or (self.labels == "auto" and not (folders.one_level and len(folders.names) > 1)):
            return ()
        if len(folders.names) < 2:
            there = f"one, {folders.names[0]!r}" if folders.names else "none"
            raise ValueError(f"{files.root} should hold a folder for each class, and holds {there}. Set --data.labels none to do without.")
        return tuple(folders.names)


class Files(PictureSource):
    """Image files of a list."""

    def __init__(self, files: FileList, *args: Any) -> None:
        super().__init__(len(files), *args)
        self.files, self.fingerprint = files, files.fingerprint

    def file(self, number: int) -> str:
        return self.files[number]

    def name(self, number: int) -> str:
        return printable(self.files[number])


def _below(folder: Path, split: str) -> Path | None:
    return next((folder / name for name in NAMES[split] if (folder / name).is_dir()), None)


def _has_images(folder: Path) -> bool:
    """Whether there is an image, as far as the first one met tells."""
    return any(os.path.splitext(name)[1].lower() in SUFFIXES for _, _, names in os.walk(folder) for name in names)
