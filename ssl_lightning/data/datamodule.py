"""The base of all datamodules: an endless, resumable order of samples, cut into batches of
augmented views."""

from __future__ import annotations

from collections.abc import Sequence
from contextlib import nullcontext
from typing import Any, ClassVar, Literal, Protocol

import torch
from torch import Tensor, nn
from torch.nn import functional as F

from ..plugins.arguments import require
from ..plugins.record import Recorded
from ..run.lightning import convert_views_alone
from ..types import Strength, View, ViewSpec
from .checks import check_classes, check_probe_sets, check_share, check_training
from .cores import meet_neighbours
from .ledger import Tally
from .loaders import Fetch
from .loading import Loading
from .modality import Modality
from .readable import check_readable
from .sources import Source
from .splits import Split as Split
from .splits import Splits
from .views import Views, is_fetched

RAW_SIZE = 32
"""Side length to which images are reduced for their raw features."""


class Describes(Protocol):
    """The part of a method that a datamodule reads."""

    views: ViewSpec


class SSLDataModule(Recorded, Modality, Splits, Loading):
    """A family of data sets: raw samples (`source`) and how they are augmented (`transform`).

    The framework adds the rest: the endless order, views, workers, labelled probe sets, and the
    position in the checkpoint. An author sets `default_encoders` and `default_epochs` and defines
    `source` and `transform`; `prepare_data` downloads.

    Args:
        batch_size: samples in a step, over all processes together, so that the number of processes
            changes neither the batch nor the learning rate.
        seed: of the order, of every augmentation, and of the generators at each step.
        workers: processes that fetch batches. None: no workers for data in memory, nor where
            training keeps up to 4 CPU cores busy; else one per core, at most 8. Processes of the
            run on one machine share its cores.
        worker_timeout: seconds for which a worker may neither compute nor read, as on a network
            disk that does not answer, before the run ends; 0: without end. A slow worker is waited
            for.
        augment_on: `worker` augments where the data is fetched, `device` where the model is; `auto`
            chooses `worker` for files on more than 4 CPU cores, else `device`.
        cache: `device` keeps all samples to pretrain on in the memory of the device, which then
            fetches each batch by index: for data in memory that fits there, on an accelerator;
            `none` sends each batch to the device.
        labels_per_class: how many labels of each class a run may use, drawn by the seed; None:
            all. A supervised method trains on four fifths of them and validates on the rest.
            Pretraining sees all samples and no labels; its probes and closing table learn from
            these labels. The test split is not affected.
        probe_sets: further labelled data sets to probe on, by name; their metrics are
            `probe/<name>/...`.
        predict_split: the split whose features `predict` writes.
    """

    incidental = frozenset(("workers", "worker_timeout", "augment_on", "cache", "probe_sets", "predict_split"))
    default_epochs: ClassVar[int] = 100
    """The length of a run unless the user sets another."""
    serves_local: ClassVar[bool] = False
    """Whether `transform` makes local crops."""
    class_names: Sequence[str] | None = None
    relabels: SSLDataModule | None = None
    """The data set that has the same samples, in the same order, and the same views, where this one
    has but other labels: features that were computed for one serve for both."""

    @property
    def rows_alike(self) -> bool:
        """Whether each row of a view holds one sample, without marked padding, and all rows are
        equally long: a method may then move rows between processes."""
        return True

    def __init__(
        self,
        *,
        batch_size: int = 128,
        seed: int = 0,
        workers: int | None = None,
        worker_timeout: float = 600.0,
        augment_on: Literal["auto", "worker", "device"] = "auto",
        cache: Literal["none", "device"] = "none",
        labels_per_class: int | None = None,
        probe_sets: dict[str, SSLDataModule] | None = None,
        predict_split: Literal["train", "val", "test"] = "train",
    ) -> None:
        super().__init__()
        if cache not in ("none", "device"):
            raise ValueError(f"cache={cache!r} is unknown; choose none or device.")
        if cache == "device" and augment_on == "worker":
            raise ValueError("cache=device leaves nothing to workers; leave out augment_on=worker.")
        require(self, at_least=0, worker_timeout=worker_timeout)
        require(self, at_least=0, at_most=1_024, workers=workers)
        # Of two labels per class, one is for training and one for validation.
        require(self, at_least=2, batch_size=batch_size, labels_per_class=labels_per_class)
        self._batch_size, self.seed = batch_size, seed
        self.workers, self.worker_timeout = workers, worker_timeout
        self.augment_on, self.cache = augment_on, cache
        self.labels_per_class, self.predict_split = labels_per_class, predict_split
        self.probe_sets = dict(probe_sets or {})
        self.views: ViewSpec | None = None
        self.supervised = False
        self.transforms: list[nn.Module] = []
        self.compiled = nullcontext()
        self._sources: dict[str, Source | None] = {}
        self._resident: Source | None = None

    # What an author writes; `source` is in `Splits`.

    def transform(self, strength: Strength, local_size: int | None = None) -> nn.Module:
        """Returns a batched module: `forward(raw, key)` turns a fetched batch and its keys [S] into
        the tensor of a view.

        Args:
            strength: how hard to augment; `none` is the test transform.
            local_size: the side length of a local crop; None: a full view.

        For samples of varying size, `raw` is what `Uncut.cut` returned for this view.
        """
        raise NotImplementedError(f"{type(self).__name__} must define transform(strength, local_size).")

    def raw_features(self, raw: Any) -> Tensor:
        """Computes the baseline that needs no learning, features [S, D]; by default the values of
        the test transform, flattened.

        Args:
            raw: what `fetch_clean` returned.
        """
        clean: Tensor = self.transform("none")(raw, torch.zeros(len(raw), dtype=torch.int64))
        return clean.flatten(1)

    def raw_of_view(self, view: View) -> Tensor:
        """Computes the baseline that needs no learning of a view that is made already: features
        [S, D], by which a run without labels retrieves a sample's other view. By default the
        values, images as 32x32 pixels; [S, 0], which means none, where samples share rows.

        Args:
            view: of S samples, by any transform.
        """
        if view.samples is not None:
            return view.x.new_zeros(view.samples, 0, dtype=torch.float32)
        x = view.x.float()
        return (F.adaptive_avg_pool2d(x, RAW_SIZE) if x.ndim == 4 else x).flatten(1)

    @classmethod
    def load_from_checkpoint(cls, checkpoint_path: Any, *args: Any, **kwargs: Any) -> Any:
        """Raises NotImplementedError: Lightning's would build what the file names, whatever it
        is."""
        raise NotImplementedError(
            f"{cls.__name__} is not loaded from a checkpoint. Build it with the run's arguments, which `ssl-lightning"
            " inspect` shows; `ssl-lightning test --ckpt_path` does so itself."
        )

    # Views.

    def probed(self) -> dict[str, SSLDataModule]:
        """Returns the labelled data sets to probe on, by the prefix of their metrics: '' for this
        one."""
        sets: dict[str, SSLDataModule] = {"": self, **{f"{name}/": data for name, data in self.probe_sets.items()}}
        return {prefix: data for prefix, data in sets.items() if data.probe_splits() is not None}

    def ledgers(self) -> dict[str, list[Tally]]:
        """Returns what became of all that was found, by data set: this one and the probe sets."""
        probed = {name: data.ledger(probed=True) for name, data in self.probe_sets.items()}
        return {type(self).__name__: self.ledger(), **probed}

    def prepare_data(self) -> None:
        for data in self.probe_sets.values():
            data.prepare_data()

    def setup(self, stage: str) -> None:
        self.start_again()
        self._sources.clear()
        self._resident = None
        self.compiled = nullcontext()
        self.supervised = False
        meet_neighbours()
        if stage == "fit":
            self.check_share(self.world_size)
            check_probe_sets(self.probe_sets)
        if self.trainer is not None:
            convert_views_alone(self.trainer, is_fetched)
            method: Any = self.trainer.lightning_module
            self.serve(method)
            if stage == "fit":
                check_readable(self)

    def check_share(self, processes: int) -> None:
        """Raises ValueError where a batch cannot be shared out equally among processes."""
        check_share(self._batch_size, processes)

    def serve(self, method: Describes) -> None:
        """Builds the transforms for the views that a method asks for.

        Raises:
            ValueError: this data does not have such views, has fewer samples than a batch, or has
                no labels for a supervised method.
        """
        spec = method.views
        self.supervised = bool(getattr(method, "supervised", False))
        if spec.local and not self.serves_local:
            arguments = getattr(method, "without_local", {})
            without = " ".join(f"--model.{name} {value}" for name, value in arguments.items())
            raise ValueError(
                f"{type(method).__name__} asks for {spec.local} local views; {type(self).__name__} has none."
                f" {f'Set {without}.' if without else 'Choose data that has, or a method of full views.'}"
            )
        self.views = spec
        self.transforms = [self.transform(strength) for strength in spec.strengths]
        if spec.local:
            strength = spec.strengths[-1] if spec.full else "strong"
            self.transforms += [self.transform(strength, self.local_size(spec))] * spec.local
        if spec.clean:
            self.transforms.append(self.transform("none"))
        check_training(self)
        if self.supervised:
            check_classes(self)

    def local_size(self, spec: ViewSpec) -> int | None:
        """Returns the side length of a local crop: that requested by the method; a datamodule that
        serves local views may choose one itself."""
        return spec.local_size

    def clean_views(self) -> Views:
        """Returns the `Views` that make one view, by the test transform."""
        return Views([self.transform("none")])

    def fetch_clean(self, source: Source, index: Tensor) -> Any:
        """Fetches raw samples [S] in the form that the test transform takes."""
        fetched = Fetch(source, self.clean_views().cut).__getitems__(index.tolist())
        return fetched["cuts"][0] if "cuts" in fetched else fetched["raw"]
