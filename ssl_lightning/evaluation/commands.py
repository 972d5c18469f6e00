"""`validate`, `test` and `predict`: the features of a split are evaluated, or written to a file."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any, Literal

import torch
from torch import Tensor

from ..data.datamodule import SSLDataModule
from ..data.files.kept import key_of
from ..data.files.skipped import skipped_among
from ..data.peek import sample
from ..data.sources import labels_of
from ..data.windows import merged
from ..distributed import collect, on_first
from ..plugins.archive import read
from ..plugins.record import config_of
from ..plugins.run_record import config_in
from ..run.folder.folder import folder_of, run_name
from ..run.folder.identity import settings
from ..run.lightning import hide_results
from ..run.settings.limits import check_root
from ..run.standing import Standing
from .closing import logged
from .features import features_of
from .printing import format_table
from .probes.held_out import SAMPLES, in_words, scores_of
from .protocol import closing_row
from .table import Table
from .use.rows import check_target
from .vectors import write_vectors


class Evaluation(Standing):
    """Fits kNN and logistic regression on the labelled training samples and evaluates them on the
    split at hand; a supervised method is evaluated by its own head. `validate` also scores a method
    that defines `scores` at its own task, such as by its perplexity, on held-out samples.

    For `validate` they are fitted on the training samples without the validation part, for `test`
    on all of them. `predict` writes the vectors of the split `predict_split`, with names and
    labels, to a file as `ssl-lightning embed` does; a sample that cannot be read, and is skipped,
    has no row.

    Args:
        train_samples: at most this many labelled training samples are embedded.
        out: the file that `predict` writes (.parquet, .npz, .csv); None: in the run folder
            `vectors-<split>.parquet`, and for other data than the run's with a hash in its name.
    """

    key = "evaluation"

    def __init__(self, train_samples: int = 60_000, out: str | None = None) -> None:
        self.train_samples, self.out = train_samples, None if out is None else Path(out).expanduser()
        self.collected: dict[str, list[Tensor]] = {}

    def collect(self, outputs: dict[str, Tensor]) -> None:
        for name, value in outputs.items():
            value = value.float() if name == "features" else value
            self.collected.setdefault(name, []).append(value.cpu())  # a whole split need not fit on the device

    def gathered(self, device: torch.device) -> dict[str, Tensor]:
        """What all processes collected, in the memory of the first; the others get no rows."""
        collected, self.collected = self.collected, {}
        return merged({name: collect(torch.cat(values), device) for name, values in collected.items()})

    def judge(self, trainer: Any, pl_module: Any, split: Literal["val", "test"]) -> None:
        features = self.gathered(trainer.strategy.root_device)
        data = trainer.datamodule
        if not isinstance(data, SSLDataModule):
            command = "validate" if split == "val" else "test"
            raise ValueError(
                f"There are no labelled training samples to fit the probes on: call {command} with a datamodule, not"
                " with loaders."
            )
        scored = split == "val" and self.score_held_out(trainer, pl_module, data)
        splits = data.probe_splits()
        unlabelled = data.labelled_samples(split) is None
        if scored and (splits is None or unlabelled):
            hide_results(trainer, split)  # the line above shows them
            return
        if splits is None or unlabelled:
            why = f"has no labels in its {split} split" if unlabelled else data.why_unlabelled
            raise ValueError(f"{type(data).__name__} {why}, so accuracies cannot be computed.")
        if pl_module.supervised:
            self.score(trainer, pl_module, split, features)
            return
        train = (data.labelled_split if split == "test" else None) or splits[0]
        labels = labels_of(train)
        index = sample(len(train), self.train_samples)
        train_features = features_of(pl_module, data, train, index, trainer)
        row = on_first(lambda: closing_row(train_features, labels[index], features["features"], features["label"]))
        if trainer.is_global_zero:
            name = "pretrained" if trainer.ckpt_path or trainer.global_step else "untrained"
            table: Table = {name: row}
            print(
                f"{run_name(pl_module, data)}, split {split!r},"
                f" {trainer.ckpt_path or 'weights as they are'}\n{format_table(table, split)}",
                flush=True,
            )
        hide_results(trainer, split)  # the table above shows them
        pl_module.log_dict(logged({f"{split}/{column}": cell for column, cell in row.items()}), sync_dist=True)

    def score_held_out(self, trainer: Any, pl_module: Any, data: SSLDataModule) -> bool:
        """Prints and logs the method's scores at its own task on what training does not see;
        returns whether there are any."""
        if not pl_module.has_scores or data.held_out is None:
            return False
        scores = scores_of(trainer, pl_module, sample(len(data.held_out), SAMPLES))
        if trainer.is_global_zero:
            weights = trainer.ckpt_path or "weights as they are"
            print(f"{run_name(pl_module, data)}, {weights}\n{in_words(scores)}", flush=True)
        pl_module.log_dict(scores)
        return True

    def score(self, trainer: Any, pl_module: Any, split: Literal["val", "test"], features: dict[str, Tensor]) -> None:
        """Prints and logs the accuracy and the loss of a supervised method's own head."""
        first = trainer.is_global_zero
        loss, top1, balanced = trainer.strategy.broadcast(
            pl_module.score(features["features"], features["label"]) if first else (0.0, 0.0, 0.0)
        )
        if first:
            name, weights = run_name(pl_module, trainer.datamodule), trainer.ckpt_path or "weights as they are"
            print(
                f"{name}, split {split!r}, {weights}\nTop-1 accuracy: {100 * top1:.1f} % of {len(features['label']):,}"
                " samples",
                flush=True,
            )
        hide_results(trainer, split)  # the line above shows them
        pl_module.log_dict(
            {f"{split}/top1": top1, f"{split}/balanced": balanced, f"{split}/loss": loss}, sync_dist=True
        )

    def on_validation_batch_end(self, trainer: Any, pl_module: Any, outputs: Any, *args: Any) -> None:
        if trainer.state.fn == "validate":  # not in a `fit` that was given validation loaders
            self.collect(outputs)

    def on_test_batch_end(self, trainer: Any, pl_module: Any, outputs: Any, *args: Any) -> None:
        self.collect(outputs)

    def on_predict_start(self, trainer: Any, pl_module: Any) -> None:
        if trainer.is_global_zero and self.out is not None:
            check_target(self.out)
        elif trainer.is_global_zero:
            check_root(trainer.default_root_dir)

    def on_predict_batch_end(self, trainer: Any, pl_module: Any, outputs: Any, *args: Any) -> None:
        self.collect(outputs)

    def on_validation_epoch_end(self, trainer: Any, pl_module: Any) -> None:
        if trainer.state.fn == "validate":
            self.judge(trainer, pl_module, "val")

    def on_test_epoch_end(self, trainer: Any, pl_module: Any) -> None:
        self.judge(trainer, pl_module, "test")

    def on_predict_epoch_end(self, trainer: Any, pl_module: Any) -> None:
        data = trainer.datamodule
        split: Any = getattr(data, "predict_split", "loaders")
        source = data.split(split) if isinstance(data, SSLDataModule) else None
        if source is not None:  # another sample stands for one that cannot be read: its vector is not that one's
            self.collected["skipped"] = [skipped_among(source, index).long() for index in self.collected["index"]]
        vectors = self.gathered(trainer.strategy.root_device)
        path = self.out or _place(trainer, pl_module, split)
        names = getattr(data, "class_names", None)
        on_first(lambda: print(write_vectors(path, vectors, source, split, names), flush=True))


def _place(trainer: Any, pl_module: Any, split: str) -> Path:
    """The file of the vectors of a split: in the run folder, and with a name of its own where the
    data is not that of the run."""
    data, mark = trainer.datamodule, ""
    folder = folder_of(trainer.ckpt_path) if trainer.ckpt_path else None
    if folder is None:
        folder = Path(trainer.default_root_dir) / run_name(pl_module, data)
    elif isinstance(data, SSLDataModule):
        own, here = config_in(read(trainer.ckpt_path), trainer.ckpt_path).get("data"), config_of(data)
        if settings(own, "data") != settings(here, "data"):
            mark = f"-{key_of(json.dumps(settings(here, 'data')))[:8]}"
    return folder / f"vectors-{split}{mark}.parquet"
