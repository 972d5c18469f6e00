"""Any text files, by path, folder or pattern."""

from __future__ import annotations

from typing import Any, Literal

from ssl_lightning.data.ledger import Tally
from ssl_lightning.data.text.datamodule import Part, TextDataModule
from ssl_lightning.data.text.documents import Corpus
from ssl_lightning.data.text.files import Files, beside_splits, find_files, find_splits
from ssl_lightning.data.text.formats import Columns
from ssl_lightning.plugins.arguments import one_of


class TextFiles(TextDataModule):
    """Any text files: txt, jsonl, csv or parquet.

    If a folder has files or folders named as splits are (`train.csv`, `test.csv`; `train/`,
    `valid/`; `wiki.train.raw`, `wiki.test.raw`), these are the splits, and pretraining uses those
    named unlabelled, if there are any, instead of train; else everything is train. Bytes that are
    not UTF-8 become U+FFFD and empty documents are skipped; a warning says how many. Only the
    probes and supervised methods use labels.

    Args:
        path: a file, a folder including its subfolders, or a pattern such as `texts/**/*.txt`.
        val_path: the validation documents, on which probes are judged during a run.
        test_path: the test documents.
        splits: `auto` divides a folder by the names in it; `none` takes everything for train.
        text_column: the column of the text, in jsonl, csv and parquet.
        label_column: the column of the class; None: no classes.
        document: what counts as a document in txt: `paragraph`, separated by blank lines; `line`;
            `file`.
    """

    def __init__(
        self,
        path: str,
        *,
        val_path: str | None = None,
        test_path: str | None = None,
        splits: Literal["auto", "none"] = "auto",
        text_column: str = "text",
        label_column: str | None = None,
        document: Literal["paragraph", "line", "file"] = "paragraph",
        **kwargs: Any,
    ) -> None:
        super().__init__(**kwargs)
        one_of("document", document, ("paragraph", "line", "file"))
        if not path:
            raise ValueError("path is empty; give the file or folder of the texts, such as --data.path texts.")
        self.path, self.columns, self.document = path, Columns(text_column, label_column), document
        one_of("splits", splits, ("auto", "none"))
        self.files = find_splits(path, splits)
        for split, given in (("val", val_path), ("test", test_path)):
            if given is not None:
                self.files[split] = find_files(given)

    def beside(self) -> Tally | None:
        return beside_splits(self.path, self.files)

    def corpus(self, split: Part) -> Corpus | None:
        files = self.files.get(split)
        if files is None:
            return None
        name = str(files[0]) if len(files) == 1 else f"The {split} split ({len(files):,} files at {self.path})"
        columns = self.columns._replace(label=None) if split == "pretrain" else self.columns
        return Files(name, files, columns, self.document)
