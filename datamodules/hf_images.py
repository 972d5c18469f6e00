"""Images that Hugging Face `datasets` reads: from the hub, a saved folder, or parquet files."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import pyarrow
import pyarrow.compute
import torch

from ssl_lightning.data.datamodule import Split
from ssl_lightning.data.files.split_names import splits_of
from ssl_lightning.data.groups import number_of
from ssl_lightning.data.images.datamodule import PictureDataModule
from ssl_lightning.data.images.picture import UnreadablePicture
from ssl_lightning.data.images.source import PictureSource
from ssl_lightning.data.labels import ABSENT, class_name
from ssl_lightning.data.ledger import LeftOut, Tally
from ssl_lightning.data.sources import Source
from ssl_lightning.plugins.messages import did_you_mean

SPLITS: tuple[Split, ...] = ("train", "val", "test")


class HFImages(PictureDataModule):
    """Images of any size through Hugging Face datasets: a hub name, a copy of a hub's repository, a
    saved folder, or parquet. Needs `ssl-lightning[hf]`.

    Code that a data set ships is never run. Images stay encoded until their batch is made.

    Args:
        path: a name on the hub (`uoft-cs/cifar10`), a folder that `save_to_disk` wrote, a parquet
            file, a folder of parquet files, or a copy of a hub's repository (`data/*.parquet`).
        name: the data set's configuration, if it has several.
        revision: the data set's revision on the hub: a tag, a branch or a commit.
        split: the split to pretrain on; the probes learn from its labels, if there are any.
        val_split: the split that the live probes are judged on; None: the one that is called so
            (`validation`, `dev`), else a held-out part of `split`.
        test_split: the split of the closing table; None: the one that is called so, if there is
            one.
        image_column: the column of the images.
        label_column: the column of their classes: names, or integers from 0; empty, null, NaN and
            -1 mark rows without one. None: `label`, if there is one.
        group_column: the column of what is held out together where there is no validation split,
            such as the patient; None: each image for itself.
    """

    def __init__(
        self,
        path: str,
        *,
        name: str | None = None,
        revision: str | None = None,
        split: str = "train",
        val_split: str | None = None,
        test_split: str | None = None,
        image_column: str = "image",
        label_column: str | None = None,
        group_column: str | None = None,
        **kwargs: Any,
    ) -> None:
        super().__init__(**kwargs)
        self.path, self.name, self.revision = path, name, revision
        self.named_splits: dict[str, str | None] = {"train": split, "val": val_split, "test": test_split}
        self.image_column, self.label_column, self.group_column = image_column, label_column, group_column
        self._all: Any = None

    def prepare_data(self) -> None:
        super().prepare_data()
        self._load()

    def source(self, split: Split) -> Source | None:
        name = self._split_name(split)
        if name is None:
            return None
        rows = self._load()[name]
        image = self._column(rows, self.image_column, "image_column")
        label = "label" if self.label_column is None and "label" in rows.column_names else self.label_column
        labels = None
        if label is not None:
            labels = self._labels(rows, self._column(rows, label, "label_column"))
        source = Rows(rows, image, f"{self.path}, {name}", self.reading, labels, self.unreadable, self.max_unreadable)
        if self.group_column is not None:
            values = _values(rows, self._column(rows, self.group_column, "group_column")).to_pylist()
            source.groups = torch.tensor([number_of(str(value)) for value in values])
        return source

    def beside(self) -> Tally | None:
        used = {self._split_name(split) for split in SPLITS}
        option = "--data.split, --data.val_split or --data.test_split"
        left_out = [
            LeftOut(f"are of the split {name!r}", len(rows), f"row 0 of {name}", option)
            for name, rows in self._load().items()
            if name not in used
        ]
        return Tally("beside", "rows", {}, left_out) if left_out else None

    def _split_name(self, split: Split) -> str | None:
        available, named = list(self._load()), self.named_splits[split]
        if named is None:
            return next(iter(splits_of(available).get(split, [])), None)
        if named not in available:
            raise ValueError(
                f"{self.path!r} has no split {named!r}.{did_you_mean(named, available)}"
                f" The splits are {', '.join(available)}."
            )
        return named

    def _column(self, rows: Any, name: str, argument: str) -> str:
        if name not in rows.column_names:
            hint = did_you_mean(name, rows.column_names)
            raise ValueError(
                f"{self.path!r} has no column {argument}={name!r}.{hint}"
                f" The columns are {', '.join(rows.column_names)}."
            )
        return name

    def _labels(self, rows: Any, column: str) -> torch.Tensor:
        """Returns class indices: integers as they are, names by their index in alphabetical order
        over all splits, -1 for rows without a class."""
        values, feature = _values(rows, column), rows.features[column]
        kinds, classes = self._kinds(values, column)
        self.class_names = getattr(feature, "names", None) and tuple(feature.names)
        if not hasattr(feature, "names") and _is_text(values.type):
            parts = (_values(part, column) for part in self._load().values())
            names = sorted({name for part in parts for name in self._kinds(part, column)[1] if name is not None})
            self.class_names = tuple(names)
            classes = [name if name is None else str(names.index(name)) for name in classes]
        numbers = [ABSENT if name is None else int(name) for name in classes]
        if numbers and min(numbers) < ABSENT:
            raise ValueError(
                f"The column {column!r} of {self.path!r} holds {min(numbers)}; classes are names or integers from 0,"
                f" and {ABSENT} marks a row without one."
            )
        index = pyarrow.compute.index_in(values, kinds).to_numpy().astype("int64")
        return torch.tensor(numbers, dtype=torch.int64)[torch.from_numpy(index)]

    def _kinds(self, values: Any, column: str) -> tuple[Any, list[str | None]]:
        """Returns the different values of a column, and the class that each means."""
        nested = pyarrow.types.is_nested(values.type)  # such values cannot be told apart
        kinds = values.slice(0, 1) if nested else values.unique()
        where = f"The label {column!r} of {self.path!r}"
        return kinds, [class_name(value, where) for value in kinds.to_pylist()]

    def _load(self) -> Any:
        """All splits by name."""
        if self._all is None:
            self._all = load(self.path, self.name, self.revision)
        return self._all


def load(path: str, name: str | None = None, revision: str | None = None) -> dict[str, Any]:
    """Loads the splits of a data set by name, memory-mapped.

    Raises:
        ValueError: `datasets` is not installed, or there is no such data set.
    """
    try:
        import datasets
    except ImportError as error:
        raise ValueError("hf_images needs Hugging Face datasets: pip install 'ssl-lightning[hf]'.") from error
    local = Path(path).expanduser()
    parquet = _parquet(local) if local.suffix == ".parquet" or any(local.glob("*.parquet")) else None
    saved = any((local / name).is_file() for name in ("dataset_dict.json", "state.json"))
    copied = local.is_dir() and not saved and not parquet and any(local.rglob("*.parquet"))
    if local.exists() and not (parquet or saved or copied):
        raise ValueError(
            f"{path!r} is neither parquet nor a folder that `save_to_disk` wrote. For files of images: --data"
            " image_folder."
        )
    try:
        if parquet:
            splits = datasets.load_dataset("parquet", data_files=parquet)
        elif saved:
            splits = datasets.load_from_disk(str(local))
        else:
            splits = datasets.load_dataset(str(local) if copied else path, name, revision=revision)
    except (OSError, ValueError, RuntimeError, datasets.exceptions.DatasetsError) as error:
        raise ValueError(f"Hugging Face datasets cannot load {path!r}: {type(error).__name__}: {error}") from error
    return dict(splits) if isinstance(splits, dict) else {"train": splits}


def _parquet(path: Path) -> dict[str, list[str]]:
    """Returns the files by split: `train-00000-of-00002.parquet` is a part of `train`; a name
    without a known split counts as train."""
    if not path.exists():
        raise ValueError(f"There is no file {str(path)!r}.")
    files = sorted(path.glob("*.parquet")) if path.is_dir() else [path]
    named = splits_of(file.name for file in files)
    split_of = {name: split for split, names in named.items() for name in names}
    splits: dict[str, list[str]] = {split: [] for split in ("train", "val", "test", "pretrain")}
    for file in files:
        splits[split_of.get(file.name, "train")].append(str(file))
    return {split: parts for split, parts in splits.items() if parts}


def _values(rows: Any, column: str) -> Any:
    """Returns a column of a `datasets.Dataset` as an array of Arrow."""
    return rows.select_columns([column]).with_format("arrow")[:].column(0)


def _is_text(kind: Any) -> bool:
    """Whether values are names, or true and false."""
    types = pyarrow.types
    if types.is_dictionary(kind):
        kind = kind.value_type
    return types.is_string(kind) or types.is_large_string(kind) or types.is_boolean(kind)


class Rows(PictureSource):
    """A source of the encoded images of a column.

    Args:
        rows: a `datasets.Dataset`.
        column: of the images: what `datasets.Image` holds, or bytes.
        title: what errors call the data set.

    Raises:
        ValueError: the column holds something else.
    """

    unit = "rows"

    def __init__(self, rows: Any, column: str, title: str, *args: Any) -> None:
        import datasets

        kind = rows.features[column]
        if isinstance(kind, datasets.Image):
            rows = rows.cast_column(column, datasets.Image(decode=False))
        elif not isinstance(kind, dict) and getattr(kind, "dtype", None) not in ("binary", "large_binary", "string"):
            raise ValueError(f"The column {column!r} of {title} holds no images, but {kind}; name another one.")
        self.rows, self.column, self.title = rows.select_columns([column]), column, title
        super().__init__(len(rows), *args)

    def file(self, number: int) -> str | bytes:
        value: Any = self.rows[number][self.column]
        if isinstance(value, dict):
            value = value.get("bytes") or value.get("path")
        if not isinstance(value, (bytes, str)):
            raise UnreadablePicture(f"{self.name(number)}: it holds no image.")
        return value

    def name(self, number: int) -> str:
        return f"row {number} of {self.title}"
