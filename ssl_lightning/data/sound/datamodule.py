"""The base of datamodules for sound: windows of recordings, as log-mels or as waves."""

from __future__ import annotations

import json
import math
from dataclasses import fields as dataclass_fields
from functools import cached_property
from typing import Any, ClassVar, Literal

import torch
from torch import Tensor, nn

from ...augment.inversion import Inversion
from ...augment.log_mel import LogMel
from ...augment.sound import SoundPolicy
from ...augment.window import Waves, row_lengths, within
from ...nn.patches import largest_patch
from ...plugins.messages import did_you_mean
from ...types import Strength
from ..buckets import Buckets
from ..datamodule import Describes, SSLDataModule
from ..files.source import check_unreadable, report_skipped
from ..sources import Source, Subset
from .lengths import lengths_of
from .source import recordings_of
from .statistics import Statistics, statistics_of

SOUND = "sound.json"
"""How a run on sound made views of recordings, among its files: arguments of the datamodule, and
whether rows `varies` in length."""
LENGTH = ("seconds", "varies")
"""What may differ between data for one encoder."""

SMALL = 64 * 128
"""Up to so many bands times frames, the default encoder is a small stack of convolutions; above, a
ResNet-18."""
LONGEST = 10.0
"""Seconds of a recording that statistics are made of, where recordings are taken whole."""


