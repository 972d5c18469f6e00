"""A folder of files as a data set: which folders below it are splits, and which are classes."""

from __future__ import annotations

import os
from collections.abc import Collection
from pathlib import Path
from typing import Literal

import numpy as np
import torch
from torch import Tensor

from ...plugins.messages import did_you_mean, printable
from .file_list import FileList, FirstFolders, list_files

NAMES: dict[str, tuple[str, ...]] = {
    "train": ("train", "training"),
    "val": ("val", "valid", "validation"),
    "test": ("test", "testing"),
    "pretrain": ("unlabelled", "unlabeled", "pretrain"),
}
"""Folders below the root that are splits, where there is one for training."""


class Folders:
    """The files below a folder, by split, with their classes.

    Args:
        root: the folder.
        suffixes: of the files that count.
        labels: `folders`, `none` or `auto`: whether the first folders are classes; `auto`: where
            there are several, and each file lies in one of them, not deeper.
        samples: what messages call the files.

    Attributes:
        class_names: in order; empty where there are no classes.

    Raises:
        OSError, ValueError: there is no such folder, or no file of these in it.
    """

    def __init__(
        self, root: str, suffixes: Collection[str], labels: Literal["auto", "folders", "none"], samples: str
    ) -> None:
        if labels not in ("auto", "folders", "none"):
            raise ValueError(f"labels={labels!r} is unknown; choose auto, folders or none.")
        if not root:
            raise ValueError(f"root is empty; give the folder of the {samples}, such as --data.root {samples}.")
        self.suffixes, self.kind, self.samples = suffixes, labels, samples
        self.folder = Path(root).expanduser()
        self.class_names: tuple[str, ...] | None = None
        if not self._has_files():
            list_files(self.folder, suffixes)  # says what is wrong, before an encoder is built

    def files(self, split: str) -> FileList | None:
        """The files of a split (`pretrain`: those to pretrain on, where they are not those of
        `train`); None where there is no such folder."""
        divided = self._below("train")
        if split == "train":
            return list_files(divided or self.folder, self.suffixes)
        place = self._below(split) if divided else None  # a folder of photos may happen to be called `test`
        return None if place is None else list_files(place, self.suffixes)

    def labels(self, split: str, files: FileList) -> Tensor | None:
        """Each file's class, by the names of the training split's folders; None where there are no
        classes."""
        folders = files.folders()
        if self.class_names is None:
            train = files if split == "train" else self.files("train")
            assert train is not None  # it is listed, or an error says why not
            self.class_names = self._classes(train, train.folders())
        if not self.class_names:
            return None
        known = {name: number for number, name in enumerate(self.class_names)}
        unknown = next((name for name in folders.names if name not in known), None)
        if unknown is not None:
            raise ValueError(
                f"{files.root} has the class {unknown!r}, which the training {self.samples} have"
                f" not.{did_you_mean(unknown, known)}"
            )
        outside = np.flatnonzero(folders.of_file < 0)
        if len(outside):
            raise ValueError(
                f"{printable(files[int(outside[0])])} lies in no class folder. Move it, or set --data.labels none."
            )
        return torch.from_numpy(np.array([known[name] for name in folders.names])[folders.of_file])

    def _classes(self, files: FileList, folders: FirstFolders) -> tuple[str, ...]:
        """The names of the classes; none where the folders are not taken for classes."""
        if self.kind == "none" or (self.kind == "auto" and not (folders.one_level and len(folders.names) > 1)):
            return ()
        if len(folders.names) < 2:
            there = f"one, {folders.names[0]!r}" if folders.names else "none"
            raise ValueError(
                f"{files.root} should hold a folder for each class, and holds {there}. Set --data.labels none to do"
                " without."
            )
        return tuple(folders.names)

    def _below(self, split: str) -> Path | None:
        return next((self.folder / name for name in NAMES[split] if (self.folder / name).is_dir()), None)

    def _has_files(self) -> bool:
        """Whether there is a file that counts, as far as the first one met tells."""
        return any(
            os.path.splitext(name)[1].lower() in self.suffixes for _, _, names in os.walk(self.folder) for name in names
        )
