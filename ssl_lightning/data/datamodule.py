"""The base of all datamodules: an endless, resumable order of samples, cut into batches of
augmented views."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any, ClassVar, Literal, Protocol

import torch
from torch import Tensor, nn

from ..plugins.arguments import require
from ..plugins.record import Recorded
from ..types import Strength, View, ViewSpec
from .checks import check_probe_sets, check_share, check_training
from .cores import meet_neighbours
from .figure import plot_views
from .loaders import Fetch
from .loading import Loading
from .sources import Source
from .splits import Split as Split
from .splits import Splits
from .views import Views


class Describes(Protocol):
    """What a datamodule reads of a method."""

    views: ViewSpec


def loading_lines(folder: Path, dim: int, x: str = "x") -> str:
    """Python lines that load the encoder of a run, and use it on a tensor called `x`."""
    return (
        f'from ssl_lightning import View, load_encoder\nencoder = load_encoder("{folder}")\n'
        f"features = encoder(View({x}))  # [S, {dim}]"
    )


class SSLDataModule(Recorded, Splits, Loading):
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
            fetches each batch by its indices: for data in memory that fits there, on an
            accelerator; `none` sends each batch.
        labels_per_class: how many labels of each class a run may use, drawn by the seed; None:
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
        if cache not in ("none", "device"):
            raise ValueError(f"cache={cache!r} is unknown; choose none or device.")
        if cache == "device" and augment_on == "worker":
            raise ValueError("cache=device leaves nothing to workers; leave out augment_on=worker.")
        require(self, at_least=0, workers=workers)
        # Of two labels a class one is learned from and one judges.
        require(self, at_least=2, batch_size=batch_size, labels_per_class=labels_per_class)
        self._batch_size, self.seed, self.workers = batch_size, seed, workers
        self.augment_on, self.cache = augment_on, cache
        self.labels_per_class, self.predict_split = labels_per_class, predict_split
        self.probe_sets = dict(probe_sets or {})
        self.views: ViewSpec | None = None
        self.supervised = False
        self.transforms: list[nn.Module] = []
        self._sources: dict[str, Source | None] = {}
        self._resident: Source | None = None

    # What an author writes; `source` is in `Splits`.

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
        """The baseline that needs no learning, features [S, D]; by default the values of the test
        transform, flattened.

        Args:
            raw: what `fetch_clean` returned.
        """
        clean: Tensor = self.transform("none")(raw, torch.zeros(len(raw), dtype=torch.int64))
        return clean.flatten(1)

    @classmethod
    def suited_encoders(cls, init_args: dict[str, Any]) -> dict[str, dict[str, Any]]:
        """The default encoders for data that is built with these arguments, defaults among them."""
        return cls.default_encoders

    def meet(self, method: Any) -> None:
        """Called before a run: refuses an encoder that cannot read these views, and tells the
        method what it has to know of the data. Most data has nothing to say."""

    def show(self, captions: Mapping[str, View], path: Path, compare: bool = False) -> dict[str, Path]:
        """Draws views, or what a method makes of them, to look at or to listen to. By default those
        are drawn that are images.

        Args:
            captions: views of the same S samples, on the CPU.
            path: the PNG to write; what else is written lies beside it.
            compare: whether later captions are the method's versions of the first.

        Returns:
            the pictures written, by name, for loggers.
        """
        return plot_views(captions, path, self.as_pictures)

    def as_pictures(self, x: Tensor) -> Tensor:
        """Views [S, C, H, W] as one would look at them, in [0, 1]; what goes beyond is
        stretched."""
        return x

    def how_to_load(self, folder: Path, dim: int) -> str:
        """Python lines that load the encoder of a run and use it on such data.

        Args:
            folder: the run folder.
            dim: length of a feature vector.
        """
        return loading_lines(folder, dim)

    def artifacts(self) -> dict[str, str]:
        """Text files that a run's encoder cannot be used without, by name, such as a tokenizer.
        They are written into the run folder, and travel inside its checkpoints."""
        return {}

    @classmethod
    def arguments_of(cls, artifacts: Mapping[str, str], path: str) -> dict[str, Any]:
        """The constructor's arguments that make views as a run did.

        Args:
            artifacts: of the run.
            path: the run folder, checkpoint or encoder file they come from.
        """
        return {}

    def difference(self, artifacts: Mapping[str, str]) -> str:
        """In what this data makes other views than a run whose encoder is used again, with the
        remedy, in one or two sentences; empty where the encoder may be used.

        Args:
            artifacts: of the run.
        """
        ours = self.artifacts()
        others = [name for name, text in artifacts.items() if ours.get(name, text) != text]
        return f"The data's {others[0]} differs from that of the encoder's run. Give the run's own." if others else ""

    # Views.

    def probed(self) -> dict[str, SSLDataModule]:
        """The labelled data sets to probe on, by the prefix of their metrics: this one's is ''."""
        sets: dict[str, SSLDataModule] = {"": self, **{f"{name}/": data for name, data in self.probe_sets.items()}}
        return {prefix: data for prefix, data in sets.items() if data.probe_splits() is not None}

    def prepare_data(self) -> None:
        for data in self.probe_sets.values():
            data.prepare_data()

    def setup(self, stage: str) -> None:
        self.start_again()
        self._sources.clear()
        self._resident = None
        self.supervised = False
        meet_neighbours()
        if stage == "fit":
            self.check_share(self.world_size)
            check_probe_sets(self.probe_sets)
        if self.trainer is not None:
            method: Any = self.trainer.lightning_module
            self.serve(method)

    def check_share(self, processes: int) -> None:
        """Raises ValueError where a batch cannot be shared out equally among processes."""
        check_share(self._batch_size, processes)

    def serve(self, method: Describes) -> None:
        """Builds the transforms for the views that a method asks for.

        Raises:
            ValueError: this data has no such views, fewer samples than a batch, or no labels for a
                supervised method.
        """
        spec = method.views
        self.supervised = bool(getattr(method, "supervised", False))
        if spec.local and not self.serves_local:
            raise ValueError(
                f"{type(method).__name__} asks for {spec.local} local views; {type(self).__name__} has none."
            )
        self.views = spec
        self.transforms = [self.transform(strength) for strength in spec.strengths]
        if spec.local:
            strength = spec.strengths[-1] if spec.full else "strong"
            self.transforms += [self.transform(strength, self.local_size(spec))] * spec.local
        if spec.clean:
            self.transforms.append(self.transform("none"))
        check_training(self)

    def local_size(self, spec: ViewSpec) -> int | None:
        """The side of a local crop: what the method asked for; a datamodule that serves local views
        may choose."""
        return spec.local_size

    def clean_views(self) -> Views:
        """What makes the one view of the test transform."""
        return Views([self.transform("none")])

    def fetch_clean(self, source: Source, index: Tensor) -> Any:
        """Raw samples [S] as the test transform takes them."""
        fetched = Fetch(source, self.clean_views().cut).__getitems__(index.tolist())
        return fetched["cuts"][0] if "cuts" in fetched else fetched["raw"]
