"""Classes for samples by a trained classifier, and its scores where labels are known."""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from contextlib import suppress
from pathlib import Path
from typing import Any, NamedTuple

import numpy as np
import pyarrow as pa
import torch
from torch import Tensor

from ...encoders.base import Encoder
from ...encoders.classifier import Classifier
from ...plugins.archive import read
from ...plugins.registry import BrokenPlugin, Registry
from ...run.checkpoints.checkpoint import newest_of
from ...run.checkpoints.encoder_file import read_encoder
from ...run.pretrained import load, younger
from ..supervised import CLASSIFIER, Supervised
from .rows import vectors_in

KEPT = ("path", "split", "index", "label")
"""Columns of a file of vectors that stand in one of predictions too."""


class ClassScore(NamedTuple):
    """One class on labelled samples: how many there are, and the shares found and found rightly."""

    name: str
    samples: int
    recall: float
    precision: float | None


class Scores(NamedTuple):
    """The predictions of samples whose labels are known.

    Attributes:
        true: [N] index of the true class among `classes`.
        predicted: [N] of the predicted one.
        rows: [N] of each among all rows.
    """

    true: Tensor
    predicted: Tensor
    rows: Tensor

    @property
    def accuracy(self) -> float:
        return float((self.true == self.predicted).float().mean())

    def of_classes(self, classes: Sequence[str]) -> list[ClassScore]:
        """The scores of each class that occurs."""
        scores = []
        for number, name in enumerate(classes):
            here, taken = self.true == number, self.predicted == number
            if bool(here.any()) or bool(taken.any()):
                both = int((here & taken).sum())
                recall = both / int(here.sum()) if bool(here.any()) else 0.0
                precision = both / int(taken.sum()) if bool(taken.any()) else None
                scores.append(ClassScore(name, int(here.sum()), recall, precision))
        return scores


def classifier_of(run: str | Path, trust: Iterable[str] = ()) -> Classifier:
    """The classifier that a supervised run trained, in eval mode on the CPU.

    Args:
        run: a run folder, its `classifier.safetensors`, or a checkpoint.
        trust: further packages that the file may name.

    Raises:
        FileNotFoundError, ValueError: there is no such run, or it trained none.
    """
    path = Path(run)
    file = path / CLASSIFIER if path.is_dir() else path
    if file.suffix == ".safetensors" and file.is_file() and not (path.is_dir() and younger(file)):
        encoder: Encoder = read_encoder(file, trust)
        if not isinstance(encoder, Classifier):
            raise ValueError(f"{str(run)!r} holds {type(encoder).__name__}, which gives no classes. {_remedy(run)}")
        return encoder
    checkpoint = newest_of(path)
    method = load(checkpoint, trust)
    if not isinstance(method, Supervised):
        raise ValueError(f"{str(run)!r} is a run of {type(method).__name__}, which gives no classes. {_remedy(run)}")
    names: Any = read(checkpoint).get("class_names")
    return method.as_classifier(names if isinstance(names, list) else None)


def supervised_methods() -> dict[str, type[Supervised]]:
    """The installed methods that learn from labels, by name; broken plug-ins are left out."""
    found, registry = {}, Registry("ssl_lightning.methods")
    for name in registry:
        with suppress(BrokenPlugin):
            cls: Any = registry[name]
            if issubclass(cls, Supervised):
                found[name] = cls
    return found


def _remedy(run: str | Path) -> str:
    names = " or ".join(supervised_methods())
    return f"Train a classifier on its encoder: ssl-lightning fit --model {names} --model.checkpoint {run} --data NAME."


def predictions_of(table: pa.Table, classes: Sequence[str]) -> pa.Table:
    """Rows of logits as rows of predictions: `predicted`, its `probability`, and `p(<class>)` for
    each class.

    Args:
        table: as of a file of vectors, which are logits.
        classes: names, in the order of the logits.
    """
    probabilities = torch.from_numpy(vectors_in(table).copy()).double().softmax(dim=1)
    best, number = probabilities.max(dim=1)
    columns = {name: table[name] for name in KEPT}
    columns["predicted"] = pa.array([classes[each] for each in number.tolist()])
    columns["probability"] = pa.array(best.numpy())
    for each, name in enumerate(classes):
        columns[f"p({name})"] = pa.array(np.ascontiguousarray(probabilities[:, each].numpy()))
    return pa.table(columns).replace_schema_metadata(table.schema.metadata)


def scores_of(labels: Sequence[str | None], predicted: Sequence[str], classes: Sequence[str]) -> Scores | None:
    """The scores of predictions, by the names of classes; None where no label is among them.

    Args:
        labels: of all rows, None where there is none.
        predicted: likewise.
        classes: names.
    """
    numbers = {name: number for number, name in enumerate(classes)}
    rows = [row for row, label in enumerate(labels) if label in numbers]
    if not rows:
        return None
    true = torch.tensor([numbers[str(labels[row])] for row in rows])
    return Scores(true, torch.tensor([numbers[predicted[row]] for row in rows]), torch.tensor(rows))