class SoundDataModule(SSLDataModule):
    """A data set of recordings of any length and rate: an author defines `source`, which gives a
    `SoundSource`.

    A view is a window of a recording: anywhere in it, or in its middle for the test transform; a
    shorter recording is padded behind. Or it is the whole recording, padded to about the longest of
    its batch, for encoders that heed where the padding is. Log-mels are normalised by mean and
    deviation of the data's own, from up to 512 recordings to pretrain on, found once and kept in
    `$SSL_LIGHTNING_CACHE` (default: `~/.cache/ssl_lightning`); some of these are what the strong
    augmentation mixes in.

    Args:
        sample_rate: in Hz, to which every recording is brought.
        seconds: of a window; None takes recordings whole.
        batch_seconds: about so many seconds a batch, over all processes, padding among them, in
            place of `batch_size`: batches are then of recordings of similar length, and `seconds`
            is the most that is taken of one.
        features: `log_mel`: images [S, 1, bands, frames]; `wave`: samples [S, T], with padding
            marked.
        normalise: whether a wave is brought to mean 0 and variance 1 by itself, after its
            augmentation, as wav2vec 2.0 takes it (Baevski et al. 2020, arXiv 2006.11477, Section
            2). Log-mels are normalised by the data's statistics anyway.
        mels: bands.
        window: of a spectrum, in seconds.
        hop: from one spectrum to the next, in seconds.
        spectrogram: `plain`, or `kaldi`: with pre-emphasis, Povey's window, and triangles over the
            mel scale.
        statistics: mean and deviation of the log-mels, where they shall not be the data's own:
            those of a pretrained encoder, which are in `sound.json` of its run.
        augmentation: changes to the data set's recipe, by the names of the fields of `SoundPolicy`.
        unreadable: `raise` stops at a recording that cannot be read; `skip` takes another one in
            its place, always the same.
        max_unreadable: the part of the recordings that may be skipped; more stop the run.
    """

    policy: ClassVar[SoundPolicy] = SoundPolicy()
    """The recipe of augmentation."""

    def __init__(
        self,
        *,
        sample_rate: int = 16_000,
        seconds: float | None = 1.0,
        batch_seconds: float | None = None,
        features: Literal["log_mel", "wave"] = "log_mel",
        normalise: bool = True,
        mels: int = 64,
        window: float = 0.025,
        hop: float = 0.01,
        spectrogram: Literal["plain", "kaldi"] = "plain",
        statistics: tuple[float, float] | None = None,
        augmentation: dict[str, Any] | None = None,
        unreadable: Literal["raise", "skip"] = "raise",
        max_unreadable: float = 0.01,
        **kwargs: Any,
    ) -> None:
        super().__init__(**kwargs)
        if self.cache == "device":
            raise ValueError(
                "cache=device keeps samples of one size; recordings are cut before they go to the device. Leave it out."
            )
        for name, value, known in (
            ("features", features, ("log_mel", "wave")),
            ("spectrogram", spectrogram, ("plain", "kaldi")),
        ):
            if value not in known:
                raise ValueError(
                    f"{name}={value!r} is unknown.{did_you_mean(value, known)} Choose {' or '.join(known)}."
                )
        if statistics is not None and not (len(statistics) == 2 and statistics[1] > 0):
            raise ValueError(
                f"statistics={list(statistics)} should be a mean and a positive deviation, such as [-6.0, 3.5]."
            )
        check_unreadable(unreadable, max_unreadable, "recordings")
        self.sample_rate, self.features, self.given_statistics = sample_rate, features, statistics
        self.unreadable, self.max_unreadable = unreadable, max_unreadable
        self.of_log_mels = {"mels": mels, "window": window, "hop": hop, "spectrogram": spectrogram}
        self.mel = log_mel(sample_rate, mels, window, hop, spectrogram)
        self.seconds = seconds
        self.samples = None if seconds is None else samples_of(sample_rate, seconds)
        if self.samples is not None and self.mel.frames(self.samples) < 1:
            raise ValueError(f"seconds={seconds} is shorter than hop={hop}; give more.")
        if batch_seconds is not None and batch_seconds <= 0:
            raise ValueError(f"batch_seconds={batch_seconds} is no length of a batch; give some seconds.")
        self.batch_seconds, self.normalise = batch_seconds, normalise
        self._planned: tuple[Source, int, Buckets] | None = None
        self.recipe = changed(self.policy, augmentation or {})
        try:
            self.recipe.build("strong", self.samples, self.mel)
        except ValueError as error:
            raise ValueError(f"augmentation={augmentation} does not fit: {error}") from error

    @classmethod
    def suited_encoders(cls, init_args: dict[str, Any]) -> dict[str, dict[str, Any]]:
        """For log-mels a small stack of convolutions that keeps bands apart, or a ResNet-18 for
        large ones, a small ViT with patches of up to 16 bands and 16 frames, and a transformer over
        frames, which is the one for lengths that vary; for waves wav2vec's encoder with a token for
        each 20 ms."""
        try:
            if init_args.get("features", "log_mel") == "wave":
                kernels, strides = stem_for(int(init_args["sample_rate"]))
                wav = {"class_path": "wav", "init_args": {"kernels": kernels, "strides": strides}}
                return (
                    dict.fromkeys(("Encoder", "TokenEncoder", "SequenceEncoder", "WaveEncoder"), wav)
                    | cls.default_encoders
                )
            frames = {"class_path": "frames", "init_args": {"mels": int(init_args["mels"])}}
            if init_args["seconds"] is None or init_args.get("batch_seconds") is not None:
                return dict.fromkeys(("Encoder", "TokenEncoder", "SequenceEncoder"), frames) | cls.default_encoders
            size = (int(init_args["mels"]), _frames(init_args))
            patch = [largest_patch(side) for side in size]
        except (KeyError, TypeError, ValueError):  # the parser, or the constructor, says what is wrong
            return {}
        resnet = {"class_path": "timm", "init_args": {"name": "resnet18", "channels": 1}}
        conv = {"class_path": "audio_conv", "init_args": {"mels": size[0]}}
        vit = {"name": "vit_tiny_patch16_224", "channels": 1, "image_size": list(size), "patch_size": patch}
        small = size[0] * size[1] <= SMALL
        kinds = {
            "Encoder": conv if small else resnet,
            "TokenEncoder": {"class_path": "vit", "init_args": vit},
            "SequenceEncoder": frames,
        }
        return kinds | cls.default_encoders

    def prepare_data(self) -> None:
        """Finds statistics and lengths, for every process to find in the cache."""
        super().prepare_data()
        if self.features == "log_mel":
            self.statistics  # noqa: B018
        if self.batch_seconds is not None:
            lengths_of(self.training_split)

    @cached_property
    def statistics(self) -> Statistics:
        """Of the log-mels to pretrain on, whichever of their labels are used."""
        source = self.pretraining_source() or self.split("train")
        if source is None:
            raise ValueError(f"{type(self).__name__} has no training split.")
        found = statistics_of(source, self.mel, self.samples or samples_of(self.sample_rate, LONGEST))
        return found if self.given_statistics is None else Statistics(*self.given_statistics, found.bank)

    def serve(self, method: Describes) -> None:
        """Builds the transforms for the views that a method asks for; probe sets of sound are
        normalised as this set is, since one encoder takes both.

        Raises:
            ValueError: this data has no such views, fewer samples than a batch, a probe set with
                views of another size, or an encoder that would take padding for sound.
        """
        if self.varies:
            self._check_varying(method)
        super().serve(method)
        for name, data in self.probe_sets.items():
            if not isinstance(data, SoundDataModule):
                continue
            if data._shape != self._shape:
                raise ValueError(
                    f"probe_sets.{name} has views of (features, sample_rate, bands, frames) {data._shape},"
                    f" {type(self).__name__} of {self._shape}, and one encoder takes both. Give it the same."
                )
            if self.features == "log_mel" and data.given_statistics is None:
                data.statistics = data.statistics._replace(
                    mean=self.statistics.mean, deviation=self.statistics.deviation
                )

    def _check_varying(self, method: Describes) -> None:
        """Refuses what needs recordings of one length."""
        remedy = "--data.seconds 1.0" + (" without --data.batch_seconds" if self.batch_seconds is not None else "")
        if self.features == "log_mel" and any(strength.startswith("strong") for strength in method.views.strengths):
            raise ValueError(
                f"{type(method).__name__} asks for strong views, and log-mels are shifted, cropped and mixed in windows"
                f" of one length alone: set {remedy}."
            )
        if not getattr(method, "reads_padding", True):
            raise ValueError(
                f"{type(method).__name__} would take the padding of recordings of varying length for sound: set"
                f" {remedy}."
            )
        encoder = getattr(method, "encoder", None)
        if encoder is not None and not encoder.reads_padding:
            raise ValueError(
                f"{type(encoder).__name__} would take the padding of recordings of varying length for sound: set"
                f" {remedy}, or take an encoder that heeds padding, --model.encoder"
                f" {'frames' if self.features == 'log_mel' else 'wav'}."
            )

    @property
    def varies(self) -> bool:
        """Whether rows are as long as the longest recording of a batch needs."""
        return self.samples is None or self.batch_seconds is not None

    @property
    def _step(self) -> int:
        return self.mel.hop if self.varies else 0

    @property
    def _shape(self) -> tuple[str, int, int, int | None]:
        return (
            self.features,
            self.sample_rate,
            self.mel.mels,
            None if self.samples is None else self.mel.frames(self.samples),
        )

    @property
    def buckets(self) -> Buckets | None:
        if self.batch_seconds is None:
            return None
        train, processes = self.training_split, self._world_size
        if self._planned is None or self._planned[0] is not train or self._planned[1] != processes:
            self._planned = train, processes, self._plan(train, self.batch_seconds, processes)
        return self._planned[2]

    def _plan(self, train: Source, seconds: float, processes: int) -> Buckets:
        lengths = lengths_of(train)
        rows = row_lengths(
            lengths if self.samples is None else lengths.clamp(max=self.samples), self._step, self.samples
        )
        budget = samples_of(self.sample_rate, seconds)
        if int(rows.max()) * processes > budget:
            longest = lengths.argmax()
            number = train.indices[longest] if isinstance(train, Subset) else longest
            least = math.ceil(10 * int(rows.max()) * processes / self.sample_rate) / 10
            raise ValueError(
                f"batch_seconds={seconds:g} has no room for the longest recording,"
                f" {recordings_of(train).name(int(number))}, of {float(lengths[longest]) / self.sample_rate:.3g} s, in"
                f" each of {processes} processes: set --data.batch_seconds {least:g} or more, or take less of each"
                " recording by --data.seconds."
            )
        return Buckets(rows, budget, self.seed, processes)

    def check_share(self, processes: int) -> None:
        if self.batch_seconds is None:
            super().check_share(processes)

    def parts(self, source: Source, index: Tensor, most: int) -> list[Tensor]:
        """As the base's; where recordings vary in length, no batch is longer than one of the
        training."""
        if not self.varies or not len(index):
            return super().parts(source, index, most)
        if self.batch_seconds is None:
            return list(index.split(min(most, self.batch_size)))
        budget = samples_of(self.sample_rate, self.batch_seconds) / self._world_size
        rows = row_lengths(lengths_of(source)[index], self._step, self.samples).tolist()
        starts, longest = [0], 0
        for place, row in enumerate(rows):
            longest, count = max(longest, row), place - starts[-1] + 1
            if count > most or (longest * count > budget and count > 1):
                starts.append(place)
                longest = row
        return [index[start:end] for start, end in zip(starts, [*starts[1:], len(index)], strict=True)]

    def transform(self, strength: Strength, local_size: int | None = None) -> nn.Module:
        if self.features == "wave":
            return self.recipe.build(strength, self.samples, step=self._step, normalise=self.normalise)
        mean, deviation, bank = self.statistics
        return self.recipe.build(strength, self.samples, self.mel, (mean, deviation), bank, step=self._step)

    def raw_features(self, raw: Waves) -> Tensor:
        """Mean and deviation over time of each band's log-mels, padding apart: [S, 2 M]."""
        log_mels = self.mel.to(raw.x.device)(raw.x)  # [S, M, F]
        if raw.lengths is None:
            return torch.cat([log_mels.mean(2), log_mels.std(2, correction=0)], 1)
        real = within((raw.lengths // self.mel.hop).clamp(min=1), log_mels.shape[2])[:, None].to(
            log_mels.dtype
        )  # [S, 1, F]
        mean = (log_mels * real).sum(2) / real.sum(2)
        variance = ((log_mels - mean[:, :, None]).square() * real).sum(2) / real.sum(2)
        return torch.cat([mean, variance.sqrt()], 1)

    def as_pictures(self, x: Tensor) -> Tensor:
        """Log-mels [S, 1, M, F] as one would look at them: low bands at the bottom, three
        deviations around the mean in [0, 1]. Frames of nothing but zeros, which are padding or a
        gap, are white."""
        return (x.float().flip(2) / 6 + 0.5).clamp(0, 1).masked_fill((x == 0).all(2, keepdim=True), 1.0)

    def as_sounds(self, x: Tensor) -> tuple[Tensor, int]:
        """Views as one would listen to them, waves [S, T] and their rate in Hz: of log-mels [S, 1,
        M, F], waves that have nearly these. Frames of nothing but zeros, which are padding or a
        gap, are silent."""
        if x.ndim == 2:
            return x.float(), self.sample_rate
        mean, deviation = self._normalisation
        log_mels = (x[:, 0].float() * deviation + mean).masked_fill(
            (x[:, 0] == 0).all(1, keepdim=True), math.log(self.mel.floor)
        )
        return Inversion(self.mel)(log_mels), self.sample_rate

    def artifacts(self) -> dict[str, str]:
        """How views are made: what `SoundReader` and a second step on other recordings need."""
        given = {
            "varies": self.varies,
            "features": self.features,
            "sample_rate": self.sample_rate,
            "seconds": self.seconds,
        }
        if self.features == "wave":
            return {SOUND: json.dumps({**given, "normalise": self.normalise})}
        return {SOUND: json.dumps({**given, **self.of_log_mels, "statistics": self._normalisation})}

    def teardown(self, stage: str) -> None:
        """Says which recordings were skipped, those of probe sets among them, and lists them in the
        run folder."""
        super().teardown(stage)
        sources = [source for data in (self, *self.probe_sets.values()) for source in data._sources.values()]
        report_skipped(sources, "recordings", getattr(self.trainer, "run_folder", None))

    def load_state_dict(self, state_dict: dict[str, Any]) -> None:
        """The position.

        Raises:
            ValueError: the run had other samples, or log-mels normalised otherwise.
        """
        fitting = self.trainer is None or self.trainer.state.fn == "fit"
        theirs = state_dict.get("statistics")
        if fitting and theirs is not None and self.features == "log_mel" and theirs != self._normalisation:
            raise ValueError(
                f"The checkpoint was trained on log-mels with mean and deviation {theirs}, this data has"
                f" {self._normalisation}: recordings have changed. To go on regardless, give those of the run:"
                f" --data.statistics '{theirs}'."
            )
        super().load_state_dict(state_dict)

    def _order(self) -> dict[str, Any]:
        statistics = {"statistics": self._normalisation} if self.features == "log_mel" else {}
        return {**super()._order(), **statistics, "batch_seconds": self.batch_seconds}

    @property
    def _normalisation(self) -> list[float]:
        return [float(value) for value in self.statistics[:2]]


def log_mel(sample_rate: int, mels: int, window: float, hop: float, spectrogram: str) -> LogMel:
    """What makes log-mels, for these arguments of a `SoundDataModule`."""
    if spectrogram == "kaldi":
        return LogMel.kaldi(sample_rate, mels=mels, window=window, hop=hop, edges="pad")
    return LogMel(sample_rate, mels=mels, window=window, hop=hop)


def stem_for(sample_rate: int) -> tuple[list[int], list[int]]:
    """Kernels and strides of wav2vec's convolutions for about 20 ms from one token to the next: the
    paper's at 16 kHz, fewer or more of its last ones at other rates."""
    kernels, strides, hop = [10], [5], 5
    while hop * 3 < sample_rate * 0.04:  # nearer to 20 ms with another one
        kernels.append(3 if len(kernels) < 5 else 2)
        strides.append(2)
        hop *= 2
    return kernels, strides


def samples_of(sample_rate: int, seconds: float) -> int:
    return round(seconds * sample_rate)


def _frames(init_args: dict[str, Any]) -> int:
    rate = init_args["sample_rate"]
    return samples_of(rate, init_args["seconds"]) // round(init_args["hop"] * rate)


def changed(policy: SoundPolicy, changes: dict[str, Any]) -> SoundPolicy:
    """A recipe with some fields changed.

    Raises:
        ValueError: there is no such field, or the value is of another kind than the field's.
    """
    fields = {field.name: getattr(policy, field.name) for field in dataclass_fields(policy)}
    for name, value in changes.items():
        if name not in fields:
            raise ValueError(
                f"augmentation has no field {name!r}.{did_you_mean(name, fields)} There are {', '.join(fields)}."
            )
        now = fields[name]
        many = isinstance(now, tuple)
        numbers = tuple(value) if isinstance(value, (list, tuple)) else (value,)
        fits = isinstance(value, (list, tuple)) == many and len(numbers) == (len(now) if many else 1)
        whole = many and type(now[0]) is int
        if not (fits and all(type(number) in ((int,) if whole else (int, float)) for number in numbers)):
            kind = f"{len(now)} {'whole ' * whole}numbers" if many else "a number"
            raise ValueError(
                f"augmentation.{name}={value!r} does not fit; give {kind}, such as {list(now) if many else now}."
            )
        fields[name] = numbers if many else value
    return SoundPolicy(**fields)


def difference(name: str, own: str | None, theirs: str) -> str:
    """In what the data's file of this name is another than a run's: "another tokenizer.json",
    "mels=64, not 48"; empty where both make the same views. Recordings may be cut at another
    length."""
    if name != SOUND or own is None:
        return f"another {name}" if own not in (theirs, None) else ""
    given, expected = json.loads(own), json.loads(theirs)
    return ", ".join(
        f"{key}={given.get(key)}, not {value}"
        for key, value in expected.items()
        if key not in LENGTH and given.get(key) != value
    )
