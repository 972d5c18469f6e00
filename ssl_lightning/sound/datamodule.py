"""The base of datamodules for sound: windows of recordings, as log-mels or as waves."""

from __future__ import annotations

import json
from dataclasses import fields as dataclass_fields
from functools import cached_property
from typing import Any, ClassVar, Literal

import torch
from torch import Tensor, nn

from ..augment.sound import SoundPolicy
from ..datamodule import Describes, SSLDataModule
from ..encoders.images import largest_patch
from ..files.reading import check_unreadable, report_skipped
from ..pretrained import STATISTICS
from ..registry import did_you_mean
from ..types import Strength
from .features import LogMel
from .source import Waves, within
from .statistics import Statistics, statistics_of

SMALL = 64 * 128
"""Up to so many bands times frames, the default encoder is a small stack of convolutions; above, a ResNet-18."""


class SoundDataModule(SSLDataModule):
    """A data set of recordings of any length and rate: an author defines `source`, which gives a `SoundSource`.

    A view is a window of a recording: anywhere in it, or in its middle for the test transform; a shorter recording is padded behind.
    Log-mels are normalised by mean and deviation of the data's own, from up to 512 recordings to pretrain on, found once and kept in
    `$SSL_LIGHTNING_CACHE` (default: `~/.cache/ssl_lightning`); some of these are what the strong augmentation mixes in.

    Args:
        sample_rate: in Hz, to which every recording is brought.
        seconds: of a window.
        features: `log_mel`: images [S, 1, bands, frames]; `wave`: samples [S, T], with padding marked.
        mels: bands.
        window: of a spectrum, in seconds.
        hop: from one spectrum to the next, in seconds.
        spectrogram: `plain`, or `kaldi`: with pre-emphasis, Povey's window, and triangles over the mel scale.
        statistics: mean and deviation of the log-mels, where they shall not be the data's own: those of a pretrained encoder, which are
            in `statistics.json` of its run.
        augmentation: changes to the data set's recipe, by the names of the fields of `SoundPolicy`.
        unreadable: `raise` stops at a recording that cannot be read; `skip` takes another one in its place, always the same.
        max_unreadable: the part of the recordings that may be skipped; more stop the run.
    """

    policy: ClassVar[SoundPolicy] = SoundPolicy()
    """The recipe of augmentation."""

    def __init__(
        self,
        *,
        sample_rate: int = 16_000,
        seconds: float = 1.0,
        features: Literal["log_mel", "wave"] = "log_mel",
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
            raise ValueError("cache=device keeps samples of one size; recordings are cut before they go to the device. Leave it out.")
        for name, value, known in (("features", features, ("log_mel", "wave")), ("spectrogram", spectrogram, ("plain", "kaldi"))):
            if value not in known:
                raise ValueError(f"{name}={value!r} is unknown.{did_you_mean(value, known)} Choose {' or '.join(known)}.")
        if statistics is not None and not (len(statistics) == 2 and statistics[1] > 0):
            raise ValueError(f"statistics={list(statistics)} should be a mean and a positive deviation, such as [-6.0, 3.5].")
        check_unreadable(unreadable, max_unreadable, "recordings")
        self.sample_rate, self.features, self.given_statistics = sample_rate, features, statistics
        self.unreadable, self.max_unreadable = unreadable, max_unreadable
        if spectrogram == "kaldi":
            self.mel = LogMel.kaldi(sample_rate, mels=mels, window=window, hop=hop, edges="pad")
        else:
            self.mel = LogMel(sample_rate, mels=mels, window=window, hop=hop)
        self.samples = samples_of(sample_rate, seconds)
        if self.mel.frames(self.samples) < 1:
            raise ValueError(f"seconds={seconds} is shorter than hop={hop}; give more.")
        self.recipe = changed(self.policy, augmentation or {})
        try:
            self.recipe.build("strong", self.samples, self.mel)
        except ValueError as error:
            raise ValueError(f"augmentation={augmentation} does not fit: {error}") from error

    @classmethod
    def suited_encoders(cls, init_args: dict[str, Any]) -> dict[str, dict[str, Any]]:
        """For log-mels a small stack of convolutions that keeps bands apart, or a ResNet-18 for large ones, and a small ViT with patches of up to 16 bands and 16
        frames; none for waves."""
        if init_args.get("features", "log_mel") != "log_mel":
            return {}
        try:
            size = (int(init_args["mels"]), _frames(init_args))
            patch = [largest_patch(side) for side in size]
        except (KeyError, TypeError, ValueError):  # the parser, or the constructor, says what is wrong
            return {}
        resnet = {"class_path": "timm", "init_args": {"name": "resnet18", "channels": 1}}
        conv = {"class_path": "audio_conv", "init_args": {"bands": size[0]}}
        vit = {"name": "vit_tiny_patch16_224", "channels": 1, "image_size": list(size), "patch_size": patch}
        kinds = {"Encoder": conv if size[0] * size[1] <= SMALL else resnet, "TokenEncoder": {"class_path": "vit", "init_args": vit}}
        return kinds | cls.default_encoders

    def prepare_data(self) -> None:
        """Finds the statistics, for every process to find in the cache."""
        super().prepare_data()
        if self.features == "log_mel":
            self.statistics  # noqa: B018

    @cached_property
    def statistics(self) -> Statistics:
        """Of the log-mels to pretrain on, whichever of their labels are used."""
        source = self.pretraining_source() or self.split("train")
        if source is None:
            raise ValueError(f"{type(self).__name__} has no training split.")
        found = statistics_of(source, self.mel, self.samples)
        return found if self.given_statistics is None else Statistics(*self.given_statistics, found.bank)

    def serve(self, method: Describes) -> None:
        """Builds the transforms for the views that a method asks for; probe sets of sound are normalised as this set is, since one encoder
        takes both.

        Raises:
            ValueError: this data has no such views, fewer samples than a batch, or a probe set with views of another size.
        """
        super().serve(method)
        for name, data in self.probe_sets.items():
            if not isinstance(data, SoundDataModule):
                continue
            if data._shape != self._shape:
                raise ValueError(
                    f"probe_sets.{name} has views of (features, sample_rate, bands, frames) {data._shape}, {type(self).__name__} of {self._shape}, "
                    "and one encoder takes both. Give it the same."
                )
            if self.features == "log_mel" and data.given_statistics is None:
                data.statistics = data.statistics._replace(mean=self.statistics.mean, deviation=self.statistics.deviation)

    @property
    def _shape(self) -> tuple[str, int, int, int]:
        return self.features, self.sample_rate, self.mel.mels, self.mel.frames(self.samples)

    def transform(self, strength: Strength, local_size: int | None = None) -> nn.Module:
        if self.features == "wave":
            return self.recipe.build(strength, self.samples)
        mean, deviation, bank = self.statistics
        return self.recipe.build(strength, self.samples, self.mel, (mean, deviation), bank)

    def raw_features(self, raw: Waves) -> Tensor:
        """Mean and deviation over time of each band's log-mels, padding apart: [S, 2 M]."""
        log_mels = self.mel.to(raw.x.device)(raw.x)  # [S, M, F]
        if raw.lengths is None:
            return torch.cat([log_mels.mean(2), log_mels.std(2, correction=0)], 1)
        real = within((raw.lengths // self.mel.hop).clamp(min=1), log_mels.shape[2])[:, None].to(log_mels.dtype)  # [S, 1, F]
        mean = (log_mels * real).sum(2) / real.sum(2)
        variance = ((log_mels - mean[:, :, None]).square() * real).sum(2) / real.sum(2)
        return torch.cat([mean, variance.sqrt()], 1)

    def as_pictures(self, x: Tensor) -> Tensor:
        """Log-mels [S, 1, M, F] as one would look at them: low bands at the bottom, three deviations around the mean in [0, 1]."""
        return (x.float().flip(2) / 6 + 0.5).clamp(0, 1)

    def artifacts(self) -> dict[str, str]:
        """Mean and deviation of the log-mels that the encoder was trained on."""
        return {STATISTICS: json.dumps(self._normalisation)} if self.features == "log_mel" else {}

    def teardown(self, stage: str) -> None:
        """Says which recordings were skipped, those of probe sets among them, and lists them in the run folder."""
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
                f"The checkpoint was trained on log-mels with mean and deviation {theirs}, this data has {self._normalisation}: recordings "
                f"have changed. To go on regardless, give those of the run: --data.statistics '{theirs}'."
            )
        super().load_state_dict(state_dict)

    def _order(self) -> dict[str, Any]:
        return {**super()._order(), **({"statistics": self._normalisation} if self.features == "log_mel" else {})}

    @property
    def _normalisation(self) -> list[float]:
        return [float(value) for value in self.statistics[:2]]


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
            raise ValueError(f"augmentation has no field {name!r}.{did_you_mean(name, fields)} There are {', '.join(fields)}.")
        now = fields[name]
        many = isinstance(now, tuple)
        numbers = tuple(value) if isinstance(value, (list, tuple)) else (value,)
        fits = isinstance(value, (list, tuple)) == many and len(numbers) == (len(now) if many else 1)
        whole = many and type(now[0]) is int
        if not (fits and all(type(number) in ((int,) if whole else (int, float)) for number in numbers)):
            kind = f"{len(now)} {'whole ' * whole}numbers" if many else "a number"
            raise ValueError(f"augmentation.{name}={value!r} does not fit; give {kind}, such as {list(now) if many else now}.")
        fields[name] = numbers if many else value
    return SoundPolicy(**fields)
