"""The loaders that Lightning requests from a datamodule, and where views are made."""

from __future__ import annotations

from collections.abc import Iterable
from contextlib import AbstractContextManager
from typing import Any

import torch
from pytorch_lightning import LightningDataModule
from torch import Tensor, nn
from torch.utils.data import DataLoader

from ..types import Batch
from .buckets import PlannedDraws
from .checks import check_evaluated
from .cores import own_cores
from .files.skipped import count_skipped, report_skipped
from .loaders import FEW_CORES, Fetch, Share, Stream, batch_loader
from .order import Draws
from .position import Position
from .sources import Numbers, Source
from .splits import Split
from .views import Fetched, Views, is_fetched
from .windows import FetchWindows


class Loading(Position, LightningDataModule):
    """Loaders over the endless order for training, and over a split for evaluation."""

    workers: int | None
    worker_timeout: float
    augment_on: str
    cache: str
    predict_split: Split
    probe_sets: dict[str, Any]
    supervised: bool
    transforms: list[nn.Module]
    compiled: AbstractContextManager[None]
    """Within it views are made for training; a method that compiles sets it."""
    _batch_size: int
    _resident: Source | None
    """The samples to train on, if they are kept on the device."""

    def clean_views(self) -> Views:
        """Returns the `Views` that make one view, by the test transform."""
        raise NotImplementedError

    @property
    def maker(self) -> Views:
        """The `Views` that turn fetched samples into the views of a training batch."""
        return Views(self.transforms, self.seed)

    def make_batch(self, fetched: Fetched) -> Batch:
        """Turns a fetched batch of raw samples into the `Batch` of views, on the device where it
        is."""
        with self.compiled:
            return self.maker.batch(fetched)

    def transfer_batch_to_device(self, batch: Any, device: torch.device, dataloader_idx: int) -> Any:
        if device.type == "cpu":  # where the loaders make it; Lightning would traverse it to find that out
            return batch
        return super().transfer_batch_to_device(batch, device, dataloader_idx)

    def on_after_batch_transfer(self, batch: Any, dataloader_idx: int) -> Any:
        if not is_fetched(batch):
            return batch
        if self.trainer is not None and self.trainer.state.fn != "fit":
            return self._converted(self._evaluated.batch(batch))
        if self._resident is not None:
            batch = {**batch, "raw": self._resident.fetch(batch["index"])}
        return self._converted(self.make_batch(batch))

    def _converted(self, batch: Batch) -> Batch:
        """Casts views, which are made in full precision, to that of the run."""
        converted: Batch = batch if self.trainer is None else self.trainer.precision_plugin.convert_input(batch)
        return converted

    @property
    def in_workers(self) -> bool:
        """Whether views are made where the data is fetched."""
        if self.augment_on != "auto":
            return self.augment_on == "worker"
        return self._device.type == "cpu" and not self.training_split.in_memory and own_cores() > FEW_CORES

    @property
    def _device(self) -> torch.device:
        return self.trainer.strategy.root_device if self.trainer is not None else torch.device("cpu")

    # Loaders.

    @property
    def batch_size(self) -> int:
        """Samples in a step, over all processes: as many as requested; all labelled samples at once
        where a supervised method has fewer; the mean size where batches are planned."""
        if self.buckets is not None:
            return self.buckets.mean_size
        if not self.supervised:
            return self._batch_size
        processes = self.world_size
        return min(self._batch_size, max(processes, len(self.training_split) // processes * processes))

    @batch_size.setter
    def batch_size(self, size: int) -> None:
        self._batch_size = size

    def parts(self, source: Source, index: Tensor, most: int) -> list[Tensor]:
        """Splits the samples `index` [M] of a source, in order, into batches of at most `most`
        samples, for looking at them without training; no samples into no batch."""
        return list(index.split(most)) if len(index) else []

    def loader(self, dataset: Fetch, draws: Iterable[Any]) -> DataLoader[Any]:
        """Returns a loader of whole batches, with this data's workers."""
        device = self._device.type
        return batch_loader(
            dataset,
            draws,
            workers=self.workers,
            timeout=self.worker_timeout,
            seed=self.seed,
            on_cpu=device == "cpu",
            pin=device == "cuda",
        )

    def train_dataloader(self) -> Stream:
        train, plan = self.training_split, self.buckets
        steps = len(train) // self.batch_size if plan is None else len(plan)
        return Stream(self._train_loader, steps, lambda: count_skipped(self._all_sources))

    def _train_loader(self) -> DataLoader[Any]:
        train = self.training_split
        if self.cache == "device":
            self._resident = train.to(self._device)
            train = Numbers(train)
        position, plan, rank = self.fix_position(), self.buckets, self._rank
        draws: Iterable[list[int]] = (
            Draws(len(train), self.seed, position, self.batch_size, rank, self.world_size, self.order_version)
            if plan is None
            else PlannedDraws(plan, position, rank, self.order_version)
        )
        return self.loader(Fetch(train, self.maker.batch if self.in_workers else self.maker.cut), draws)

    def _evaluation_loader(self, split: Split, labelled: bool) -> list[Share]:
        source = check_evaluated(self, split, labelled)
        self._evaluated = self.clean_views()
        mine, windows = torch.arange(self._rank, len(source), self.world_size), source.windows()
        if windows is None:
            dataset = Fetch(source, self._evaluated.cut)
        else:
            dataset, mine = FetchWindows(windows, self._evaluated.cut), windows.of(mine)[0]
        return [Share(self.loader(dataset, self.parts(dataset.source, mine, self.batch_size)))]

    def val_dataloader(self) -> list[Share]:
        """Returns the loader of the validation split for `validate`. In `fit` there is none: probes
        watch the run, at their own intervals."""
        fitting = self.trainer is not None and self.trainer.state.fn == "fit"
        return [] if fitting else self._evaluation_loader("val", labelled=True)

    def test_dataloader(self) -> list[Share]:
        return self._evaluation_loader("test", labelled=True)

    def predict_dataloader(self) -> list[Share]:
        return self._evaluation_loader(self.predict_split, labelled=False)

    def teardown(self, stage: str) -> None:
        """Says which samples could not be read and were skipped, those of probe sets among them,
        and lists them in the run folder. Lightning calls it where no process has failed."""
        loader = self.trainer.train_dataloader if self.trainer is not None else None
        if isinstance(loader, Stream):
            loader.close()
        report_skipped(self._all_sources, getattr(self.trainer, "run_folder", None))

    @property
    def _all_sources(self) -> dict[str, Source | None]:
        """The sources that were asked for, by a key that is the same in every process."""
        sets = {"": self, **self.probe_sets}
        return {f"{name}/{split}": source for name, data in sets.items() for split, source in data._sources.items()}

    @property
    def _rank(self) -> int:
        return self.trainer.global_rank if self.trainer is not None else 0
