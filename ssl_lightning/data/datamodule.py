"""The base of all datamodules: an endless, resumable order of samples, cut into batches of
augmented views."""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from typing import Any, ClassVar, Literal, Protocol

import torch
from pytorch_lightning import LightningDataModule
from torch import Tensor, nn
from torch.utils.data import DataLoader

from ..nn.vocabulary import Vocabulary
from ..plugins.record import Recorded
from ..types import Batch, Strength, ViewSpec
from .buckets import Buckets, PlannedDraws
from .cores import meet_neighbours, own_cores
from .loaders import FEW_CORES
from .order import Draws, Fetch, Share, Stream, as_is, batches_done
from .sources import Numbers, Source
from .splits import Split as Split
from .splits import Splits
from .views import CleanViews, Fetched, Views


class Describes(Protocol):
    views: ViewSpec


class SSLDataModule(Recorded, Splits, LightningDataModule):
    """A family of data sets: raw samples (`source`) and how they are augmented (`transform`).

    The rest is the framework's: the endless order, views, workers, labelled probe sets, the
    position in the checkpoint. An author sets `default_encoders` and `default_epochs` and defines
    `source` and `transform`; `prepare_data` downloads.

    Args:
        batch_size: samples in a step, over all processes together: their number changes neither
            batch nor learning rate.
        seed: of the order, of every augmentation, and of the generators at each step.
        workers: processes that fetch; None takes none for data in memory, and none where the
            training keeps up to 4 cores busy; else one a core (at most 8). Processes of the run on
            one machine share its cores.
        augment_on: `worker` augments where the data is fetched, `device` where the model is; `auto`
            takes `worker` for files on more than 4 cores of a CPU, else `device`.
        cache: `device` keeps all samples to pretrain on in the memory of the device, which then
            fetches each batch by its indices:
            for data in memory that fits there, on an accelerator; `none` sends each batch.
        labels_per_class: how many labels of each class a run may use, drawn by the seed; None is
            all. A supervised method trains on four fifths of them, and the rest is its validation
            part. For pretraining, which sees all samples and no label, they are what the probes and
            the closing table learn from. The test split is not concerned.
        probe_sets: further labelled data sets to probe on, by name; their metrics are
            `probe/<name>/...`.
        predict_split: the split whose vectors `predict` writes.
    """

    default_encoders: ClassVar[dict[str, dict[str, Any]]] = {}
    """For each kind of encoder (`Encoder`, `TokenEncoder`) the config that suits this data."""
    default_epochs: ClassVar[int] = 100
    """The length of a run where nobody says otherwise."""
    serves_local: ClassVar[bool] = False
    """Whether `transform` makes local crops."""
    class_names: Sequence[str] | None = None

    def __init__(
        self,
        *,
        batch_size: int = 128,
        seed: int = 0,
        workers: int | None = None,
        augment_on: Literal["auto", "worker", "device"] = "auto",
        cache: Literal["none", "device"] = "none",
        labels_per_class: int | None = None,
        probe_sets: dict[str, SSLDataModule] | None = None,
        predict_split: Literal["train", "val", "test"] = "train",
    ) -> None:
        super().__init__()
        if batch_size < 2:
            raise ValueError(f"batch_size={batch_size} is too small; give at least 2.")
        if workers is not None and workers < 0:
            raise ValueError(f"workers={workers} is negative; give 0 or more.")
        if cache not in ("none", "device"):
            raise ValueError(f"cache={cache!r} is unknown; choose none or device.")
        if cache == "device" and augment_on == "worker":
            raise ValueError("cache=device leaves nothing to workers; leave out augment_on=worker.")
        if labels_per_class is not None and labels_per_class < 2:
            raise ValueError(
                f"labels_per_class={labels_per_class} is too few: one to learn from, one to be judged by. Give at"
                " least 2."
            )
        self.batch_size = batch_size
        self.seed = seed
        self.workers = workers
        self.augment_on, self.cache = augment_on, cache
        self.labels_per_class = labels_per_class
        self.probe_sets = dict(probe_sets or {})
        self.predict_split = predict_split
        self.views: ViewSpec | None = None
        self.supervised = False
        self.transforms: list[nn.Module] = []
        self._sources: dict[str, Source | None] = {}
        self._resident: Source | None = None
        self._base = 0
        self._base_batches: int | None = None  # None until the loop's counters are restored

    # What an author writes.

    def transform(self, strength: Strength, local_size: int | None = None) -> nn.Module:
        """A batched module: `forward(raw, key)` turns a fetched batch and its keys [S] into the
        tensor of a view.

        Args:
            strength: how hard to augment; `none` is the test transform.
            local_size: the side of a local crop; None for a full view.

        For samples of varying size it takes what `Uncut.cut` made of them.
        """
        raise NotImplementedError(f"{type(self).__name__} must define transform(strength, local_size).")

    def raw_features(self, raw: Any) -> Tensor:
        """What one would use without learning, [S, D]: by default the numbers of the test
        transform, in a row.

        Args:
            raw: what `fetch_clean` returned.
        """
        none: Tensor = self.transform("none")(raw, torch.zeros(len(raw), dtype=torch.int64))
        return none.flatten(1)

    @classmethod
    def suited_encoders(cls, init_args: dict[str, Any]) -> dict[str, dict[str, Any]]:
        """The default encoders for data that is built with these arguments, defaults among them."""
        return cls.default_encoders

    @property
    def vocabulary(self) -> Vocabulary | None:
        """The tokens of a text; None for other data."""
        return None

    def artifacts(self) -> dict[str, str]:
        """Files that a run's encoder cannot be used without, by name: a tokenizer. They are written
        into the run folder, and travel inside its checkpoints."""
        return {}

    def probed(self) -> dict[str, SSLDataModule]:
        """The labelled data sets to probe on, by the prefix of their metrics: this one's is ''."""
        sets: dict[str, SSLDataModule] = {"": self, **{f"{name}/": data for name, data in self.probe_sets.items()}}
        return {prefix: data for prefix, data in sets.items() if data.probe_splits() is not None}

    # Views.

    def prepare_data(self) -> None:
        for data in self.probe_sets.values():
            data.prepare_data()

    def setup(self, stage: str) -> None:
        self._base, self._base_batches = 0, None
        self._sources.clear()
        self._resident = None
        self.supervised = False
        meet_neighbours()
        if stage == "fit":
            self.check_share(self._world_size)
            self.check_probe_sets()
        if self.trainer is not None:
            method: Any = self.trainer.lightning_module
            self.serve(method)

    def check_share(self, processes: int) -> None:
        """Raises ValueError where a batch cannot be shared out equally among processes."""
        size = self._batch_size
        if size % processes:
            raise ValueError(
                f"batch_size={size} counts the samples of all processes together and cannot be shared out equally among"
                f" {processes}; use a multiple, such as --data.batch_size {-(-size // processes) * processes}."
            )

    def check_probe_sets(self) -> None:
        """Raises ValueError where a probe set has no labels to probe on."""
        for name, data in self.probe_sets.items():
            if data.probe_splits() is None:
                raise ValueError(
                    f"probe_sets.{name}: {type(data).__name__} has no labels in its train and val splits. Leave it out,"
                    " or label it."
                )

    def serve(self, method: Describes) -> None:
        """Builds the transforms for the views that a method asks for.

        Raises:
            ValueError: this data has no such views, fewer samples than a batch, or no labels for a
                supervised method.
        """
        spec, name = method.views, type(method).__name__
        self.supervised = bool(getattr(method, "supervised", False))
        if spec.local and not self.serves_local:
            raise ValueError(f"{name} asks for {spec.local} local views; {type(self).__name__} has none.")
        self.views = spec
        self.transforms = [self.transform(strength) for strength in spec.strengths]
        if spec.local:
            strength = spec.strengths[-1] if spec.full else "strong"
            self.transforms += [self.transform(strength, self.local_size(spec))] * spec.local
        if spec.clean:
            self.transforms.append(self.transform("none"))
        samples = len(self.training_split)
        if samples < self.batch_size:
            raise ValueError(
                f"{type(self).__name__} has {samples} training samples, fewer than batch_size={self.batch_size}; "
                f"set --data.batch_size {max(2, samples)} or less."
            )
        if self.cache == "device" and not self.training_split.in_memory:
            raise ValueError(
                f"cache=device keeps data that is in memory; {type(self).__name__} reads it from files. Leave it out."
            )

    def local_size(self, spec: ViewSpec) -> int | None:
        """The side of a local crop: what the method asked for; a datamodule that serves local views
        may choose."""
        return spec.local_size

    @property
    def maker(self) -> Views:
        """What makes views of fetched samples."""
        return Views(self.transforms, self.seed)

    def make_batch(self, fetched: Fetched) -> Batch:
        """A fetched batch of raw samples -> the `Batch` of views, wherever it is."""
        return self.maker.batch(fetched)

    def fetch_clean(self, source: Source, index: Tensor) -> Any:
        """Raw samples [S] as the test transform takes them."""
        return CleanViews(self.transform("none")).cut(source.fetch(index), len(index))

    def transfer_batch_to_device(self, batch: Any, device: torch.device, dataloader_idx: int) -> Any:
        if device.type == "cpu":  # where the loaders make it; Lightning would walk through it to find that out
            return batch
        return super().transfer_batch_to_device(batch, device, dataloader_idx)

    def on_after_batch_transfer(self, batch: Any, dataloader_idx: int) -> Any:
        if not (isinstance(batch, dict) and ("raw" in batch or "cuts" in batch)):
            return batch
        if "clean" in batch:
            return self._clean.batch(batch)
        if self._resident is not None:
            batch = {**batch, "raw": self._resident.fetch(batch["index"])}
        return self.make_batch(batch)

    @property
    def in_workers(self) -> bool:
        """Whether views are made where the data is fetched."""
        if self.augment_on != "auto":
            return self.augment_on == "worker"
        return self._on_cpu and not self.training_split.in_memory and own_cores() > FEW_CORES

    @property
    def _on_cpu(self) -> bool:
        return self.trainer is None or self.trainer.strategy.root_device.type == "cpu"

    # Loaders.

    @property
    def buckets(self) -> Buckets | None:
        """The plan of batches of samples of similar length; None: each batch has `batch_size`
        samples, in any order."""
        return None

    def parts(self, source: Source, index: Tensor, most: int) -> list[Tensor]:
        """The samples `index` [M] of a source, one after the other in batches that are looked at
        without training, of at most so many samples each."""
        return list(index.split(most))

    def train_dataloader(self) -> Stream:
        return Stream(
            self._make_loader,
            len(self.training_split) // self.batch_size if self.buckets is None else len(self.buckets),
        )

    def teardown(self, stage: str) -> None:
        loader = self.trainer.train_dataloader if self.trainer is not None else None
        if isinstance(loader, Stream):
            loader.iterator = None  # ends the workers; left to the garbage collector, each would stall it for 5 seconds

    def _make_loader(self) -> Iterable[Any]:
        train = self.training_split
        if self.cache == "device":
            self._resident = train.to(
                self.trainer.strategy.root_device if self.trainer is not None else torch.device("cpu")
            )
            train = Numbers(train)
        self._base, self._base_batches = self.position, batches_done(self.trainer)
        rank = self.trainer.global_rank if self.trainer is not None else 0
        draws: Iterable[list[int]]
        if self.buckets is None:
            draws = Draws(len(train), self.seed, self._base, self.batch_size, rank, self._world_size)
        else:
            draws = PlannedDraws(self.buckets, self._base, rank)
        return self._loader(Fetch(train, self.maker.batch if self.in_workers else self.maker.cut), draws)

    def _loader(self, dataset: Fetch, draws: Iterable[Any]) -> DataLoader[Any]:
        workers = self.workers
        if workers is None:
            cores = own_cores()
            workers = 0 if dataset.source.in_memory or (self._on_cpu and cores <= FEW_CORES) else min(8, cores)
        return DataLoader(
            dataset,
            batch_sampler=draws,
            collate_fn=as_is,
            num_workers=workers,
            pin_memory=self.trainer is not None and self.trainer.strategy.root_device.type == "cuda",
            generator=torch.Generator().manual_seed(
                self.seed
            ),  # else a loader draws its workers' seed from the global one
        )

    def _evaluation_loader(self, split: Split) -> list[Share]:
        source = self.split(split)
        if source is None:
            raise ValueError(f"{type(self).__name__} has no {split} split.")
        if len(source) < self._world_size:
            raise ValueError(
                f"The {split} split has {len(source)} samples, fewer than the {self._world_size} processes."
            )
        self._clean = CleanViews(self.transform("none"))
        rank = self.trainer.global_rank if self.trainer is not None else 0
        mine = torch.arange(rank, len(source), self._world_size)
        return [Share(self._loader(Fetch(source, self._clean.prepare), self.parts(source, mine, self.batch_size)))]

    def val_dataloader(self) -> list[Share]:
        """The validation split for `validate`. In `fit` there is none: probes watch the run, at
        their own pace."""
        fitting = self.trainer is not None and self.trainer.state.fn == "fit"
        return [] if fitting else self._evaluation_loader("val")

    def test_dataloader(self) -> list[Share]:
        return self._evaluation_loader("test")

    def predict_dataloader(self) -> list[Share]:
        return self._evaluation_loader(self.predict_split)

    @property
    def batch_size(self) -> int:
        """Samples in a step, over all processes: as many as were asked for; of fewer labels than
        that, all at once; their mean number where batches are planned."""
        if self.buckets is not None:
            return self.buckets.mean_size
        if not self.supervised:
            return self._batch_size
        processes = self._world_size
        return min(self._batch_size, max(processes, len(self.training_split) // processes * processes))

    @batch_size.setter
    def batch_size(self, size: int) -> None:
        self._batch_size = size

    @property
    def _world_size(self) -> int:
        return self.trainer.world_size if self.trainer is not None else 1

    # The position.

    @property
    def position(self) -> int:
        """How many samples of the endless order the training has consumed (not: prefetched);
        batches where they are planned."""
        if self._base_batches is None:
            return self._base
        return self._base + (batches_done(self.trainer) - self._base_batches) * (
            self.batch_size if self.buckets is None else 1
        )

    @property
    def samples_done(self) -> int:
        """How many samples the training has consumed."""
        return self.position if self.buckets is None else self.position * self.batch_size

    def state_dict(self) -> dict[str, Any]:
        return {"position": self.position, **self._order()}

    def load_state_dict(self, state_dict: dict[str, Any]) -> None:
        if self.trainer is not None and self.trainer.state.fn != "fit":
            return  # an encoder may be judged on other samples
        for name, value in self._order().items():
            if state_dict.get(name, value) != value:
                raise ValueError(
                    f"The checkpoint was trained with {name}={state_dict[name]}, this run has {name}={value}: the order"
                    " of the samples would change. Resume with the settings of the run, or start from its weights with"
                    " ssl_lightning.load."
                )
        self._base, self._base_batches = int(state_dict["position"]), None

    def _order(self) -> dict[str, Any]:
        """What the order of the samples depends on."""
        train = self.training_split
        order = {"samples": len(train), "seed": self.seed, "fingerprint": train.fingerprint}
        return (
            order
            if self.buckets is None
            else {**order, "processes": self._world_size, "lengths": self.buckets.fingerprint}
        )
