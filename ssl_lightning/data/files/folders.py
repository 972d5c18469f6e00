"""A folder of files as a data set: which folders below it are splits, and which are classes."""

from __future__ import annotations

import os
from collections.abc import Collection
from pathlib import Path
from typing import Literal, get_args

import numpy as np
import torch
from torch import Tensor

from ...plugins.arguments import one_of
from ...plugins.messages import did_you_mean, printable
from ..groups import check_pattern, group_in, number_of
from ..labels import ABSENT
from ..ledger import LeftOut, Tally
from .file_list import FileList, JoinedLists, Level, list_files
from .scan import SKIPPED, holds, scan
from .split_names import division

Labels = Literal["auto", "folders", "parent", "none"]
AnyList = FileList | JoinedLists


class Folders:
    """The files below a folder, by split, with their classes.

    Args:
        root: the folder.
        suffixes: of the files that count.
        labels: the folders that are classes: `folders`, the first; `parent`, those that hold the
            files, at whatever level; `none`; `auto`: the first, where there are several, and each
            file lies in one of them, not deeper.
        samples: what messages call the files.
        splits: `auto`: the folder is divided where folders in it are called as splits are
            (`split_names.division`), or in the only folder in it, and so on; `none`: all is for
            training.
        group_pattern: finds the group of a file in its path relative to `root`
            (`groups.group_in`); None: there are no groups.

    Attributes:
        class_names: in order; empty where there are no classes.

    Raises:
        OSError, ValueError: there is no such folder, or no file of these in it.
    """

    def __init__(
        self,
        root: str,
        suffixes: Collection[str],
        labels: Labels,
        samples: str,
        splits: Literal["auto", "none"] = "auto",
        group_pattern: str | None = None,
    ) -> None:
        self.group_pattern = check_pattern(group_pattern)
        one_of("splits", splits, ("auto", "none"))
        one_of("labels", labels, get_args(Labels))
        if not root:
            raise ValueError(f"root is empty; give the folder of the {samples}, such as --data.root {samples}.")
        self.suffixes, self.kind, self.samples = suffixes, labels, samples
        self.folder = Path(root).expanduser()
        self.class_names: tuple[str, ...] | None = None
        self._suffixes = frozenset(map(os.fsencode, suffixes))
        if not self.folder.is_dir() or not holds(self.folder, self._suffixes):
            list_files(self.folder, suffixes)  # says what is wrong, before an encoder is built
        self.divided = {} if splits == "none" else division(self.folder, self._inside)
        """What belongs to each split; empty: all is to train on."""

    def files(self, split: str) -> AnyList | None:
        """The files of a split (`pretrain`: those to pretrain on, where they are not those of
        `train`); None where there is no such folder."""
        places = self.divided.get(split) if self.divided else [self.folder] * (split == "train")
        lists = [list_files(place, self.suffixes) for place in places or ()]
        return JoinedLists(lists) if len(lists) > 1 else next(iter(lists), None)

    def beside(self) -> Tally | None:
        """What lies in no folder of a split."""
        if not self.divided:
            return None
        places = [place for entries in self.divided.values() for place in entries]
        folder = places[0].parent
        walks = [(folder, places)]
        while folder != self.folder:
            walks.append((folder.parent, [folder]))
            folder = folder.parent
        left_out = []
        for folder, passed in walks:
            rest = FileList(folder, scan(folder, self._suffixes, [os.fsencode(each.name) for each in passed], True), "")
            if len(rest):
                example = printable(rest.relative(0))
                left_out.append(LeftOut("are in no folder of a split", len(rest), example, "--data.splits none"))
            left_out += rest.left_out
        return Tally("elsewhere", "files", {}, left_out) if left_out else None

    def labels(self, split: str, files: AnyList) -> Tensor | None:
        """Each file's class, by the names of the training split's folders; -1 for a file to
        validate or to test on that lies in none. None where there are no classes."""
        folders = files.folders(last=self.kind == "parent")
        if self.class_names is None:
            train = files if split == "train" else self.files("train")
            assert train is not None  # it is listed, or an error says why not
            self.class_names = self._classes(train, train.folders(last=self.kind == "parent"))
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
        if len(outside) == len(files):
            return None
        if len(outside) and split == "train":
            raise ValueError(
                f"{printable(files[int(outside[0])])} lies in no class folder. Move it, or set --data.labels none."
            )
        numbers = np.array([*(known[name] for name in folders.names), ABSENT])
        return torch.from_numpy(numbers[folders.of_file])

    def groups(self, files: AnyList) -> Tensor | None:
        """Each file's group [N]; None where there are none."""
        if self.group_pattern is None:
            return None
        begins = len(os.path.join(os.path.abspath(self.folder), ""))
        paths = (files[number][begins:].replace(os.sep, "/") for number in range(len(files)))
        numbers = (number_of(group_in(self.group_pattern, path)) for path in paths)
        return torch.from_numpy(np.fromiter(numbers, np.int64, len(files)))

    @property
    def remark(self) -> str:
        """Why there are no classes, and how folders become some; empty where there are classes, or
        a user wants none, or there are no folders."""
        train = self.files("train")
        if self.class_names or self.kind != "auto" or train is None:
            return ""
        first, last = (train.folders(last=deepest).names for deepest in (False, True))
        ways = {"folders": (first, "lie right below the root"), "parent": (last, "hold the files")}
        options = [
            f"--data.labels {option} takes the {len(names):,} folders that {which} ({', '.join(names[:2])}"
            f"{', ...' * (len(names) > 2)})"
            for option, (names, which) in ways.items()
            if len(names) > 1
        ]
        return f"no labels; {' and '.join(options)} for classes" if options else ""

    def _classes(self, files: AnyList, folders: Level) -> tuple[str, ...]:
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

    def _inside(self, folder: Path) -> tuple[list[Path], bool]:
        """The folders in a folder that hold files that count, and whether such a file lies beside
        them."""
        folders, others = [], False
        with os.scandir(folder) as entries:
            for entry in entries:
                if not entry.is_dir():
                    others = others or os.path.splitext(entry.name)[1].lower() in self.suffixes
                elif entry.name[:1] != "." and os.fsencode(entry.name) not in SKIPPED:
                    folders.append(Path(entry.path))
        return sorted(path for path in folders if holds(path, self._suffixes)), others
