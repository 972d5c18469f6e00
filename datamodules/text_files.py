"""Any text files, by path, folder or pattern."""

from __future__ import annotations

import os
from pathlib import Path
from typing import Any, Literal

from ssl_lightning.data.groups import check_pattern
from ssl_lightning.data.ledger import Tally
from ssl_lightning.data.text.datamodule import Part, TextDataModule
from ssl_lightning.data.text.documents import Corpus
from ssl_lightning.data.text.encodings import check_encoding
from ssl_lightning.data.text.files import MOST_UNDECODABLE, Files, beside_splits, find_files, find_splits
from ssl_lightning.data.text.formats import TABLES, form_of
from ssl_lightning.data.text.tables import Columns
from ssl_lightning.plugins.arguments import one_of, require


class TextFiles(TextDataModule):
    """Any text files: txt, md, rst, html, jsonl, csv, tsv or parquet, or txt.gz and the like.

    If a folder has files or folders named as splits are (`train.csv`, `test.csv`; `train/`,
    `valid/`; `wiki.train.raw`, `wiki.test.raw`), these are the splits, and pretraining uses those
    named unlabelled, if there are any, instead of train; else everything is train. In a folder,
    files such as `README.md` and `LICENSE` are left out, and beside tables all marked-up text.
    Files are UTF-8, or UTF-16 or UTF-32 where their first bytes say so. Bytes that are not of the
    encoding become U+FFFD and empty documents are skipped; a warning says how many, and a file with
    too many is refused. Only the probes and supervised methods use labels.

    Args:
        path: a file, a folder including its subfolders, or a pattern such as `texts/**/*.txt`.
        val_path: the validation documents, on which probes are judged during a run; these files are
            not trained on where `path` has them too.
        test_path: the test documents, likewise.
        splits: `auto` divides a folder by the names in it; `none` takes everything for train.
        text_column: the column of the text, in jsonl, csv and parquet.
        label_column: the column of the class; None: no classes.
        group_column: the column of what is held out together, such as the author; None: each
            document for itself.
        group_pattern: a regular expression that finds the group of a file's documents in its path,
            relative to `path`, such as `'^([^/]+)/'` for its first folder; `'.*'`: each file is a
            group.
        encoding: of files that are not UTF-8, UTF-16 or UTF-32, such as `cp1251`; `auto`: there are
            none.
        max_undecodable: the fraction of a file's characters that may be bytes that are not of its
            encoding; a file with more is refused.
        document: what counts as a document in txt: `paragraph`, separated by blank lines; `line`;
            `file`.
    """

    takes_files = "path"

    def __init__(
        self,
        path: str,
        *,
        val_path: str | None = None,
        test_path: str | None = None,
        splits: Literal["auto", "none"] = "auto",
        text_column: str = "text",
        label_column: str | None = None,
        group_column: str | None = None,
        group_pattern: str | None = None,
        encoding: str = "auto",
        max_undecodable: float = MOST_UNDECODABLE,
        document: Literal["paragraph", "line", "file"] = "paragraph",
        **kwargs: Any,
    ) -> None:
        super().__init__(**kwargs)
        one_of("document", document, ("paragraph", "line", "file"))
        if not path:
            raise ValueError("path is empty; give the file or folder of the texts, such as --data.path texts.")
        if group_column is not None and group_pattern is not None:
            raise ValueError(
                f"group_column={group_column!r} and group_pattern={group_pattern!r} both give groups; leave one out."
            )
        require(self, at_least=0, at_most=1, max_undecodable=max_undecodable)
        self.path, self.columns, self.document = path, Columns(text_column, label_column, group_column), document
        self.encoding, self.max_undecodable = check_encoding(encoding), max_undecodable
        self.group_pattern = check_pattern(group_pattern)
        place = Path(path).expanduser()
        self.root = place if place.is_dir() else place.parent
        one_of("splits", splits, ("auto", "none"))
        self.files = find_splits(path, splits)
        for split, given in (("val", val_path), ("test", test_path)):
            if given is not None:
                self.files[split] = find_files(given)
        if val_path is not None or test_path is not None:
            self._keep_apart()

    def _keep_apart(self) -> None:
        """Takes the files of `val_path` and `test_path` out of those to train on."""
        judged = {os.path.realpath(file) for split in ("val", "test") for file in self.files.get(split, ())}
        for split in {"train", "pretrain"} & self.files.keys():
            self.files[split] = tuple(file for file in self.files[split] if os.path.realpath(file) not in judged)
            if not self.files[split]:
                raise ValueError(f"val_path and test_path take all files of path={self.path!r}; give more files.")

    @property
    def how_to_label(self) -> str:
        forms = map(form_of, self.files.get("train", ()))
        if self.columns.label is not None or not any(form is not None and form.suffix in TABLES for form in forms):
            return ""
        return "; --data.label_column names the column of the class, such as `label`"

    def beside(self) -> Tally | None:
        return beside_splits(self.path, self.files)

    def corpus(self, split: Part) -> Corpus | None:
        files = self.files.get(split)
        if files is None:
            return None
        name = str(files[0]) if len(files) == 1 else f"The {split} split ({len(files):,} files at {self.path})"
        columns = self.columns._replace(label=None) if split == "pretrain" else self.columns
        return Files(
            name,
            files,
            columns,
            self.document,
            self.encoding,
            self.max_undecodable,
            self.group_pattern,
            self.root,
        )
